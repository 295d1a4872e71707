"""The processor of MERA: prompts with placeholders, and the items of any sense that they stand for."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Self

from jinja2 import TemplateError
from torch import Tensor
from transformers import AutoProcessor, BatchFeature, CLIPImageProcessorPil, LlavaProcessor

from polysense.errors import ConfigError
from polysense.modality import JsonValue
from polysense.models.base import local_folder
from polysense.models.mera.chat import (
    DEFAULT_TEMPLATE,
    Conversation,
    Expansion,
    Message,
    Parts,
    answer_pieces,
    checked_counts,
    in_order,
    joined,
    misplaced,
    take_apart,
)
from polysense.models.mera.inputs import IGNORED
from polysense.models.mera.layout import TokenLayout
from polysense.models.mera.prompting import PlaceholderProcessor, Side
from polysense.models.mera.tokens import pad_token_id


class MeraProcessor(PlaceholderProcessor):
    """Prompts with the pictures, sounds, clips ... that they speak of, to the inputs of MERA.

    A prompt holds one placeholder, such as `<image>`, per item; it is repeated once per feature token, whose number
    follows from the item itself. A tokenizer without a padding token is given a reserved one, and placeholders that it
    does not know are added to it.

    Args:
        image_processor: CLIP's; its size, mean and standard deviation hold for images and frames.
        tokenizer: the language model's.
        senses: name to the options of that sense's processor, its placeholder among them; see `add_modality`.
        chat_template: the tokenizer's own by default, or Llama 3's.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        senses: Mapping[str, Mapping[str, JsonValue]] | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.senses = {name: dict(options) for name, options in (senses or {}).items()}
        template = chat_template or tokenizer.chat_template or DEFAULT_TEMPLATE
        super().__init__(image_processor, tokenizer, chat_template=template)
        if tokenizer.pad_token_id is None:
            tokenizer.pad_token = tokenizer.convert_ids_to_tokens(pad_token_id(tokenizer))
        for name in self.senses:
            self.layout(name)
            self._claim(self.token(name))

    # ---- construction -------------------------------------------------------------------------------------------

    @classmethod
    def from_model(
        cls, model: Any, tokenizer: Any, image_processor: Any = None,
        options: Mapping[str, Mapping[str, JsonValue]] | None = None, sizes: Mapping[str, int] | None = None,
    ) -> Self:  # fmt: skip
        """The processor of a model: its senses, with its placeholders and layouts.

        Args:
            model: a `MeraForConditionalGeneration`.
            tokenizer: its language model's.
            image_processor: its vision tower's; CLIP's defaults if `None`.
            options: sense to options of its processor.
            sizes: sense to the side of its encoder's pictures, where it is not the image processor's.

        Raises:
            UnregisteredModalityError: a sense that this process does not know.
            ConfigError: the tokenizer has a placeholder under another id than the model.
        """
        senses = sorted(model.config.senses.items(), key=lambda item: item[1].token_id)  # new tokens get rising ids
        vocabulary, added = tokenizer.get_vocab(), 0
        for name, sense in senses:
            known = vocabulary.get(sense.token, len(tokenizer) + added)
            added += sense.token not in vocabulary
            if known != sense.token_id:
                raise ConfigError(
                    f"the tokenizer's {sense.token} is {known}, the model's is {sense.token_id}", where=name,
                    fix="Give the model's add_modality the tokenizer, or the placeholder's token_id.",
                )  # fmt: skip
        processor = cls(image_processor or CLIPImageProcessorPil(), tokenizer)
        for name, sense in senses:
            processor.add_modality(
                sense.modality, model.token_layout(name), token=sense.token, size=(sizes or {}).get(name),
                **(options or {}).get(name, {}),
            )  # fmt: skip
        return processor

    @classmethod
    def from_llava(cls, llava: str | Path | LlavaProcessor) -> Self:
        """The processor of a Hugging Face LLaVA, with the same inputs for the same prompts and pictures.

        Raises:
            ConfigError: pictures that are not resized and cropped as CLIP's are, or no patch size.
        """
        old: Any = (
            llava if isinstance(llava, LlavaProcessor) else AutoProcessor.from_pretrained(local_folder(llava, {}))
        )
        pictures = old.image_processor
        if not (getattr(pictures, "do_center_crop", False) and pictures.do_resize and pictures.do_normalize):
            raise ConfigError("this LLaVA does not prepare pictures as CLIP does", where="image_processor",
                              fix="Build the processor with from_model.")  # fmt: skip
        if not isinstance(old.patch_size, int):
            raise ConfigError("the processor does not know the patch size", where="processor_config.json: patch_size",
                              fix="Set it, or build the processor with from_model.")  # fmt: skip
        height, width = (pictures.crop_size[side] // old.patch_size for side in ("height", "width"))
        count = height * width + old.num_additional_image_tokens - (old.vision_feature_select_strategy == "default")
        processor = cls(pictures, old.tokenizer, chat_template=old.chat_template)
        processor.add_modality("image", TokenLayout(per_step=count), token=old.image_token)
        return processor

    # ---- prompts ------------------------------------------------------------------------------------------------

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        audio: Any = None,
        *,
        facts: Mapping[str, Mapping[str, JsonValue] | Sequence[Mapping[str, JsonValue]]] | None = None,
        counts: Mapping[str, Iterable[int]] | None = None,
        padding_side: Side = "left",
        add_special_tokens: bool | None = None,
        **senses: Any,
    ) -> BatchFeature:
        """Inputs of the model for a batch of prompts.

        Args:
            text: prompts with placeholders; without them only features are made.
            images, videos, audio, **senses: the items that the placeholders stand for, in order: a list of items over
                all prompts, or a list of items for every prompt. An item is a path, a file, bytes, an array.
            facts: sense to what is known of each of its items, over all prompts in order, such as
                `{"depth": [{"focal": 525, "baseline": 0.075}]}`; of a single item, without the list.
            counts: instead of items: sense to the feature tokens of each of them, over all prompts in order, for
                senses whose features come from elsewhere, such as a cache.
            padding_side: "left" to generate, "right" to train.
            add_special_tokens: let the tokenizer begin (and end) texts as it does; by default those that do not begin
                with its beginning token already.

        Returns:
            `input_ids`, `attention_mask`, `pixel_values`, `{sense}_values` and, where lengths differ, `{sense}_mask`.

        Raises:
            FeatureShapeError: placeholders and items do not agree; the message names sample and sense.
            ConfigError: a sense under two names (`images` and `image`), facts of one that is not given, counts that
                are none, an unknown side, half a surrogate pair in a text, or a tokenizer's option other than
                `padding=True` and `return_tensors="pt"`, which is done in any case.
            UnknownModalityError, UnregisteredModalityError, MediaError: see `part` and `features`.
        """
        sources = self._sources({"images": images, "videos": videos, "audio": audio, **senses}, cuts=False)
        texts, elsewhere = _texts(text), checked_counts(counts, self.senses)
        features, found = self._features(self._ordered(sources, texts), self._facts(facts or {}, sources))
        if text is None:
            return BatchFeature(features)
        rows = self._begun(self.expand(texts, found | elsewhere), add_special_tokens)
        return BatchFeature({**self._padded(rows, padding_side), **features})

    def apply_chat_template(
        self,
        conversation: Conversation | Sequence[Conversation],
        chat_template: str | None = None,
        *,
        add_generation_prompt: bool = False,
        continue_final_message: bool = False,
        tokenize: bool = False,
        return_dict: bool = False,
        **options: Any,
    ) -> Any:
        """A conversation (or several) as prompts, or as the inputs of the model.

        Args:
            conversation: messages whose contents are texts or parts, of every sense that the processor has:
                `{"type": "audio", "path": "a.flac"}` or `{"type": "audio", "audio": array}`.
            add_generation_prompt: end with what begins an answer.
            continue_final_message: end with the last message, open to be continued, whatever else is asked for.
            tokenize: return `input_ids`; with `return_dict` all inputs, features included.
            options: further arguments of `__call__` where there are any.

        Raises:
            UnknownModalityError: a part of a sense that the processor lacks.
            FeatureShapeError: a text holds a placeholder itself, or the template leaves parts out.
            ConfigError: the template is none, refuses such a conversation, or does what it may not.
        """
        batched = bool(conversation) and not isinstance(conversation[0], Mapping)
        template, parts = self._taken_apart(conversation if batched else [conversation], chat_template)
        ends = {"continues": True} if continue_final_message else {"prompt": add_generation_prompt}
        texts = [self._rendered(template, each.messages, **ends) for each in parts]
        self._check_places(texts, parts)
        if not tokenize:
            return texts if batched else texts[0]
        found, facts = joined(parts)
        sources: dict[str, Any] = {**found}
        out = self(text=texts, facts=facts, **sources, **options.pop("processor_kwargs", {}), **options)
        return out if return_dict else out["input_ids"]

    def training_inputs(
        self,
        conversations: Sequence[Conversation],
        *,
        counts: Mapping[str, Iterable[int]] | None = None,
        padding_side: Side = "right",
    ) -> BatchFeature:
        """Inputs and labels of answered conversations: the assistant's answers, with the tokens that end them.

        An answer that the chat template does not end, as LLaVA's does not, ends with the tokenizer's end token.

        Args:
            conversations: see `apply_chat_template`; each with at least one answer.
            counts: instead of sources in the parts: sense to the feature tokens of each of its items, in order, for
                senses whose features come from elsewhere, such as a cache.

        Returns:
            As `__call__`, and `labels`, -100 on prompts, placeholders and padding.

        Raises:
            ConfigError: no answer, counts that are none, an unknown side, or a chat template that does not continue
                its own prompts.
            FeatureShapeError: placeholders and items do not agree; the message names sample and sense.
        """
        if not conversations:
            raise ConfigError("a batch has no conversations", where="conversations", fix="Give at least one.")
        elsewhere = checked_counts(counts, self.senses)
        template, parts = self._taken_apart(conversations, None)
        pieces = [
            self._ended(answer_pieces(partial(self._rendered, template), each.messages, where=f"sample {index}"))
            for index, each in enumerate(parts)
        ]
        self._check_places(["".join(text for text, _ in each) for each in pieces], parts)
        sources, facts = joined(parts)
        features, found = self._features({n: each for n, each in sources.items() if n not in elsewhere}, facts)
        expansion = Expansion(self._placeholders, found | elsewhere)
        rows = self._labelled(pieces, expansion)
        expansion.finish(len(rows))
        inputs = self._padded([ids for ids, _ in rows], padding_side)
        labels = self._padded([labels for _, labels in rows], padding_side)["input_ids"]
        inputs["labels"] = labels.masked_fill(inputs["attention_mask"] == 0, IGNORED)
        return BatchFeature({**inputs, **features})

    # ---- steps --------------------------------------------------------------------------------------------------

    def _ordered(self, sources: Mapping[str, Any], texts: Sequence[str]) -> dict[str, list[Any]]:
        """Items of every sense over all prompts."""
        places = [Expansion(self._placeholders, {}).places(text) for text in texts]
        ordered = {}
        for name, items in sources.items():
            lists = self.part(name).kind == "frames"
            ordered[name] = in_order(name, items, [place[name] for place in places] if texts else None, lists=lists)
        return ordered

    def _features(
        self, sources: Mapping[str, list[Any]], facts: Mapping[str, Sequence[Mapping[str, JsonValue]]] | None
    ) -> tuple[dict[str, Tensor], dict[str, list[int]]]:
        """Features of all senses, and feature tokens of every item."""
        features: dict[str, Tensor] = {}
        counts: dict[str, list[int]] = {}
        for name, items in sources.items():
            if items:
                own = self.features(name, items, facts=(facts or {}).get(name))
                features, counts[name] = features | own, self.counts(name, own)
        return features, counts

    def _taken_apart(self, conversations: Sequence[Any], chat_template: str | None) -> tuple[str, list[Parts]]:
        template = self._template(chat_template)
        parts = [
            take_apart(each, self._placeholders, template, where=f"sample {index}")
            for index, each in enumerate(conversations)
        ]
        return template, parts

    def _template(self, name: str | None) -> str:
        """The template itself, from a name among the processor's own, or as it was given."""
        own: Any = self.chat_template
        known = own if isinstance(own, Mapping) else {"default": own}
        template = known.get("default") if name is None else known.get(name, name)
        if not isinstance(template, str):
            raise ConfigError(f"none of the chat templates {sorted(known)} is the default", where="chat_template",
                              fix="Name one of them.")  # fmt: skip
        return template

    def _rendered(
        self, template: str, messages: Sequence[Message], prompt: bool = False, *, continues: bool = False
    ) -> str:
        try:
            return str(super().apply_chat_template(
                list(messages), template, add_generation_prompt=prompt, continue_final_message=continues
            ))  # fmt: skip
        except (TemplateError, TypeError, ValueError, LookupError, ArithmeticError) as error:
            raise ConfigError(f"the chat template refuses the conversation ({type(error).__name__}: {error})",
                              where="chat_template", fix="Ask as it wants, or use another.") from error  # fmt: skip

    def _check_places(self, texts: Sequence[str], parts: Sequence[Parts]) -> None:
        """Refuse texts that hold other placeholders than those of their parts."""
        expansion = Expansion(self._placeholders, {})
        for sample, (text, each) in enumerate(zip(texts, parts, strict=True)):
            for name, found in expansion.places(text).items():
                if found != (wanted := len(each.sources.get(name, ()))):
                    raise misplaced(name, sample, f"the prompt has {found} placeholders for {wanted} parts")

    def _ids(self, texts: Sequence[str], add_special_tokens: bool) -> list[list[int]]:
        try:
            "".join(texts).encode()
        except UnicodeEncodeError as error:
            around = error.object[max(0, error.start - 20) : error.end + 20]
            raise ConfigError(f"the text around {around!r} is no Unicode", where="text",
                              fix="Decode it by the encoding that it has.") from error  # fmt: skip
        return list(self.tokenizer(list(texts), add_special_tokens=add_special_tokens)["input_ids"]) if texts else []

    def _begun(self, texts: Sequence[str], special: bool | None = None) -> list[list[int]]:
        """Token ids of texts; if `None`, each has the tokenizer's special tokens unless it brings the first along."""
        begun = self.tokenizer.bos_token or "\0"
        kinds = [not each.startswith(begun) if special is None else special for each in texts]
        rows = {kind: iter(self._ids([each for each, own in zip(texts, kinds, strict=True) if own is kind], kind))
                for kind in (True, False)}  # fmt: skip
        return [next(rows[kind]) for kind in kinds]

    def _ended(self, pieces: Sequence[tuple[str, bool]]) -> list[tuple[str, bool]]:
        """Pieces whose answers have an end: LLaVA's template writes none, and what learns so never stops."""
        end = self.tokenizer.eos_token
        if end is None or all(end in text for text, is_answer in pieces if is_answer):
            return list(pieces)
        marks, known = self._placeholders.values(), self.tokenizer.added_tokens_decoder.values()
        ends = [str(each) for each in known if each.special and str(each) not in marks]
        open_ended = [is_answer and not any(each in text for each in ends) for text, is_answer in pieces]
        return [(text.rstrip() + end if lacking else text, is_answer)
                for (text, is_answer), lacking in zip(pieces, open_ended, strict=True)]  # fmt: skip

    def _following(self, heads: Sequence[str], texts: Sequence[str]) -> list[list[int]]:
        """Token ids of texts behind others: some tokenizers begin every text as if a space came before it."""
        alone, (whole, first, second) = self._ids(texts, False), self._ids(["a a", "a", " a"], False)
        if whole == first + second:
            return alone
        before = self._ids(heads, False)
        joined = self._ids([head + text for head, text in zip(heads, texts, strict=True)], False)
        return [both[len(head) :] if both[: len(head)] == head else own
                for own, head, both in zip(alone, before, joined, strict=True)]  # fmt: skip

    def _labelled(
        self, conversations: Sequence[Sequence[tuple[str, bool]]], expansion: Expansion
    ) -> list[tuple[list[int], list[int]]]:
        """Token ids of every conversation and their labels; its first piece has the special tokens of a text."""
        texts = [[expansion(text, sample=index) for text, _ in each] for index, each in enumerate(conversations)]
        first = iter(self._begun([each[0] for each in texts]))
        heads, rests = [text for each in texts for text in each[:-1]], [text for each in texts for text in each[1:]]
        others = iter(self._following(heads, rests))
        marks, end, rows = {self.token_id(name) for name in self.senses}, self.tokenizer.eos_token_id, []
        for pieces in conversations:
            ids: list[int] = []
            labels: list[int] = []
            for index, (_, is_answer) in enumerate(pieces):
                part = next(others if index else first)
                ends = [place + 1 for place, each in enumerate(part) if each == end]
                learned = (ends[-1] if ends else len(part)) if is_answer else 0
                labels += [
                    each if place < learned and each not in marks else IGNORED for place, each in enumerate(part)
                ]
                ids += part
            rows.append((ids, labels))
        return rows


def _texts(given: Any) -> list[str]:
    """Prompts as a list; none at all where only features are wanted."""
    texts = [given] if isinstance(given, str) else [] if given is None else given
    if not isinstance(texts, Sequence) or any(not isinstance(each, str) for each in texts):
        raise ConfigError(f"{given!r} is neither a text nor a list of texts", where="text", fix="Give prompts.")
    if given is not None and not texts:
        raise ConfigError("a batch has no prompts", where="text", fix="Give at least one.")
    return list(texts)


__all__ = ["MeraProcessor"]
