"""The reproduction on the world: what its cells differ in, what they are scored on, what is claimed from them."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from dataclasses import asdict, fields, replace
from itertools import product
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.recipes import unialign_world
from polysense.recipes.cells import Cell, Chosen
from polysense.recipes.config import read_config
from polysense.recipes.unialign import UniAlignRecipe
from polysense.recipes.unialign_claims import METHODS, SENSES
from polysense.recipes.unialign_world import (
    Setting,
    bound_words,
    composed_queries,
    cost_of_senses,
    measure_anchor,
    recipe_of,
    setting,
    summary,
    told_of_anchor,
    work,
)
from polysense.testing import tiny_clip
from polysense.trainer.unialign import ClassTable
from polysense.world import WorldConfig, WorldSummary
from tests.recipes.unialign_cells import record, records
from tests.recipes.words import Words

BASE = read_config(UniAlignRecipe, "unialign", "world", ["data_root=world"])
WORDS = {"a": {"b": 0.5}}
COST = {"flops": 10, "flops_ratio": 1.0, "bytes": 20, "bytes_ratio": 1.0}
OF_ANCHOR = {"cost": COST, "bound_words": WORDS, "anchor": {"command": "x", "commit": "c", "parts": "p"}}

# ---- cells ----------------------------------------------------------------------------------------------------------


def changed(method: str) -> set[str]:
    """Fields in which a method's recipe is not that of the joint phase."""
    joint, other = recipe_of(Cell("joint", 3), BASE), recipe_of(Cell(method, 3), BASE)
    return {each.name for each in fields(joint) if getattr(joint, each.name) != getattr(other, each.name)}


def test_methods_differ_from_the_joint_phase_in_one_thing() -> None:
    assert {method: changed(method) for method in METHODS} == {
        "joint": set(), "incremental": {"stages"}, "nce": {"objective"}, "global": {"model"}, "bounds": set(),
    }  # fmt: skip
    joint = recipe_of(Cell("joint", 3), BASE)
    assert (joint.seed, joint.bounds) == (3, 0) and BASE.bounds > 0
    nce, plain = asdict(recipe_of(Cell("nce", 3), BASE).objective), asdict(joint.objective)
    assert nce == {**plain, "soft_bind": 0.0} != plain
    assert recipe_of(Cell("global", 3), BASE).model == {**joint.model, "routing": "global"} != joint.model


def test_the_incremental_cells_are_the_shipped_recipe() -> None:
    shipped = read_config(UniAlignRecipe, "unialign", "world-incremental", ["data_root=world"])
    assert recipe_of(Cell("incremental", 0), BASE).stages == shipped.stages


class Run:
    """Stands for a recipe at work."""

    def __init__(self, recipe: UniAlignRecipe, output: Path) -> None:
        self.recipe, self.output, self.root = recipe, output, Path("world")

    def bound(self, sense: str) -> float:
        assert (self.recipe.seed, self.recipe.bounds) == (1, BASE.bounds)
        return SENSES.index(sense) / 10

    def begin(self) -> tuple[object, object]:
        dataset = SimpleNamespace(open=lambda root: "images")
        self.recipe = SimpleNamespace(evaluation=SimpleNamespace(splits={"test": [dataset]}))  # type: ignore[assignment]
        return "before", Processor()

    def run(self) -> Path:
        self.output.mkdir(parents=True)
        (self.output / "metrics.json").write_text(json.dumps({"results": [self.output.name]}))
        return self.output


class Processor:
    @classmethod
    def from_pretrained(cls, folder: Path) -> Processor:
        return cls()


def test_a_cell_of_bounds_trains_each_sense_with_full_supervision(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(unialign_world, "UniAlignRun", Run)
    found = work(Cell("bounds", 1), base=BASE, output=tmp_path)
    assert found == {"bounds": {"depth": 0.0, "point_cloud": 0.1, "video": 0.2, "audio": 0.3}}


@pytest.mark.parametrize("after", [1.0, 1.0 + 2**-23])  # a single bit
def test_a_cell_says_whether_the_image_path_kept_every_bit(
    after: float, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    images = {"before": torch.ones(2, 3), "after": torch.tensor([[1.0, 1, 1], [1, 1, after]])}

    class Images(Words):
        def embed(self, dataset: Any, modality: str) -> torch.Tensor:
            assert (dataset, modality) == ("images", "image")
            return images[str(self.model)]

    monkeypatch.setattr(unialign_world, "UniAlignRun", Run)
    monkeypatch.setattr(unialign_world, "Evaluator", Images)
    monkeypatch.setattr(unialign_world, "_fingerprint", unwrapped(unialign_world._fingerprint))
    monkeypatch.setattr(unialign_world, "UniAlignModel", SimpleNamespace(from_pretrained=lambda folder: "after"))
    monkeypatch.setattr(unialign_world, "composed_queries", lambda evaluator, root, size: {"pool": size})
    found = work(Cell("joint", 0), base=BASE, output=tmp_path)
    assert found["image_path_unchanged"] == (after == 1.0)
    assert found["results"] == ["joint-seed0"] and found["composed"] == {"pool": BASE.evaluation.pool}


def unwrapped(function: Any) -> Any:
    """Without the checks of types, which stand-ins do not pass."""
    while hasattr(function, "__wrapped__"):
        function = function.__wrapped__
    return function


# ---- composed queries -----------------------------------------------------------------------------------------------


def manifest(path: Path, rows: list[dict[str, Any]]) -> None:
    path.parent.mkdir(exist_ok=True)
    lines = [json.dumps({"id": str(number), "media": {"image": "none.png"}, **row}) for number, row in enumerate(rows)]
    path.write_text("\n".join(lines))


def test_composed_queries_find_what_neither_part_finds(tmp_path: Path) -> None:
    clips = [
        {"semantics": {"audio": heard, "video": seen}, "captions": {"audio": [heard], "video": [seen]}}
        for heard, seen in product(("metal", "glass", "wood"), ("fall", "hop", "spin"))
    ]
    manifest(tmp_path / "manifests/clips-test.jsonl", clips)
    # eight things of each shape and colour; a depth map leans to its thing's own colour, "object" to balls
    things = product(("cube", "ball"), ("red", "blue"), ("tiny", "small", "medium", "large"), ("metal", "glass"))
    stills = [
        {"semantics": {"image": f"{size} {colour} {material} {shape}", "depth": f"{shape} {shape} {shape} {colour}"}}
        for shape, colour, size, material in things
    ]
    manifest(tmp_path / "manifests/stills-test.jsonl", stills)
    plain = dict.fromkeys(("a", "and", "tiny", "small", "medium", "large", "glass", "metal"), ("", 0.0))
    still = Words(hints={**plain, "object": ("ball", 0.3)})
    found = composed_queries(still, tmp_path, 100)
    assert found["depth to image"] == {"precision@5": 0.0, "hit@5": 0.0}  # seven of the wrong colour come first
    assert found["colour to image"] == {"precision@5": 0.5, "hit@5": 0.5}  # balls come first, which half ask for
    assert found["depth+colour to image"] == {"precision@5": 1.0, "hit@5": 1.0}
    clip = composed_queries(Words(hints={"and": ("", 0.0)}), tmp_path, 100)
    # three clips share every sound and every picture: the right one has rank 1 of 0, 1, 2 on average
    assert [clip[f"text to {name}"]["R@1"] for name in ("audio", "video", "audio+video")] == [0.0, 0.0, 1.0]
    assert clip["text to audio"]["R@5"] == 1.0


# ---- what an anchor alone decides -----------------------------------------------------------------------------------


def test_binding_is_measured_by_the_targets_on_classes_with_a_common_word() -> None:
    unit = torch.eye(3)
    tables = {
        "stills": ClassTable(("red cube", "blue ball"), unit[:2]),
        "clips": ClassTable(("falling cube", "singing"), unit[[0, 2]]),
    }
    found = bound_words(tables, scale=math.log(3.0))
    # "red cube" is like "falling cube" by 3 to 1, "blue ball" has nothing in common with either
    assert found["stills"]["clips"] == pytest.approx((0.75 + 0.0) / 2)
    assert found["clips"]["stills"] == pytest.approx((0.75 + 0.0) / 2)


def test_eight_senses_cost_one_as_much_as_two(clip_folder: Path) -> None:
    cost = cost_of_senses(clip_folder)
    assert cost["flops_ratio"] == 1 and cost["bytes_ratio"] == 1
    vision = sum(4 * parameter.numel() for parameter in tiny_clip().vision_model.parameters())
    assert vision < cost["bytes"] < 2 * vision  # the shared tower, and the sense's own experts and tokenizer
    assert cost["flops"] > 0


def test_what_a_former_report_says_of_the_anchor_is_kept_with_where_it_came_from(tmp_path: Path) -> None:
    path = tmp_path / "report.json"
    assert told_of_anchor(path, "k") == {"cost": None, "bound_words": {}, "anchor": {}}
    path.write_text(json.dumps({"command": "old", "commit": "1", "cost": COST, "bound_words": WORDS}))
    assert told_of_anchor(path, "k") == {
        "cost": COST, "bound_words": WORDS, "anchor": {"command": "old", "commit": "1"},
    }  # fmt: skip
    path.write_text(json.dumps({"command": "new", "commit": "2", "key": "k", **OF_ANCHOR}))
    assert told_of_anchor(path, "k") == OF_ANCHOR
    assert told_of_anchor(path, "other")["cost"] is None, "it is of another recipe or world"


def test_what_an_anchor_decides_says_of_which_and_by_what(
    clip_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = ClassTable(("red cube", "blue ball"), torch.eye(2))
    monkeypatch.setattr(unialign_world, "_binding", lambda base, output: ({"a": table, "b": table}, 0.0))
    found = measure_anchor(replace(BASE, anchor=str(clip_folder)), tmp_path)
    assert found["cost"]["flops_ratio"] == 1 and found["bound_words"]["a"]["b"] == pytest.approx(0.5)
    assert len(found["anchor"]["parts"]) == 8 and set(found["anchor"]) == {"command", "commit", "parts"}


# ---- what cells begin with ------------------------------------------------------------------------------------------


def test_cells_are_called_by_recipe_anchor_and_world_wherever_these_lie(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here, there = setting("world", tmp_path / "a"), setting("world", tmp_path / "b")
    assert here.key == there.key and here.recipe.data_root == str(tmp_path / "a/world") != there.recipe.data_root
    assert not list(tmp_path.iterdir()), "nothing is made to tell it"
    monkeypatch.setattr(unialign_world, "chosen", lambda anchor: "another anchor")
    assert setting("world", tmp_path / "a").key != here.key
    steps = setting("world-incremental", tmp_path)
    assert steps.key not in (here.key, there.key)


# ---- the report -----------------------------------------------------------------------------------------------------


class Made:
    """Stands for `run_cells`: writes every cell, and knows what was asked for."""

    def __init__(self) -> None:
        self.asked: list[list[Cell]] = []
        self.begun = 0

    def __call__(self, wanted: Sequence[Cell], work: Any, folder: Path, *, workers: int) -> None:
        self.asked.append(list(wanted))
        top1 = {"joint": 0.6, "global": 0.5, "incremental": 0.4, "nce": 0.6}
        for cell in wanted:
            noise = 0.05 * (-1) ** cell.seed if cell.method == "nce" else 0.0
            bounds = {"bounds": dict.fromkeys(SENSES, 0.8)}
            found = bounds if cell.method == "bounds" else record(top1[cell.method] + 0.001 * cell.seed + noise)
            (folder / cell.file).parent.mkdir(parents=True, exist_ok=True)
            (folder / cell.file).write_text(json.dumps({**cell.to_dict(), **found}))

    @property
    def cells(self) -> list[Cell]:
        return [cell for asked in self.asked for cell in asked]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Made:
    found = Made()
    world = WorldSummary(Path("world"), WorldConfig(size="tiny"), "a" * 64, {}, {}, 0.0)

    def base(setting: Setting) -> UniAlignRecipe:
        found.begun += 1
        (setting.output / "anchor").mkdir(parents=True, exist_ok=True)
        Path(setting.recipe.data_root).mkdir(exist_ok=True)
        Path(setting.recipe.data_root, "world.json").touch()
        return replace(setting.recipe, anchor=str(setting.output / "anchor"), world=None)

    monkeypatch.setattr(Setting, "built", lambda self: world)
    monkeypatch.setattr(Setting, "base", base)
    monkeypatch.setattr(unialign_world, "run_cells", found)
    monkeypatch.setattr(unialign_world, "parts_name", lambda folders: "abc")
    monkeypatch.setattr(unialign_world, "measure_anchor", lambda base, output: OF_ANCHOR)
    return found


def reported(tmp_path: Path, **options: Any) -> dict[str, Any]:
    path = unialign_world.run(tmp_path, tmp_path / "runs", lambda world: None, **options)
    assert path == tmp_path / "unialign-world.json"
    return dict(json.loads(path.read_text()))


def test_the_report_has_tables_claims_and_figures_of_all_cells(made: Made, tmp_path: Path) -> None:
    report = reported(tmp_path)
    assert {cell.parts for cell in made.cells} == {"abc"} and made.begun == 1
    assert len(made.asked[0]) == 3 * len(METHODS)
    assert {(cell.method, cell.seed) for cell in made.asked[1]} == {
        (method, seed) for method in ("joint", "nce") for seed in (3, 4, 5)
    }, "only what is undecided gets more seeds"
    assert report["seeds"] == [f"{seed} of abc" for seed in range(6)]
    assert report["claims"]["UA6"]["verdict"] == "reproduced" and len(report["claims"]["UA9"]["values"]) == 6
    assert report["cost"] == COST and report["anchor"] == OF_ANCHOR["anchor"]
    assert set(report["composed"]) == {f"abc/joint-seed{seed}" for seed in range(6)}
    text = (tmp_path / "unialign-world.md").read_text()
    assert "| depth | test | 10.0 |" in text and "on the anchor `p`" in text
    assert (tmp_path / "unialign-world.png").read_bytes().startswith(b"\x89PNG")


def test_old_cells_stay_and_those_of_another_anchor_are_further_seeds(made: Made, tmp_path: Path) -> None:
    folder = tmp_path / "unialign-world" / setting("world", tmp_path / "runs").key
    folder.mkdir(parents=True)
    for cell, old in records().items():
        (folder / cell.file).write_text(json.dumps({**cell.to_dict(), **old}))
    report = reported(tmp_path, only=Chosen(methods=["joint", "global"], seeds=[0]))
    assert report["claims"]["UA6"]["values"] == pytest.approx([0.1] * 4)
    assert report["seeds"] == [0, "0 of abc", 1, 2] and len(made.cells) == 2


def test_without_a_method_nothing_is_made_and_the_anchors_figures_are_the_former_ones(
    made: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "unialign-world.json").write_text(json.dumps({"command": "old", "commit": "1", "cost": COST}))
    report = reported(tmp_path, only=Chosen(methods=[]))
    assert not made.asked and not made.begun and not (tmp_path / "runs").exists()
    assert report["anchor"] == {"command": "old", "commit": "1"}
    verdicts = {name: each["verdict"] for name, each in report["claims"].items()}
    assert verdicts.pop("UA15") == "reproduced" and set(verdicts.values()) == {"not measured"}
    assert not report["seeds"] and not report["senses"]
    assert (
        "not measured: no seed has all of its methods; missing: joint, global"
        in (tmp_path / "unialign-world.md").read_text()
    )
    assert reported(tmp_path, only=Chosen(methods=["nce"], seeds=[1]))["claims"]["UA2"]["verdict"] == "not measured"
    assert reported(tmp_path, only=Chosen(methods=[]))["anchor"] == OF_ANCHOR["anchor"], "it is there now"
    with pytest.raises(ConfigError, match="there is no method 'soft'"):
        reported(tmp_path, only=Chosen(methods=["soft"]))
    with pytest.raises(ConfigError, match=r"there is no order 'reverse'. Known: none"):
        reported(tmp_path, only=Chosen(orders=["reverse"]))


def test_nothing_is_computed_on_a_world_that_the_check_refuses(made: Made, tmp_path: Path) -> None:
    def refuse(world: WorldSummary) -> None:
        raise ConfigError("not frozen", fix="Calibrate.")

    with pytest.raises(ConfigError, match="not frozen"):
        unialign_world.run(tmp_path, tmp_path / "runs", refuse)
    assert not made.begun and not list(tmp_path.iterdir())


def test_a_single_cell_that_changed_images_shows_in_the_summary() -> None:
    assert summary(records(), OF_ANCHOR)["image_path_unchanged"] is True
    changed = {**records(), Cell("global", 1): record(0.52, unchanged=False)}
    assert summary(changed, OF_ANCHOR)["image_path_unchanged"] is False
    assert summary({}, OF_ANCHOR)["image_path_unchanged"] is None, "nobody has looked"


def test_a_report_on_one_seed_is_refused_before_anything_is_trained(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no interval"):
        unialign_world.run(tmp_path, tmp_path, lambda world: None, seeds=(0,))
    assert not list(tmp_path.iterdir())
