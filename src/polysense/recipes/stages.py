"""Stage folders: Hub-ready, written whole or not at all, with the record their card is rendered from."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from polysense.hub import card_of_folder
from polysense.models.unialign import UniAlignModel
from polysense.recipes.config import differing, write_config
from polysense.recipes.provenance import command, commit, versions
from polysense.storage import writing
from polysense.trainer import FolderLock, atomic_folder, verify_folder
from polysense.trainer.distributed import on_main
from polysense.world.build import SUMMARY

logger = logging.getLogger(__name__)

_SYNTHETIC = (
    "All that it learned here is of a synthetic world: rendered scenes, synthesised sounds, sentences of few words. "
    "How it does on photographs, recordings and people's words was not measured."
)


@dataclass(frozen=True, kw_only=True)
class StageRecord:
    """What `stage.json` says of a stage; its card says the same in words.

    Attributes:
        system: "unialign", ...
        stage: number, from 1.
        name: of the stage's folder.
        parent: name of the stage it continues.
        trained: senses that this stage trained.
        modalities: all senses of the checkpoint.
        base_model: name and licence of the model that the first stage came from.
        data: name, samples, licence (and content hash) of each data set.
        frozen: the freezing table, pattern to trainable.
        parameters: part to (all, trainable) parameters.
        hyperparameters: everything else that was chosen.
        seed, steps, seconds: of this stage's training.
        limits: what a user should not expect.
        hashes: SHA-256 of the weights of a part at a moment, by both.
        merge: how the language model was merged, where it was: method, what the stage counts, rounding errors.
        versions, command, commit: libraries, command line and checkout that it was made with.
    """

    system: str
    stage: int
    name: str
    parent: str | None
    trained: Sequence[str]
    modalities: Sequence[str]
    base_model: Mapping[str, str]
    data: Sequence[Mapping[str, Any]]
    frozen: Mapping[str, bool]
    parameters: Mapping[str, tuple[int, int]]
    hyperparameters: Mapping[str, Any]
    seed: int
    steps: int
    seconds: float
    limits: Sequence[str] = ()
    hashes: Mapping[str, str] = field(default_factory=dict)
    merge: Mapping[str, Any] = field(default_factory=dict)
    versions: Mapping[str, str] = field(default_factory=versions)
    command: str = field(default_factory=command)
    commit: str = field(default_factory=commit)


@contextmanager
def running(recipe: Any, output: Path, stages: Sequence[Path], *, shared: bool = False) -> Iterator[None]:
    """Within this block no other run works in the folder, which says in `config.yaml` what this one was told.

    Where all stages are there, nothing is written and anyone may look.

    Args:
        stages: the folders that the run makes.
        shared: others may work in the folder too, whose stages are their own or made in turns; `config.yaml` is then
            of the last one that began.

    Raises:
        FolderInUseError: another run is at work there, whose `config.yaml` stays as it is.
        ConfigError: the folder cannot be written.
    """
    with ExitStack() as stack:
        if not shared:
            if on_main(lambda: all(folder.exists() for folder in stages)):
                yield
                return
            on_main(lambda: bool(stack.enter_context(FolderLock(output))))
        on_main(lambda: write_config(recipe, output))
        yield


def check_output(output: Path) -> None:
    """Refuse a run folder that cannot be written by now, and not when a world has been built for it.

    It is not made yet, and one that has stages may be there only to be looked at.

    Raises:
        ConfigError: naming the folder.
    """

    def check() -> None:
        with writing(output):
            whole = output.absolute()
            there = next(each for each in (whole, *whole.parents) if each.exists())
            if not (output / "stages").exists():
                with tempfile.TemporaryFile(dir=there):
                    pass

    on_main(check)


def stage_folder(output: Path, number: int, name: str) -> Path:
    """Where stage `number` of a run goes."""
    return output / "stages" / f"stage-{number}-{name}"


def save_stage(
    folder: Path, parts: Sequence[Callable[[Path], Any]], record: StageRecord, metrics: Mapping[str, Any]
) -> None:
    """Write a stage folder at once: every part's `save_pretrained`, record, metrics, card, checksums.

    Raises:
        CheckpointError: the disk is full or broken; what was there before is as it was.
    """
    stage = json.loads(json.dumps(asdict(record)))
    with atomic_folder(folder, details={"stage": record.name, "parent": record.parent}) as temporary:
        for save in parts:
            save(temporary)
        _write_json(temporary / "stage.json", stage)
        _write_json(temporary / "metrics.json", metrics)
        (temporary / "README.md").write_text(card_of_folder(temporary), encoding="utf-8")


def origin(name: str, license: str) -> dict[str, str]:
    """The base model of a record: a folder such as `runs/clip` is told apart from a repository of that name."""
    is_alike = name.count("/") == 1 and name[0] not in "./~" and Path(name).is_dir()
    return {"name": f"./{name}" if is_alike else name, "license": license}


def known_limits(root: Path) -> list[str]:
    """What nobody should expect of a stage whose data lie in `root`."""
    return [_SYNTHETIC] if (root / SUMMARY).is_file() else []


def finished(folder: Path) -> bool:
    """Whether a stage is there and intact.

    Raises:
        CheckpointError: it is there and damaged; the message names the file.
    """
    if not folder.exists():
        return False
    verify_folder(folder, required=("config.json", "stage.json", "metrics.json", "README.md"))
    return True


def warn_of_changes(folder: Path, chosen: Mapping[str, Any]) -> None:
    """Warn of each setting by which a finished stage differs from what the config would make of it now.

    Args:
        folder: of the stage.
        chosen: the fields of its record that a config decides.
    """
    made = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    asked = json.loads(json.dumps(dict(chosen)))
    for key, before, after in differing({key: made.get(key) for key in chosen}, asked):
        logger.warning("%s is kept as it was made, with %s = %r, which is now %r; delete its folder to train it again",
                       folder.name, key, before, after)  # fmt: skip


def _write_json(path: Path, value: Any) -> None:
    path.write_text(json.dumps(value, indent=1) + "\n", encoding="utf-8")


def log_parameters(model: UniAlignModel) -> None:
    """Log how many parameters every part of a model has and trains."""
    table = model.parameter_table()
    base, trained = table["base"][0], sum(trainable for _, trainable in table.values())
    for part, (total, trainable) in table.items():
        logger.info("%-24s %12s parameters, %12s trained", part, f"{total:,}", f"{trainable:,}")
    logger.info("trained: %s parameters, %.2f %% of the base", f"{trained:,}", 100 * trained / base)
