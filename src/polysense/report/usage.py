"""How to use what a run has led to: the Python and the command for a file of one's own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

from polysense.hub.quick_start import instruction
from polysense.models.processor import argument_of
from polysense.report.retention import final_stage
from polysense.report.run import Run, StageResults

_EMBEDDING = "Three lines embed a file of your own; the cosine of two embeddings says how well they match."
_USAGE = {"mera": "Three lines ask about a file of your own; on the command line, polysense chat does.",
          "comet": "Two lines give the codes of a file of your own, second by second; on the command line, polysense "
                   "codes does."}  # fmt: skip


def usage(run: Run) -> str:
    """A sentence about what the snippet does."""
    return _USAGE.get(run.system, _EMBEDDING)


def snippet(run: Run) -> str:
    """The Python that uses the last stage of a run on a user's file: asks about it (MERA), reads its codes
    (COMET), or embeds it."""
    last = final_stage(run)
    place = _quoted(stage_place(run, last))
    if run.system == "mera":
        return _asking(place, last.trained[-1], instruction(last.record, last.trained[-1]))
    if run.system == "comet":
        modality = [*last.trained, *(sense for sense in last.trained if sense != "text")][-1]
        return (
            "from polysense.recipes.comet_codes import CometReader\n"
            f'codes = CometReader.from_pretrained({place}).timeline("{modality}", "your-file")'
        )
    modality = [*last.record.get("modalities", ["image"])][-1]
    argument = argument_of(modality)
    return (
        "import polysense, transformers\n"
        f"model, processor = (auto.from_pretrained({place}) "
        "for auto in (transformers.AutoModel, transformers.AutoProcessor))\n"
        f'embedding = model.embed("{modality}", processor({argument}=["your-file"]))'
    )


def chat_line(run: Run, file: str | Path, question: str) -> str:
    """The command that asks a run's last stage about a file."""
    words = ["polysense", "chat", stage_place(run, final_stage(run)), Path(file).as_posix(), "--ask", question]
    return shlex.join(words)


def codes_line(run: Run, *files: str | Path) -> str:
    """The command that shows files' codes by a run's last stage."""
    names = [Path(file).as_posix() for file in files]
    return shlex.join(["polysense", "codes", *names, "--model", stage_place(run, final_stage(run))])


def stage_place(run: Run, stage: StageResults) -> str:
    """The folder of a stage, as a user would write it."""
    return (run.folder / "stages" / stage.folder).as_posix()


def _asking(place: str, modality: str, prompt: str) -> str:
    question = _quoted(f"\n{prompt}")
    chat = f'[{{"role": "user", "content": [{{"type": "{modality}", "path": "your-file"}}, {question}]}}]'
    return (
        "import polysense, transformers\n"
        f"model, processor = (auto.from_pretrained({place}) "
        "for auto in (transformers.AutoModelForImageTextToText, transformers.AutoProcessor))\n"
        f"inputs = processor.apply_chat_template({chat}, add_generation_prompt=True, tokenize=True, "
        "return_dict=True)\n"
        'print(processor.decode(model.generate(**inputs, max_new_tokens=32)[0, inputs["input_ids"].shape[1]:], '
        "skip_special_tokens=True))"
    )


def _quoted(text: str) -> str:
    """A text as it stands in Python."""
    return json.dumps(text, ensure_ascii=False)
