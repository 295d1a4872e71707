"""What the processors of all systems share: a picture processor, a tokenizer, and senses as JSON-able options."""

from __future__ import annotations

import types
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import numpy as np
from torch import Tensor
from transformers import ProcessorMixin

from polysense.errors import ConfigError, UnknownModalityError
from polysense.modality import JsonValue, Modality, get_modality
from polysense.models.base import reading
from polysense.processing import ModalityProcessor, processor_for
from polysense.safety import check_config_files, check_links

_SENSES = {"images": "image", "videos": "video"}  # transformers' own names; every other sense goes by its own
_ARGUMENTS = {sense: argument for argument, sense in _SENSES.items()}

# what callers of transformers ask for by habit, and the values that are what happens in any case
_HABITS: Mapping[str, tuple[Any, ...]] = types.MappingProxyType(
    {"return_tensors": ("pt",), "padding": (True, "longest"), "truncation": (True, "longest_first"), "max_length": ()}
)


def sense_of(argument: str) -> str:
    """The sense whose sources a keyword argument of a processor holds."""
    return _SENSES.get(argument, argument)


def argument_of(sense: str) -> str:
    """The keyword argument of a processor that holds a sense's sources."""
    return _ARGUMENTS.get(sense, sense)


_SAVED = "Use a folder that save_pretrained of this processor wrote, with the tokenizer's files."


class SensesProcessor(ProcessorMixin):
    """Base of our processors; a subclass has a constructor of its own, whose argument names transformers reads.

    All senses live in one dictionary of options, since transformers cannot reload further sub-processors of a
    library's own. They are rebuilt through the registry of this process only when they are used: a sense that is not
    registered here keeps its options, and raises `UnregisteredModalityError` when asked to process.
    """

    image_processor: Any
    tokenizer: Any
    senses: dict[str, dict[str, JsonValue]]

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses, in order of addition (of name, once reloaded)."""
        return tuple(self.senses)

    @property
    def size(self) -> int:
        """Side of the pictures that the encoder takes, in pixels."""
        return int(self.image_processor.crop_size["height"])

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **options: Any) -> Self:
        """As in transformers, after a look at what the folder's files name; nothing in them is run.

        Raises:
            UnsafeFileError: a file names code, or a link leads outside the folder; nothing has been loaded then.
            CheckpointError: there is no such processor, or its files are damaged.
        """
        options.pop("trust_remote_code", None)
        if (folder := Path(pretrained_model_name_or_path, options.get("subfolder") or "")).is_dir():
            check_links(folder)
            check_config_files(folder)
        with reading(pretrained_model_name_or_path, what="processor", fix=_SAVED):
            return cast(Self, super().from_pretrained(pretrained_model_name_or_path, *args, **options))

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> Any:
        """As transformers does it, whatever this processor was used for before.

        A fast tokenizer saves how its last texts were cut and padded as if these were its settings.
        """
        if (backend := getattr(self.tokenizer, "backend_tokenizer", None)) is not None:
            backend.no_truncation()
            backend.no_padding()
        return super().save_pretrained(save_directory, **options)

    def part(self, modality: str) -> ModalityProcessor:
        """The processor of one sense.

        Raises:
            UnknownModalityError: this processor lacks the sense.
            UnregisteredModalityError: it has the sense's options, and this process does not know the sense's code.
        """
        if modality not in self.modalities:
            raise UnknownModalityError(modality, self.modalities, where="processor")
        options = self._options(modality)
        if modality == "image":
            return processor_for(get_modality("image"), self.size, **{**options, **self._statistics()})
        return ModalityProcessor.from_dict(options)

    def features(
        self,
        modality: str,
        sources: Sequence[Any],
        *,
        facts: Sequence[Mapping[str, JsonValue]] | None = None,
        rngs: Sequence[np.random.Generator] | None = None,
    ) -> dict[str, Tensor]:
        """Features of one sense, as data sets ask for them (`polysense.data.mixture.FeatureProcessor`).

        Args:
            facts: what is known of each sample beyond its file, such as camera intrinsics.
            rngs: a generator per sample asks for training augmentation.

        Raises:
            MediaError: a source cannot be used; the message names it.
        """
        return self.part(modality)(sources, facts=facts, rngs=rngs)

    def _sources(self, given: Mapping[str, Any], *, cuts: bool) -> dict[str, Any]:
        """Sense to its sources, out of the keyword arguments of a call.

        Args:
            cuts: whether this processor cuts texts at the tokenizer's length.

        Raises:
            ConfigError: a sense under two names, or an option of tokenizers that would have no effect.
        """
        sources: dict[str, Any] = {}
        for argument, value in given.items():
            if value is None:
                continue
            if argument in _HABITS:
                usual = _HABITS[argument] if argument != "truncation" or cuts else (False, "do_not_truncate")
                if value not in usual:
                    done = "padded to the longest" + " and cut at the tokenizer's length" * cuts
                    raise ConfigError(f"{argument}={value!r} would have no effect", where="processor",
                                      fix=f"Leave it out: texts are {done}, and tensors come back.")  # fmt: skip
            elif (name := sense_of(argument)) in sources:
                other = next(each for each in given if sense_of(each) == name and each != argument)
                raise ConfigError(f"the sense {name!r} was given twice, as {other}= and {argument}=",
                                  where="processor", fix="Give all of its sources under one name.")  # fmt: skip
            else:
                sources[name] = value
        return sources

    @staticmethod
    def _facts(given: Mapping[str, Any], sources: Mapping[str, Any]) -> dict[str, Any]:
        """Sense to the facts of each of its sources, out of the argument of a call.

        Raises:
            ConfigError: facts of a sense that is not given.
        """
        facts = {sense_of(name): [each] if isinstance(each, Mapping) else each for name, each in given.items()}
        if unknown := [name for name in facts if name not in sources]:
            raise ConfigError(f"there are facts of {unknown[0]!r}, and no sources", where="facts",
                              fix=f"Given are {', '.join(sources) or 'none'}: name one of these.")  # fmt: skip
        return facts

    def _options(self, modality: str) -> dict[str, JsonValue]:
        """Options of a sense's own processor."""
        return self.senses.get(modality, {})

    def _new_options(self, spec: Modality, size: int, **options: Any) -> dict[str, JsonValue]:
        """Options of a sense to be added; frames share the pictures' statistics.

        Raises:
            UnregisteredModalityError: no one registered the sense.
            ConfigError: the processor has it already, or an option does not exist.
        """
        if spec.name in self.modalities:
            raise ConfigError(f"the processor already has the modality {spec.name!r}", fix="Give it another name.")
        picture = {} if spec.kind != "frames" else self._statistics()
        return processor_for(spec, size, **{**picture, **options}).to_dict()

    def _statistics(self) -> dict[str, JsonValue]:
        return {"mean": list(self.image_processor.image_mean), "std": list(self.image_processor.image_std)}
