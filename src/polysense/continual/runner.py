"""Walks the stages of a run, and never computes a finished one again.

A stage's folder is named after its number, its name and the key of all settings that led to it. So a run that was
killed goes on after its last finished stage; methods that begin alike share what they have in common; and changed
settings lead to new folders instead of a mixture of both.
"""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from polysense.continual.stage import Stage, stage_keys
from polysense.errors import CheckpointError, ConfigError
from polysense.modality import JsonValue
from polysense.storage import fingerprint, read_manifest, verify_folder

logger = logging.getLogger(__name__)

TrainStage = Callable[[Stage, Path | None, Path], None]
"""`train_stage(stage, start, folder)`: trains from the folder `start` (`None`: from the base model) and writes
`folder` by `atomic_folder(folder, details=stage_details(start, folder))`."""

_NUMBERED = re.compile(r"stage-(\d+)-.+")
_KEY_LENGTH = 12


def run_stages(
    stages: Sequence[Stage],
    output: Path,
    train_stage: TrainStage,
    *,
    common: Mapping[str, JsonValue],
    start: Path | None = None,
    first: int | None = None,
) -> list[Path]:
    """Train every stage that is not finished yet, each from the one before it.

    Args:
        stages: in any order.
        output: where the stage folders go; methods that are to share stages have the same one.
        train_stage: trains one stage; what it writes is verified before the next one begins.
        common: settings that hold for all stages, see `stage_keys`.
        start: folder that the first stage continues; `None` begins from the base model.
        first: number of the first stage; by default 1, or one more than that in the name of `start`.

    Returns:
        The stage folders, first to last.

    Raises:
        ConfigError: there are no stages.
        CheckpointError: a folder is damaged, was made from another parent, is another stage's, or is there though its
            parent is not; or `train_stage` left no folder. All folders are checked before the first training.
    """
    folders = stage_folders(stages, output, common=common, start=start, first=first)
    chain = [start, *folders]
    finished = 0
    for number, (parent, folder) in enumerate(zip(chain, folders, strict=False), start=1):
        if not folder.exists():
            continue
        _check(parent, folder)
        if number > finished + 1:
            raise CheckpointError("the stage is there, the one it was made from is not", where=folder,
                                  fix=f"Restore {parent}, or delete the stage to train it again.")  # fmt: skip
        logger.info("%s is finished and kept", folder.name)
        finished = number
    for stage, parent, folder in list(zip(stages, chain, folders, strict=False))[finished:]:
        logger.info("%s begins from %s", folder.name, parent.name if parent else "the base model")
        train_stage(stage, parent, folder)
        _check(parent, folder)
    return folders


def stage_folders(
    stages: Sequence[Stage],
    output: Path,
    *,
    common: Mapping[str, JsonValue],
    start: Path | None = None,
    first: int | None = None,
) -> list[Path]:
    """Where the stages of a run go, whether they are there or not. Arguments and errors: see `run_stages`."""
    if not stages:
        raise ConfigError("there are no stages", fix="Give one or more.")
    if start is not None:
        common = {**common, "start": fingerprint(start, ignore=("README.md",))}
    if first is None:
        first = 1 + (0 if start is None else stage_number(start))
    keys = stage_keys(stages, common)
    return [
        output / f"stage-{number}-{stage.name}-{key[:_KEY_LENGTH]}"
        for number, (stage, key) in enumerate(zip(stages, keys, strict=True), start=first)
    ]


def stage_number(folder: Path) -> int:
    """Number of the stage that a folder's name tells (`stage_folders`); 0 for a folder of any other name."""
    numbered = _NUMBERED.fullmatch(folder.name)
    return int(numbered[1]) if numbered else 0


def stage_details(start: Path | None, folder: Path) -> dict[str, JsonValue]:
    """What the manifest of a stage folder says of its place in the chain: its own name and its parent's."""
    return {"stage": folder.name, "parent": start.name if start else None}


def _check(parent: Path | None, folder: Path) -> None:
    """The folder is there and intact, is the stage that it is called, and continues `parent`."""
    if not folder.exists():
        raise CheckpointError("the stage was trained, its folder is not there", where=folder,
                              fix="Let train_stage write its folder with atomic_folder.")  # fmt: skip
    found, expected = read_manifest(folder)["details"], stage_details(parent, folder)
    if found.get("stage") != expected["stage"]:
        raise CheckpointError(f"the folder holds the stage {found.get('stage')!r}", where=folder,
                              fix="Give it its own name back.")  # fmt: skip
    if found.get("parent") != expected["parent"]:
        raise CheckpointError(
            f"the stage was made from {found.get('parent') or 'the base model'}, here it follows "
            f"{expected['parent'] or 'the base model'}",
            where=folder,
            fix="Move the folder away to train the stage again, or run the stages it belongs to.",
        )
    verify_folder(folder, ignore=("README.md",))
