"""The processor of UniAlign: an HF image processor and tokenizer, and every further sense as JSON-able options."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self

from torch import Tensor
from transformers import AutoTokenizer, BatchFeature, CLIPImageProcessorPil

from polysense.modality import JsonValue, Modality, get_modality, listed, registered_modalities
from polysense.models.base import HUB_ARGUMENTS, local_folder
from polysense.models.processor import SensesProcessor
from polysense.processing import ModalityProcessor, processor_for
from polysense.safety import check_keys


class UniAlignProcessor(SensesProcessor):
    """Raw files, arrays and texts of any sense to the inputs of `UniAlignModel`.

    Args:
        image_processor: CLIP's; its size, mean and standard deviation hold for images and frames.
        tokenizer: CLIP's.
        senses: name to the options of that sense's processor, as `ModalityProcessor.to_dict` gives them. For "image"
            it may hold options of training augmentation; size and statistics are the image processor's.
        templates: name to the prompts ("a photo of a {}.") that zero-shot classification of that sense uses.
    """

    def __init__(
        self,
        image_processor: Any = None,
        tokenizer: Any = None,
        senses: Mapping[str, Mapping[str, JsonValue]] | None = None,
        templates: Mapping[str, Sequence[str]] | None = None,
        chat_template: str | None = None,
    ) -> None:
        self.senses = {name: dict(options) for name, options in (senses or {}).items()}
        self.templates = {name: list(prompts) for name, prompts in (templates or {}).items()}
        super().__init__(image_processor, tokenizer, chat_template=chat_template)

    @classmethod
    def from_clip(cls, clip: str | Path, modalities: Iterable[str | Modality] = (), **hub: Any) -> Self:
        """Take image processor and tokenizer of a CLIP folder or Hub name, and add senses.

        Args:
            hub: `revision`, `token` and the other arguments of `from_pretrained` that concern the Hub.

        Raises:
            UnregisteredModalityError: a name that no one registered.
            ConfigError: an argument that is none of these, or one name instead of a list.
        """
        check_keys(hub, HUB_ARGUMENTS, "from_clip")
        folder = local_folder(clip, hub)
        processor = cls(CLIPImageProcessorPil.from_pretrained(folder), AutoTokenizer.from_pretrained(folder))
        for modality in listed(modalities):
            if modality not in ("image", "text"):
                processor.add_modality(modality)
        return processor

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses, image and text first, then those added (by name, once reloaded)."""
        return ("image", "text", *(name for name in self.senses if name != "image"))

    def add_modality(self, modality: str | Modality, templates: Sequence[str] = (), **options: Any) -> None:
        """Add a registered sense.

        Args:
            modality: name, or a spec that differs from the registered one in options only.
            templates: prompts for zero-shot classification.
            options: options of the sense's processor that replace those of its spec.

        Raises:
            ConfigError: the sense is there already, or an option does not exist.
        """
        spec = modality if isinstance(modality, Modality) else get_modality(modality)
        self.senses[spec.name] = self._new_options(spec, self.size, **options)
        if templates:
            self.templates[spec.name] = list(templates)

    def part(self, modality: str) -> ModalityProcessor:
        """The processor of one sense.

        Raises:
            UnknownModalityError: this processor lacks the sense.
            UnregisteredModalityError: it has the sense's options, and this process does not know the sense's code.
        """
        if modality == "text":
            length = min(self.tokenizer.model_max_length, 8192)
            return processor_for(get_modality("text"), self.size, tokenizer=self.tokenizer, max_length=length)
        return super().part(modality)

    def __call__(
        self,
        text: str | Sequence[str] | None = None,
        images: Any = None,
        videos: Any = None,
        audio: Any = None,
        *,
        facts: Mapping[str, Mapping[str, JsonValue] | Sequence[Mapping[str, JsonValue]]] | None = None,
        **senses: Any,
    ) -> BatchFeature:
        """Features of everything given; batch sizes may differ between senses.

        Args:
            text, images, videos, audio, **senses: one source or a list of them: a path, a file, bytes, an array.
            facts: sense to what is known of each of its samples, such as `{"depth": [{"intrinsics": [...]}]}`; of a
                single source, without the list.

        Returns:
            `pixel_values`, `input_ids` and `attention_mask`, `{sense}_values` and, where lengths differ,
            `{sense}_mask`.

        Raises:
            ConfigError: a sense under two names (`images` and `image`), facts of one that is not given, or a
                tokenizer's option other than `padding=True`, `truncation=True` and `return_tensors="pt"`, which is
                what is done in any case.
            UnknownModalityError, UnregisteredModalityError, MediaError: see `part` and `features`.
        """
        given = {"text": text, "images": images, "videos": videos, "audio": audio, **senses}
        sources = self._sources(given, cuts=True)
        known = self._facts(facts or {}, sources)
        out: dict[str, Tensor] = {}
        for name, each in sources.items():
            out |= self.features(name, each if isinstance(each, list | tuple) else [each], facts=known.get(name))
        return BatchFeature(out)


def known_senses() -> tuple[str, ...]:
    """Registered senses that a model can be given beyond image and text."""
    return tuple(name for name in registered_modalities() if name not in {"image", "text"})


__all__ = ["UniAlignProcessor", "known_senses"]
