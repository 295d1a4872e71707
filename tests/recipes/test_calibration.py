"""Calibration on made-up cells, and the refusal of another world."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import calibration
from polysense.recipes.calibration import check_frozen
from polysense.recipes.cells import Cell
from polysense.recipes.unialign_claims import SENSES
from polysense.storage import write_whole
from polysense.world import WorldConfig, WorldSummary

BOUND = 0.8


def world(content_hash: str = "a" * 64) -> WorldSummary:
    return WorldSummary(Path("world"), WorldConfig(size="tiny"), content_hash, {}, {}, 0.0)


@pytest.fixture
def calibrate(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Callable[[dict[str, list[float]]], dict[str, Any]]:
    """`world.json` of a calibration in which NCE alone reaches the given accuracies, by sense and seed."""

    def run(reached: dict[str, list[float]]) -> dict[str, Any]:
        def cells(cells: Sequence[Cell], work: Any, folder: Path) -> Mapping[Cell, Mapping[str, Any]]:
            folder.mkdir(parents=True, exist_ok=True)
            assert work.keywords["base"].anchor == "anchor" and work.keywords["base"].world is None
            return {cell: record(cell) for cell in cells}

        def record(cell: Cell) -> dict[str, Any]:
            if cell.method == "bounds":
                return {"bounds": dict.fromkeys(reached, BOUND)}
            task = {"task": "zero-shot classification", "metric": "top1", "dataset": "manifests/stills-test"}
            return {"results": [{**task, "modality": s, "value": v[cell.seed - 100]} for s, v in reached.items()]}

        monkeypatch.setattr(calibration, "UniAlignRun", lambda *_: SimpleNamespace(anchor="anchor"))
        monkeypatch.setattr(calibration, "run_cells", cells)
        monkeypatch.setattr(calibration, "load_world", lambda folder: world())
        monkeypatch.setattr(calibration, "manifest_digests", lambda world: {"stills-test": "c" * 64})
        path = calibration.run(tmp_path / "reports", tmp_path / "runs")
        assert path == tmp_path / "reports" / "world.json"
        return dict(json.loads(path.read_text()))

    return run


def test_shares_are_of_full_supervision_and_all_in_range_freezes(
    calibrate: Callable[[dict[str, list[float]]], dict[str, Any]],
) -> None:
    record = calibrate({sense: [0.4, 0.56] for sense in SENSES})
    assert record["senses"]["audio"]["by_seed"] == pytest.approx([0.5, 0.7])
    assert record["senses"]["audio"]["share_of_bound"] == pytest.approx(0.6)
    assert record["frozen"] and record["content_hash"] == "a" * 64 and record["range"] == [0.4, 0.8]
    assert record["manifests"] == {"stills-test": "c" * 64}
    assert record["seeds"] == [100, 101] and record["config"] == WorldConfig(size="tiny").to_dict()


@pytest.mark.parametrize("accuracy", [0.24, 0.72])  # three and nine tenths of the bound
def test_one_sense_that_is_too_hard_or_too_easy_keeps_the_world_from_freezing(
    accuracy: float, calibrate: Callable[[dict[str, list[float]]], dict[str, Any]]
) -> None:
    record = calibrate({sense: [accuracy if sense == "video" else 0.4] * 2 for sense in SENSES})
    assert [sense for sense, entry in record["senses"].items() if not entry["in_range"]] == ["video"]
    assert not record["frozen"]


def test_calibrating_again_keeps_what_other_systems_rest_on(
    calibrate: Callable[[dict[str, list[float]]], dict[str, Any]], tmp_path: Path
) -> None:
    others = {"mera": {"content_hash": "b" * 64, "calibrated": True}, "comet": {"recipe": "r"}}
    write_whole(tmp_path / "reports/world.json", json.dumps({"content_hash": "b" * 64, "frozen": False, **others}))
    record = calibrate({sense: [0.4, 0.56] for sense in SENSES})
    assert {name: record[name] for name in others} == others
    assert record["content_hash"] == "a" * 64 and record["frozen"]


def test_reports_are_made_on_the_frozen_world_only(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"world\.json: .*content aaaaaaaaaaaa, the frozen one none"):
        check_frozen(tmp_path, world())
    (tmp_path / "world.json").write_text(json.dumps({"content_hash": "b" * 64}))
    check_frozen(tmp_path, world("b" * 64))
    with pytest.raises(ConfigError, match=r"content aaaaaaaaaaaa, the frozen one bbbbbbbbbbbb.*calibrate\.py again"):
        check_frozen(tmp_path, world())


def test_a_world_of_the_same_config_with_other_manifests_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "world.json").write_text(json.dumps({"content_hash": "a" * 64, "manifests": {"x": "1", "y": "2"}}))
    for found, named in (({"x": "1", "y": "2"}, None), ({"x": "1", "y": "3"}, "y"), ({"x": "1"}, "y")):
        monkeypatch.setattr(calibration, "manifest_digests", lambda world, found=found: found)
        if named is None:
            check_frozen(tmp_path, world())
            continue
        with pytest.raises(ConfigError, match=rf"manifests differ from the frozen one's \({named}\).*raise VERSION"):
            check_frozen(tmp_path, world())
