"""What a run of MERA's recipe goes on from, where it does not begin with a bare language model."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from polysense.continual.methods import FreshLora, LearningMethod
from polysense.errors import ConfigError
from polysense.hub.records import read_stage
from polysense.merging import chosen_method
from polysense.models.base import local_folder
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.checkpoint import check_mera, check_processor
from polysense.safety import read_json
from polysense.storage import MANIFEST, atomic_folder, fingerprint, read_manifest

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Start:
    """A MERA checkpoint: a stage of another run, or a LLaVA.

    Attributes:
        folder: where it lies.
        stage: its number; a checkpoint without a record, such as a LLaVA, counts as the first stage.
        senses: what it has learned, the sense of its own stage last.
        base_model: name and licence of what the first stage was made from.
        is_llava: it is a LLaVA as Hugging Face has it, which has to be taken over first.
    """

    folder: Path
    stage: int
    senses: tuple[str, ...]
    base_model: Mapping[str, str]
    is_llava: bool = False

    def taken_over(self, output: Path) -> Start:
        """Itself, or where it is a LLaVA: the same model as a MERA checkpoint (same logits) in the folder of a run.

        Raises:
            ConfigError: see `MeraForConditionalGeneration.from_llava` and `MeraProcessor.from_llava`.
            CheckpointError: it is damaged, or the disk is full.
        """
        if not self.is_llava:
            return self
        target, origin = output / "start" / self.folder.name, fingerprint(self.folder, ignore=("README.md",))
        if not (target / MANIFEST).exists() or read_manifest(target)["details"].get("llava") != origin:
            with atomic_folder(target, details={"llava": origin}) as folder:
                MeraForConditionalGeneration.from_llava(self.folder).save_pretrained(folder)
                MeraProcessor.from_llava(self.folder).save_pretrained(folder)
        return replace(self, folder=target, is_llava=False)

    @property
    def place(self) -> dict[str, Any]:
        """What `run_stages` has to know of it."""
        return {"start": self.folder, "first": self.stage + 1}

    def check_apart(self, output: Path) -> None:
        """Refuse a run folder within the checkpoint, whose files tell one start from another.

        Raises:
            ConfigError: naming the folder.
        """
        if output.resolve().is_relative_to(self.folder.resolve()):
            raise ConfigError(f"a run within {self.folder}, which it goes on from, would change that", where=output,
                              fix="Choose a folder beside the checkpoint.")  # fmt: skip

    def check(self, stages: Sequence[str], trained: Sequence[str], method: LearningMethod) -> None:
        """Refuse what cannot be learned on top of it.

        Args:
            stages: senses to be learned.
            trained: senses that there are data sets of.
            method: how they are to be learned.

        Raises:
            ConfigError: naming the sense or the method.
            CheckpointError: it lacks what the method goes on from.
        """
        if known := [sense for sense in stages if sense in self.senses]:
            raise ConfigError(f"{self.folder.name} has learned {', '.join(known)} already", where="stages",
                              fix=f"Take out what it has: {', '.join(self.senses)}.")  # fmt: skip
        merge = method.merge if isinstance(method, FreshLora) else None
        chosen = None if merge is None else chosen_method(merge)[0]
        if chosen is not None and chosen.needs_base:
            raise ConfigError(f"merge method {chosen.name!r} needs the language model before the first stage",
                              where="merge", fix="Use another method where a stage is continued.")  # fmt: skip
        method.check_start(self.folder, self.stage)
        for sense in sorted(set(self.senses) - set(trained)):
            logger.warning("%s has no data set under sources: it is not realigned", sense)


def open_start(source: str | Path) -> Start:
    """A checkpoint from a folder or the Hub, judged before any of its weights is read.

    Raises:
        CheckpointError: it is damaged, neither a MERA checkpoint nor a LLaVA, or lacks its processor.
        UnsafeFileError: it is unsafe.
    """
    folder = local_folder(source, {})
    if read_json(folder / "config.json").get("model_type") == "llava":
        check_processor(folder, "LlavaProcessor")
        return Start(folder, 1, ("image",), {"name": Path(source).name, "license": "see its card"}, is_llava=True)
    senses = check_mera(folder)
    if not (folder / "stage.json").exists():
        return Start(folder, 1, senses, {"name": Path(source).name, "license": "see its card"})
    record = read_stage(folder)
    last = record["trained"]  # a saved config has the senses by name, and methods look at what was learned last
    return Start(folder, record["stage"], tuple(sorted(senses, key=last.__contains__)), record["base_model"])


__all__ = ["Start", "open_start"]
