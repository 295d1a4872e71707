"""Reproductions as cells: one (method, order, seed) is one JSON file, computed once, in processes side by side."""

from __future__ import annotations

import hashlib
import json
import logging
import multiprocessing
import os
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from dataclasses import MISSING, Field, asdict, dataclass, fields, is_dataclass
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from tqdm.auto import tqdm

from polysense.errors import ConfigError
from polysense.recipes.beside import end_with_parent
from polysense.recipes.provenance import command, commit, versions
from polysense.storage import digest, write_whole

logger = logging.getLogger(__name__)


Unit = tuple[int, str]
"""Seed and parts: what two cells have in common that are compared with each other."""


@dataclass(frozen=True, order=True)
class Cell:
    """One run of a reproduction.

    Attributes:
        order: name of the order in which senses are learned, where that is a question.
        parts: name of the trained things that it began with (`parts_name`), where there are any. Another machine
            trains others from the same seed, and what began with them is no fair match.
    """

    method: str
    seed: int
    order: str = ""
    parts: str = ""

    @property
    def name(self) -> str:
        return "-".join(filter(None, (self.method, self.order, f"seed{self.seed}")))

    @property
    def file(self) -> Path:
        """Its file in the folder of all cells."""
        return Path(self.parts, f"{self.name}.json")

    @property
    def unit(self) -> Unit:
        return self.seed, self.parts

    def to_dict(self) -> dict[str, Any]:
        """What its file says of it."""
        return {key: value for key, value in asdict(self).items() if value != ""}


def settings_key(settings: Any, *facts: Any) -> str:
    """A short name for what cells rest on beside method, order and seed: a recipe, a world's content hash ...

    Settings that have their default do not count, so that a new option leaves finished cells what they are.
    """
    text = json.dumps([chosen(settings), *facts], sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:12]


def chosen(value: Any) -> Any:
    """Nested settings as plain values, those that have their default left out."""
    if is_dataclass(value) and not isinstance(value, type):
        given = {field.name: getattr(value, field.name) for field in fields(value)}
        return {
            field.name: chosen(given[field.name]) for field in fields(value) if given[field.name] != _default(field)
        }
    if isinstance(value, Mapping):
        return {str(key): chosen(each) for key, each in value.items()}
    return [chosen(each) for each in value] if isinstance(value, list | tuple) else value


def _default(field: Field[Any]) -> Any:
    return field.default if field.default_factory is MISSING else field.default_factory()


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """Which cells may be computed.

    Attributes:
        methods, seeds, orders: these alone; `None`: all.
    """

    methods: Sequence[str] | None = None
    seeds: Sequence[int] | None = None
    orders: Sequence[str] | None = None

    def __contains__(self, cell: Cell) -> bool:
        of_cell = ((cell.method, self.methods), (cell.seed, self.seeds), (cell.order, self.orders))
        return all(names is None or its in names for its, names in of_cell)

    def check(self, methods: Iterable[str], orders: Iterable[str] = ()) -> None:
        """Raises `ConfigError` if a method or an order is not among those known."""
        for kind, names, known in (("method", self.methods, [*methods]), ("order", self.orders, [*orders])):
            if unknown := sorted(set(names or ()) - set(known)):
                raise ConfigError(f"there is no {kind} {unknown[0]!r}", where=f"{kind}s",
                                  fix=f"Known: {', '.join(known) or 'none'}.")  # fmt: skip


ALL = Chosen()


def parts_name(folders: Iterable[Path]) -> str:
    """A short name for trained things: of the weights in some folders, whatever else lies there."""
    weights = {path.resolve() for folder in folders for path in folder.rglob("*.safetensors")}
    return digest("".join(sorted(digest(path.read_bytes()) for path in weights)).encode())[:8]


def unit_name(unit: Unit) -> int | str:
    """The seed, with its parts where they have a name."""
    seed, parts = unit
    return f"{seed} of {parts}" if parts else seed


Work = Callable[[Cell], dict[str, Any]]
"""Computes a cell; a module-level function or a partial of one, since it travels to another process."""


def read_cell(folder: Path, cell: Cell) -> dict[str, Any] | None:
    """What a finished cell says, `None` if it is not there."""
    path = folder / cell.file
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def finished_cells(folder: Path) -> dict[Cell, dict[str, Any]]:
    """All finished cells of a folder, whichever run has computed them."""
    records = [json.loads(path.read_text(encoding="utf-8")) for path in sorted(folder.rglob("*.json"))]
    return {Cell(each["method"], each["seed"], each.get("order", ""), each.get("parts", "")): each for each in records}


def run_cells(cells: Sequence[Cell], work: Work, folder: Path, *, workers: int = 2) -> dict[Cell, dict[str, Any]]:
    """Compute the cells that `folder` lacks and return all of them.

    Each runs in a process of its own, so that its peak of memory is its own, and of one thread: two such processes use
    two cores better than two threads of one do. The hours left are logged after every cell.

    Raises:
        PolysenseError: a cell failed; no further one starts, and those that run or are finished are kept.
    """
    folder.mkdir(parents=True, exist_ok=True)
    missing = [cell for cell in cells if read_cell(folder, cell) is None]
    seconds: list[float] = []
    context = multiprocessing.get_context("spawn")
    with (
        ProcessPoolExecutor(workers, mp_context=context, initializer=_one_thread, max_tasks_per_child=1) as pool,
        tqdm(total=len(missing), desc=folder.name, unit="cell", disable=not missing) as bar,
    ):
        futures = {pool.submit(_compute, work, cell, folder): cell for cell in missing}
        try:
            for future in as_completed(futures):
                record = future.result()
                seconds.append(record["seconds"])
                bar.update()
                left = (len(missing) - len(seconds)) * fmean(seconds) / workers / 3600
                name = futures[future].name
                logger.info("%s done in %.0f s; about %.2f hours left", name, record["seconds"], left)
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)  # else all that is left would be computed before it is told
            raise
    return {cell: found for cell in cells if (found := read_cell(folder, cell)) is not None}


def _one_thread() -> None:
    torch.set_num_threads(1)
    end_with_parent()


def _compute(work: Work, cell: Cell, folder: Path) -> dict[str, Any]:
    """Compute a cell and write it here, in its own process: it is kept whatever becomes of the others."""
    started = time.monotonic()
    values = work(cell)
    record = {
        **cell.to_dict(), **values, "seconds": round(time.monotonic() - started, 1),
        "load_average": round(os.getloadavg()[0], 2), "commit": commit(), "command": command(), "versions": versions(),
    }  # fmt: skip
    write_whole(folder / cell.file, json.dumps(record, indent=1) + "\n")
    return record
