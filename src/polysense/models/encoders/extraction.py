"""Frozen encoders as extractors of feature sequences: one file or text in, its steps out."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Protocol, cast, runtime_checkable

import torch
from jaxtyping import Float
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor
from tqdm.auto import tqdm
from transformers import PreTrainedModel, PreTrainedTokenizerBase

from polysense.errors import CheckpointError, ConfigError, MediaError
from polysense.modality import JsonValue
from polysense.models.base import model_key, weights_digest
from polysense.nn.whitening import Whitening
from polysense.processing import Fit, ModalityProcessor, SequenceProcessor, fit_steps, read_text
from polysense.storage import digest

Steps = Float[Tensor, "time ..."]

_WHITENING = "whitening.safetensors"
_ENDLESS = 1 << 30  # tokens
LONGEST = 60
"""Most sequences that a file is read as, end to end."""


@runtime_checkable
class SequenceExtractor(Protocol):
    """Turns one file, array or text into the real steps of its sequence, `time dim` or `time height width dim`."""

    @property
    def fit(self) -> Fit:
        """How what it reads is brought to the sequence's number of steps."""

    @property
    def key(self) -> dict[str, JsonValue]:
        """All that a sequence depends on beside the sample; equal keys mean equal sequences."""

    def __call__(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """The sequence; `MediaError` where the source cannot be used."""

    def whole(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """All steps of the source, as many as it has (of a film or a sound, those of `LONGEST` sequences at most)."""

    def assumed(self, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """What stands in for facts that a source lacks although its steps depend on them."""


def extractor_digest(extractor: SequenceExtractor) -> str:
    """SHA-256 of an extractor's key."""
    return digest(json.dumps(extractor.key, sort_keys=True, default=str).encode())


@dataclass(frozen=True, kw_only=True)
class EncoderExtractor:
    """Tokens of a `ModalityEncoder`, sample by sample, so that they depend on nothing else.

    Attributes:
        encoder: in eval mode; also a `PreTrainedModel`.
        part: the processor of the sense, whose windows or frames are the steps.
        steps: of every sequence.
        fit: see `fit_steps`; "repeat" makes a sequence of a still.
        raster: keep height and width where tokens have them; without it, they are averaged.
    """

    encoder: Any
    part: ModalityProcessor
    steps: int
    fit: Fit = "repeat"
    raster: bool = True

    @cached_property
    def _model(self) -> dict[str, JsonValue]:
        return model_key(self.encoder)

    @property
    def key(self) -> dict[str, JsonValue]:
        how = {"steps": self.steps, "fit": self.fit, "raster": self.raster}
        return {**self._model, **how, "processor": self.part.to_dict()}

    def __call__(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: MediaError, FeatureShapeError."""
        return fit_steps(self._steps(self.part, source, facts), self.steps, self.fit)

    def whole(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: MediaError, FeatureShapeError."""
        windows = getattr(self.part, "windows", 1)  # a single one is spread over the whole
        part = (
            self.part if windows == 1 else self.part.from_dict({**self.part.to_dict(), "windows": windows * LONGEST})
        )
        return self._steps(part, source, facts)

    def assumed(self, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """What the processor assumes."""
        return self.part.assumed(facts)

    @torch.no_grad()
    def _steps(self, part: ModalityProcessor, source: Any, facts: Mapping[str, JsonValue] | None) -> Steps:
        values = part([source], facts=[facts])[part.spec.values_key]
        encoded = self.encoder.encode_tokens(part.modality, values.to(self.encoder.device))
        _, height, width = encoded.grid
        tokens = encoded.tokens[0]
        if self.raster and height > 1 and width > 1:
            steps = tokens.unflatten(1, (height, width))
        else:
            steps = tokens.mean(dim=1)
        return cast(Tensor, steps.float().cpu())


@dataclass(frozen=True, kw_only=True)
class TextExtractor:
    """Hidden states of a language model: of a sentence one step per token, of a narration one per phrase.

    Attributes:
        model: any of transformers' with `last_hidden_state`, in eval mode.
        tokenizer: its tokenizer; tokens that it adds are no steps.
        steps: most steps of a sequence.
        fit: see `fit_steps`; "cut" keeps the first words.
    """

    model: PreTrainedModel
    tokenizer: PreTrainedTokenizerBase
    steps: int
    fit: Fit = "cut"

    @cached_property
    def _model(self) -> dict[str, JsonValue]:
        vocabulary = json.dumps(self.tokenizer.get_vocab(), sort_keys=True)
        return {**model_key(self.model), "vocabulary": digest(vocabulary.encode())}

    @property
    def key(self) -> dict[str, JsonValue]:
        return {**self._model, "steps": self.steps, "fit": self.fit}

    def __call__(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """The first steps of a text; see `whole`."""
        return fit_steps(self.whole(source, facts), self.steps, self.fit)

    @torch.no_grad()
    def whole(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """All steps of a text.

        Args:
            source: phrases; one is a sentence, several are a narration.
            facts: not used.

        Raises:
            MediaError: a phrase without a word, or that is no text.
        """
        told = [self._words(read_text(phrase)) for phrase in source]
        return told[0] if len(told) == 1 else torch.stack([words.mean(dim=0) for words in told])

    def assumed(self, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """Nothing: words say all."""
        return {}

    def _words(self, phrase: str) -> Float[Tensor, "tokens dim"]:
        # a RoBERTa has two positions more than it takes tokens, which its tokenizer alone knows
        longest = min(getattr(self.model.config, "max_position_embeddings", _ENDLESS), self.tokenizer.model_max_length)
        inputs = self.tokenizer(phrase, return_special_tokens_mask=True, truncation=longest < _ENDLESS,
                                max_length=longest)  # fmt: skip
        words = [place for place, special in enumerate(inputs["special_tokens_mask"]) if not special]
        if not words:
            raise MediaError("is a text without words", where=f"text {phrase[:40]!r}", fix="Leave it out.")
        ids = torch.tensor([inputs["input_ids"]], device=self.model.device)
        hidden = self.model(input_ids=ids, attention_mask=torch.ones_like(ids)).last_hidden_state[0]
        return cast(Tensor, hidden[words].float().cpu())


@dataclass(frozen=True, kw_only=True)
class StoredExtractor:
    """Sequences that were computed elsewhere, brought to a fixed number of steps.

    Attributes:
        part: reads them.
        steps: of every sequence.
        fit: see `fit_steps`.
    """

    part: SequenceProcessor
    steps: int
    fit: Fit = "repeat"

    @property
    def key(self) -> dict[str, JsonValue]:
        return {"processor": self.part.to_dict(), "steps": self.steps, "fit": self.fit}

    def __call__(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: MediaError."""
        return fit_steps(self.whole(source, facts), self.steps, self.fit)

    def whole(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: MediaError."""
        return self.part.features(self.part.load(source, facts))

    def assumed(self, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """What the processor assumes."""
        return self.part.assumed(facts)


@dataclass(frozen=True, kw_only=True)
class WhitenedExtractor:
    """Another extractor's sequences, whitened; the cells of a map as the mean of their step would be.

    Attributes:
        extractor: makes the sequences.
        whitening: of what the extractor's net learned from (`fit_whitening`).
    """

    extractor: SequenceExtractor
    whitening: Whitening

    @property
    def fit(self) -> Fit:
        """That of the extractor."""
        return self.extractor.fit

    @property
    def key(self) -> dict[str, JsonValue]:
        state = {"mean": self.whitening.mean, "matrix": self.whitening.matrix}
        return {**self.extractor.key, "whitening": weights_digest(state)}

    def __call__(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: see the extractor; FeatureShapeError."""
        return self.whitening(self.extractor(source, facts))

    def whole(self, source: Any, facts: Mapping[str, JsonValue] | None = None) -> Steps:
        """Raises: see the extractor; FeatureShapeError."""
        return self.whitening(self.extractor.whole(source, facts))

    def assumed(self, facts: Mapping[str, JsonValue]) -> Mapping[str, JsonValue]:
        """What the extractor assumes."""
        return self.extractor.assumed(facts)


def fit_whitening(extractor: SequenceExtractor, sources: Iterable[tuple[Any, Any]], floor: float) -> Whitening:
    """The whitening of what an extractor without maps makes of files or texts (source, facts); unusable ones are left
    out.

    Raises:
        FeatureShapeError: they are all the same.
        MediaError: none can be used.
    """
    vectors, problem = [], None
    for source, facts in tqdm(sources, desc="whitening", delay=2, leave=False):
        try:
            vectors.append(extractor(source, facts))
        except MediaError as error:
            problem = error
    if not vectors:
        raise problem or MediaError("are no files to fit a whitening to", where="whitening", fix="Give some.")
    return Whitening.of(torch.cat(vectors), floor)


def save_whitening(whitening: Whitening, folder: Path) -> None:
    """Write it beside its net."""
    save_file({"mean": whitening.mean, "matrix": whitening.matrix.contiguous()}, folder / _WHITENING)


def read_whitening(folder: Path) -> Whitening:
    """The whitening that lies beside a net.

    Raises:
        ConfigError: there is none.
        CheckpointError: it is damaged.
    """
    path = folder / _WHITENING
    if not path.is_file():
        raise ConfigError("the net has no whitening beside it", where=folder,
                          fix="Train it with features.yaml, or do without whiten.")  # fmt: skip
    try:
        state = load_file(path)
        return Whitening(state["mean"], state["matrix"])
    except (OSError, SafetensorError, KeyError) as error:
        raise CheckpointError(f"cannot be read ({error})", where=path, fix="Train the net again.") from error


__all__ = [
    "LONGEST",
    "EncoderExtractor",
    "SequenceExtractor",
    "StoredExtractor",
    "TextExtractor",
    "WhitenedExtractor",
    "extractor_digest",
    "fit_whitening",
    "read_whitening",
    "save_whitening",
]
