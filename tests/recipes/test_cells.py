"""Cells: each computed once, in another process, and kept whatever becomes of the others."""

from __future__ import annotations

import json
import multiprocessing
import os
import time
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.recipes import cells
from polysense.recipes.cells import (
    Cell,
    Chosen,
    finished_cells,
    parts_name,
    read_cell,
    run_cells,
    settings_key,
    unit_name,
)

ONE, TWO, THREE = Cell("joint", 0), Cell("joint", 1), Cell("nce", 0)


def where(cell: Cell) -> dict[str, Any]:
    return {"process": os.getpid(), "threads": torch.get_num_threads()}


class Recorder:
    """Work that remembers what it was asked for and fails where it is told to."""

    def __init__(self, failing: dict[Cell, Exception] | None = None) -> None:
        self.asked: list[Cell] = []
        self.failing = failing or {}

    def __call__(self, cell: Cell) -> dict[str, Any]:
        self.asked.append(cell)
        if cell in self.failing:
            raise self.failing[cell]
        return {"value": 10 * cell.seed}


@pytest.fixture
def threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """A pool of threads in place of one of processes, whose start takes seconds."""

    def pool(workers: int, *, mp_context: Any, initializer: Callable[[], None], max_tasks_per_child: int) -> Executor:
        assert (mp_context.get_start_method(), max_tasks_per_child) == ("spawn", 1)
        return ThreadPoolExecutor(workers, initializer=initializer)

    monkeypatch.setattr(cells, "ProcessPoolExecutor", pool)


def test_what_is_chosen_is_known() -> None:
    chosen = Chosen(methods=["joint"], orders=["reverse"])
    chosen.check(["joint", "nce"], ["reverse", "sequential"])
    with pytest.raises(ConfigError, match=r"methods: there is no method 'joint'. Known: nce"):
        chosen.check(["nce"], ["reverse"])
    with pytest.raises(ConfigError, match=r"orders: there is no order 'reverse'. Known: none"):
        chosen.check(["joint"])


def test_cells_that_began_with_other_parts_lie_beside_one_another(tmp_path: Path, threads: None) -> None:
    other = replace(ONE, parts="abc")
    run_cells([ONE, other], Recorder(), tmp_path, workers=1)
    assert sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*.json")) == [
        "abc/joint-seed0.json", "joint-seed0.json",
    ]  # fmt: skip
    assert set(finished_cells(tmp_path)) == {ONE, other} and ONE.unit != other.unit
    assert (unit_name(ONE.unit), unit_name(other.unit)) == (0, "0 of abc")


def test_parts_are_called_by_their_weights_alone(tmp_path: Path) -> None:
    for place, weights, told in (("a", b"1", "x"), ("b", b"1", "y"), ("c", b"2", "x")):
        folder = tmp_path / place
        folder.mkdir()
        (folder / "model.safetensors").write_bytes(weights)
        (folder / "config.json").write_text(told)
    first, same, other = (parts_name([tmp_path / place]) for place in "abc")
    assert first == same != other and parts_name([tmp_path / "a", tmp_path / "a"]) == first


def test_a_cell_runs_in_a_process_of_one_thread(tmp_path: Path) -> None:
    record = run_cells([ONE], where, tmp_path / "new", workers=1)[ONE]
    assert record["process"] != os.getpid() and record["threads"] == 1
    assert (record["method"], record["seed"]) == ("joint", 0)
    assert {"seconds", "load_average", "commit", "command", "versions"} <= set(record)


def sleep(cell: Cell) -> dict[str, Any]:
    Path(os.environ["PID_FILE"]).write_text(str(os.getpid()))
    time.sleep(300)
    return {}


def _run(folder: Path) -> None:
    run_cells([ONE], sleep, folder, workers=1)


def test_no_process_outlives_a_killed_parent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "pid"
    monkeypatch.setenv("PID_FILE", str(file))
    parent = multiprocessing.get_context("spawn").Process(target=_run, args=(tmp_path / "cells",))
    parent.start()
    wait_until(lambda: file.exists() and bool(file.read_text()))
    parent.kill()
    parent.join()
    status = Path(f"/proc/{file.read_text()}/stat")
    wait_until(lambda: not status.exists() or status.read_text().split()[2] == "Z")


def wait_until(holds: Callable[[], bool]) -> None:
    deadline = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.05)


@pytest.mark.usefixtures("threads")
def test_only_missing_cells_are_computed_and_all_are_returned(tmp_path: Path) -> None:
    (tmp_path / "joint-seed0.json").write_text(json.dumps({"value": 7}))
    work = Recorder()
    found = run_cells([ONE, TWO, THREE], work, tmp_path)
    assert sorted(work.asked) == [TWO, THREE]
    assert {cell: record["value"] for cell, record in found.items()} == {ONE: 7, TWO: 10, THREE: 0}
    assert sorted(path.name for path in tmp_path.iterdir()) == [
        "joint-seed0.json",
        "joint-seed1.json",
        "nce-seed0.json",
    ]
    assert run_cells([ONE, TWO, THREE], work, tmp_path) == found and len(work.asked) == 2


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("error", [ConfigError("the data is gone"), MemoryError("no room")])
def test_an_error_keeps_finished_cells_and_starts_no_further_one(error: Exception, tmp_path: Path) -> None:
    many = [Cell("later", seed) for seed in range(50)]
    work = Recorder({TWO: error})
    with pytest.raises(type(error), match=str(error)):
        run_cells([ONE, TWO, *many], work, tmp_path, workers=1)
    assert read_cell(tmp_path, ONE) is not None and read_cell(tmp_path, TWO) is None
    assert len(work.asked) < 52
    finished = [cell for cell in work.asked if cell != TWO]
    assert all(read_cell(tmp_path, cell) is not None for cell in finished)  # those that ran on as well
    again = Recorder()
    run_cells([ONE, TWO], again, tmp_path)
    assert again.asked == [TWO]


def test_a_cell_is_called_by_its_order_where_it_has_one(tmp_path: Path) -> None:
    assert Cell("joint", 0).name == "joint-seed0" and Cell("joint", 0).to_dict() == {"method": "joint", "seed": 0}
    ordered = Cell("mera-10", 2, "reverse")
    assert ordered.name == "mera-10-reverse-seed2"
    assert ordered.to_dict() == {"method": "mera-10", "seed": 2, "order": "reverse"}
    assert sorted([ordered, Cell("ewc", 3, "reverse"), Cell("mera-10", 1, "sequential")])[0].method == "ewc"


def test_settings_and_facts_decide_the_key() -> None:
    recipe, other = Cell("a", 1), Cell("a", 2)
    keys = [settings_key(recipe), settings_key(other), settings_key(recipe, {"b": 1}), settings_key(recipe, {"b": 2})]
    assert len(set(keys)) == 4 and settings_key(recipe, {"b": 1, "c": 2}) == settings_key(recipe, {"c": 2, "b": 1})


def test_a_cell_that_is_not_there_reads_as_none(tmp_path: Path) -> None:
    assert read_cell(tmp_path, ONE) is None


@dataclass(frozen=True)
class Inner:
    rate: float
    more: tuple[str, ...] = ()


@dataclass(frozen=True)
class Outer:
    parts: dict[str, Inner]
    steps: int = 5


@dataclass(frozen=True)
class Newer(Outer):
    option: int = 0
    several: list[int] = field(default_factory=list)


def test_a_new_option_leaves_the_key_of_settings_that_do_not_use_it() -> None:
    parts = {"a": Inner(0.1), "b": Inner(0.1, ("x",))}
    assert settings_key(Outer(parts)) == settings_key(Newer(parts)) == settings_key(Newer(parts, steps=5))
    others = [Newer(parts, option=1), Newer(parts, several=[1]), Newer(parts, steps=6), Newer({"a": Inner(0.2)})]
    assert len({settings_key(each) for each in [Outer(parts), *others]}) == 5
