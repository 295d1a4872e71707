"""The code of a model card's quick start, which runs as it stands where there is a file of the name that it gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from polysense.data.conversations import INSTRUCTIONS
from polysense.models.processor import argument_of

_EXAMPLES = {"image": "photo.jpg", "text": "a red cube", "video": "clip.mp4", "audio": "sound.flac",
             "speech": "speech.flac", "depth": "depth.png", "point_cloud": "cloud.ply"}  # fmt: skip
_FEATURES = "features.npy"  # computed elsewhere, as those that the stage learned from
_FACTS = {"depth": '{"focal": 525, "baseline": 0.075}  # of its camera: pixels, metres'}
_TOKENS = 32  # of an answer

_HERE = 'from_pretrained(".")'

Stage = Mapping[str, Any]


def quick_start(stage: Stage) -> str:
    """Python that loads a stage and uses it on a file of the sense that it trained last; it runs in its folder."""
    return _CODE.get(stage["system"], _embedding)(stage)


def published(text: str, repository: str, revision: str) -> str:
    """A card whose quick start loads from the Hub in place of its own folder."""
    return text.replace(_HERE, f'from_pretrained("{repository}", revision="{revision}")')


def outcome(stage: Stage) -> str:
    """A sentence about what that code gives."""
    return _OUTCOMES.get(stage["system"], _VECTORS)


def instruction(stage: Stage, modality: str) -> str:
    """What a MERA stage was asked for a caption of a sense when it was tested."""
    chosen = dict(stage.get("hyperparameters") or {}).get("conversations") or {}
    return str(((chosen.get("pools") or {}).get(modality) or chosen.get("instructions") or INSTRUCTIONS)[0])


def _embedding(stage: Stage) -> str:
    modality = [*stage["modalities"], *stage["trained"]][-1]
    argument = argument_of(modality)
    given = f'{argument}=["{_example(modality)}"]' + (f', facts={{"{modality}": facts}}' if modality in _FACTS else "")
    return f"""\
import polysense
from transformers import AutoModel, AutoProcessor

model = AutoModel.{_HERE}
processor = AutoProcessor.{_HERE}
{_known(modality)}embedding = model.embed("{modality}", processor({given}))"""


def _answer(stage: Stage) -> str:
    modality = [*(sense for sense in stage["modalities"] if sense != "text"), *stage["trained"]][-1]
    question = json.dumps(f"\n{instruction(stage, modality)}", ensure_ascii=False)
    part = f'{{"type": "{modality}", "path": "{_example(modality)}"' + ', "facts": facts' * (modality in _FACTS) + "}"
    return f"""\
import polysense
from transformers import AutoModelForImageTextToText, AutoProcessor

model = AutoModelForImageTextToText.{_HERE}
processor = AutoProcessor.{_HERE}
{_known(modality)}content = [{part}, {question}]
chat = [{{"role": "user", "content": content}}]
inputs = processor.apply_chat_template(chat, add_generation_prompt=True, tokenize=True, return_dict=True)
output = model.generate(**inputs, max_new_tokens={_TOKENS}, do_sample=False)
answer = processor.decode(output[0, inputs["input_ids"].shape[1] :], skip_special_tokens=True)"""


def _codes(stage: Stage) -> str:
    modality = [*stage["modalities"], *(sense for sense in stage["trained"] if sense != "text")][-1]
    if modality in stage["hyperparameters"].get("stored", ()):
        known, given = "", f'"{_FEATURES}"'
    else:
        known, given = _known(modality), f'"{_example(modality)}"' + ", facts" * (modality in _FACTS)
    return f"""\
from polysense.recipes.comet_codes import CometReader

reader = CometReader.{_HERE}
{known}codes = reader.timeline("{modality}", {given})"""


def _known(modality: str) -> str:
    """The line that says what a file of the sense does not say of itself, if there is any such thing."""
    return f"facts = {_FACTS[modality]}\n" if modality in _FACTS else ""


def _example(modality: str) -> str:
    return _EXAMPLES.get(modality, f"your-{modality}-file")


_CODE: Mapping[str, Callable[[Stage], str]] = {"mera": _answer, "comet": _codes}
_VECTORS = (
    "Each row of `embedding` is a unit vector; the cosine of two of them, of whatever senses, says how well they "
    "match."
)
_OUTCOMES = {
    "mera": "`answer` is what the model says about the file. A prompt may show several files, of different senses "
    "too; `polysense chat` holds a conversation about them.",
    "comet": "`codes` has the number of one code for every second of the file (a picture has one, a text one for "
    "every word or span of words). The same number means the same in every sense: what is learned from the codes of "
    "one sense works on another. `polysense codes` shows them.",
}


__all__ = ["instruction", "outcome", "published", "quick_start"]
