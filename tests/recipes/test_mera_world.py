"""MERA's reproduction: what its cells differ in, what they record, and what the report is made of."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, fields, replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes import mera_cost, mera_world, unialign
from polysense.recipes.cells import Cell, Chosen, finished_cells
from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.mera_gains import EXPERT
from polysense.recipes.mera_world import (
    BEYOND,
    MERGED,
    METHODS,
    ORDERS,
    SENSES,
    Setting,
    beyond_cells,
    cells_of,
    language_model_kept,
    parts_settings,
    recipe_of,
    summary,
    work,
)
from polysense.recipes.sources import WorldSettings
from polysense.report.gains import ABLATED, COMPARED, REALIGNED
from polysense.world import WorldConfig, WorldSummary
from tests.recipes.mera_cells import EXPERTS, cells, expert, learner, stage

BASE = read_config(MeraRecipe, "mera", "world", ["data_root=world"])
REALIGN = BASE.realign

# ---- recipes --------------------------------------------------------------------------------------------------------


def changed(method: str) -> dict[str, Any]:
    """Fields of a method's recipe that are not those of plain fine-tuning."""
    plain, other = (
        recipe_of(Cell("fine-tuning", 3, "sequential"), BASE),
        recipe_of(Cell(method, 3, "sequential"), BASE),
    )
    return {each.name: getattr(other, each.name) for each in fields(plain)
            if getattr(plain, each.name) != getattr(other, each.name)}  # fmt: skip


def test_methods_differ_in_what_they_are_called_by() -> None:
    assert REALIGN is not None
    realign, whole = replace(REALIGN, replay=0.1), {"merge": "running_average"}
    more = {"realign": realign}
    assert changed("fine-tuning") == {}
    assert changed("replay-1") == {"joint": replace(BASE.joint, replay=0.01)}
    assert changed("replay-10") == {"joint": replace(BASE.joint, replay=0.1)}
    assert changed("ewc") == {"method": {"name": "ewc"}} and changed("pathweave") == {"method": {"name": "pathweave"}}
    assert changed("merging") == whole and changed("mera-10") == {**whole, **more}
    assert changed("mera-1") == {**whole, "realign": replace(REALIGN, replay=0.01)}
    for method in ("fine-tuning", "replay-1", "replay-10", "ewc", "pathweave"):
        assert changed(f"{method}-realigned") == {**changed(method), **more}
    assert {name: changed(f"mera-10-{name}") for name in ("ties", "dare", "slerp", "task_arithmetic")} == {
        name: {"merge": name, **more} for name in ("ties", "dare", "slerp", "task_arithmetic")
    }


def test_the_language_model_that_realigns_too_has_a_tenth_of_its_loras_rate() -> None:
    recipe = recipe_of(Cell("mera-10-unfrozen", 0, "reverse"), BASE)
    assert recipe.realign is not None and REALIGN is not None
    own = recipe.realign.learning_rates
    assert own == {**REALIGN.learning_rates, "language_model": BASE.joint.learning_rates["language_model"] / 10}


def test_plain_fine_tuning_neither_merges_nor_realigns_nor_replays() -> None:
    recipe = recipe_of(Cell("fine-tuning", 7, "reverse"), BASE)
    assert (recipe.merge, recipe.realign, recipe.joint.replay, recipe.seed) == (None, None, 0.0, 7)
    assert recipe.stages == ("point_cloud", "audio", "video", "image")
    assert recipe_of(Cell("fine-tuning", 7, "sequential"), BASE).stages == SENSES


def test_an_expert_learns_one_sense_as_a_run_that_begins_with_it_does() -> None:
    recipe = recipe_of(Cell(EXPERT, 2, "video"), BASE)
    assert recipe.stages == ("video",) and (recipe.merge, recipe.realign, recipe.seed) == (None, None, 2)
    assert (recipe.connector, recipe.joint) == (BASE.connector, BASE.joint)


def test_a_recipe_without_realigning_has_nothing_to_compare() -> None:
    with pytest.raises(ConfigError, match="realign: the recipe does not realign"):
        recipe_of(Cell("mera-10", 0, "reverse"), replace(BASE, realign=None))


def test_every_row_of_every_table_is_a_method() -> None:
    assert {*COMPARED, *ABLATED, *(name for pair in REALIGNED for name in pair)} | {"mera-10-unfrozen"} == set(METHODS)
    assert not set(MERGED) & set(METHODS)
    assert len({method.label for method in {**METHODS, **MERGED}.values()}) == len(METHODS) + len(MERGED)


# ---- cells ----------------------------------------------------------------------------------------------------------


class Run:
    """Stands for a recipe at work: stage folders that tell what made them."""

    made: list[tuple[str, ...]]

    def __init__(self, recipe: MeraRecipe, output: Path) -> None:
        self.recipe, self.output = recipe, output

    def run(self) -> list[Path]:
        Run.made.append(tuple(self.recipe.stages))
        return [self._folder(number, sense) for number, sense in enumerate(self.recipe.stages, start=1)]

    def _folder(self, number: int, sense: str) -> Path:
        folder = self.output / "stages" / f"stage-{number}-{sense}"
        (self.output / "training" / folder.name).mkdir(parents=True, exist_ok=True)
        folder.mkdir(parents=True, exist_ok=True)
        hashes = {"language model": "a", **({"language model before realigning": "a"} if number > 1 else {})}
        told = {"name": folder.name, "trained": [sense], "steps": 9, "seconds": 1.5, "hashes": hashes, "seed": 1}
        (folder / "stage.json").write_text(json.dumps(told))
        (folder / "metrics.json").write_text(json.dumps({"results": [sense], "seed": 1}))
        return folder


@pytest.fixture
def runs(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, ...]]:
    """Stages of every run that was made."""
    Run.made = []
    monkeypatch.setattr(mera_world, "MeraRun", Run)
    return Run.made


def test_a_cell_records_every_stage_and_leaves_no_training_behind(runs: list[tuple[str, ...]], tmp_path: Path) -> None:
    found = work(Cell("mera-10", 4, "reverse"), bases={"": BASE}, output=tmp_path)
    senses = ["point_cloud", "audio", "video", "image"]
    assert [each["results"] for each in found["stages"]] == [[sense] for sense in senses]
    assert set(found["stages"][1]) == {"name", "trained", "steps", "seconds", "hashes", "results"}
    assert found["peak_mib"] is None or found["peak_mib"] > 1
    assert runs == [("point_cloud",), tuple(senses)], "the first stage is made by itself, under its lock"
    assert len(list((tmp_path / "seed4/stages").iterdir())) == 4
    assert not list((tmp_path / "seed4/training").iterdir())


def test_orders_that_need_more_senses_have_a_recipe_of_their_own(runs: list[tuple[str, ...]], tmp_path: Path) -> None:
    six = replace(BASE, imports=("json",))
    work(Cell("mera-10", 0, "six"), bases={"": BASE, "six": six}, output=tmp_path)
    assert runs[-1] == ORDERS["six"] == (*SENSES, "depth", "thermal")


def test_a_cell_of_costs_measures_the_last_checkpoints(
    runs: list[tuple[str, ...]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(mera_cost, "inference_cost", lambda last, llm: {**{n: p.name for n, p in last.items()},
                                                                        "llm": str(llm)})  # fmt: skip
    found = work(Cell("cost", 0, "sequential"), bases={"": BASE}, output=tmp_path)["inference"]
    assert set(found) == {*COMPARED, "llm"} and found["pathweave"] == "stage-4-point_cloud"


def test_a_language_model_that_realigning_moved_shows() -> None:
    before, after = "language model before realigning", "language model"
    stages = [stage({}, hashes={after: "a"}), stage({}, hashes={before: "b", after: "b"})]
    kept = {Cell("mera-10", 0, "reverse"): {"stages": stages}}
    moved = {"stages": [stage({}, hashes={before: "b", after: "c"})]}
    assert language_model_kept(kept)
    assert language_model_kept({**kept, Cell("mera-10-unfrozen", 0, "reverse"): moved}), "there it has to move"
    assert not language_model_kept({**kept, Cell("ewc-realigned", 0, "reverse"): moved})


# ---- the whole ------------------------------------------------------------------------------------------------------


def test_experts_come_first_and_every_method_runs_in_both_orders() -> None:
    found = cells_of([5], ["ewc", "mera-1"])
    assert found[:4] == [Cell(EXPERT, 5, sense) for sense in SENSES]
    assert [each.name for each in found[4:]] == [f"{method}-{order}-seed5" for order in ("sequential", "reverse")
                                                for method in ("ewc", "mera-1")]  # fmt: skip
    several = cells_of([0, 1], ["merging", "mera-10"])
    assert [each.seed for each in several[8:]] == [0, 0, 1, 1] * 2, "what the paper compares is there first"
    assert [each.method for each in several[8::4]] == ["mera-10", "merging"]
    beyond = beyond_cells(0)
    assert {each.order for each in beyond if each.method != EXPERT} == {"unialign", "six", "sequential"}
    assert [each.order for each in beyond if each.method == EXPERT][3:6] == [
        "unialign-point_cloud", "six-image", "six-video",
    ]  # fmt: skip


def test_what_cells_rest_on_names_the_configs_of_language_model_and_encoders() -> None:
    found = parts_settings(BASE)
    assert set(found) == {"llm", "clip", "net:audio", "unialign:world"}
    assert list(found["net:audio"]["nets"]) == ["audio"] and found["llm"]["model"] and found["clip"]["vision"]
    assert [set(each) >= {"sources", "loop"} for each in found["unialign:world"]] == [True, True], "and of its anchor"
    assert parts_settings(replace(BASE, llm=".", senses={}))["llm"] == "."


@pytest.fixture
def found(tmp_path: Path) -> Setting:
    world = WorldSummary(Path("world"), WorldConfig(size="tiny"), "a" * 64, {}, {}, 0.0)
    return Setting(recipe=BASE, world=world, key="k" * 12, output=tmp_path / "runs")


class Made:
    """Stands for `run_cells`: knows every cell, and what was asked for."""

    def __init__(self, kept: Mapping[str, Sequence[float]], noise: float) -> None:
        self.kept, self.noise, self.asked = kept, noise, list[list[Cell]]()

    def __call__(self, wanted: Sequence[Cell], work: Any, folder: Path, *, workers: int) -> dict[Cell, Any]:
        folder.mkdir(parents=True, exist_ok=True)
        self.asked.append(list(wanted))
        made = {cell: {**asdict(cell), **self._record(cell)} for cell in wanted}
        for cell, record in made.items():
            (folder / f"{cell.name}.json").write_text(json.dumps(record))
        return made

    def _record(self, cell: Cell) -> dict[str, Any]:
        if cell.method == EXPERT:
            sense = cell.order.rpartition("-")[2]
            return expert(sense) if sense in EXPERTS else {"stages": [stage({sense: (1.0, 0.5)})]}
        if cell.method == "cost":
            ratios = {name: {"bytes": 4.0, "flops": 2.0, "milliseconds": 1.0} for name in COMPARED}
            return {"inference": {**ratios, mera_cost.BASE: ratios["mera-10"]}}
        shift = self.noise * (-1) ** cell.seed if cell.method == "mera-1" else 0.0
        if cell.order in ("six", "unialign"):
            return {"stages": []}
        return learner(cell.order, [each + shift for each in self.kept[cell.method]])


KEPT = {
    **dict.fromkeys((*METHODS, *MERGED), (0.5, 0.5, 0.5)),
    "mera-1": (0.7, 0.7, 0.7), "mera-10": (0.98, 0.98, 0.98),
}  # fmt: skip


def reported(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, noise: float = 0.0, **options: Any
) -> tuple[dict[str, Any], Made]:
    made = Made(KEPT, noise)
    monkeypatch.setattr(mera_world, "setting", lambda config, output: found)
    monkeypatch.setattr(Setting, "base", lambda self: self.recipe)
    monkeypatch.setattr(Setting, "six", lambda self, base: base)
    monkeypatch.setattr(mera_world, "run_cells", made)
    monkeypatch.setattr(mera_world, "parts_name", lambda folders: "")
    monkeypatch.setattr(mera_world, "fingerprint", lambda folder, ignore: "f" * 64)
    path = mera_world.run(tmp_path, tmp_path / "runs", lambda setting: None, **options)
    assert path == tmp_path / "mera-world.json"
    return json.loads(path.read_text()), made


def test_the_report_has_tables_claims_and_figures_of_all_cells(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, made = reported(found, tmp_path, monkeypatch)
    assert [len(asked) for asked in made.asked[:1]] == [3 * (4 + 2 * len(METHODS))]
    assert report["gains"]["sequential"]["mera-10"]["mean"]["mean"] == pytest.approx(0.985)
    assert report["seeds"][:3] == [0, 1, 2] and report["parts"] == dict.fromkeys(
        ("language model", "clip", "net:audio", "unialign:world"), "f" * 64
    )
    assert report["cost"]["mera-10"] == dict.fromkeys(
        ("training memory", "training time", "inference memory", "latency per token"), 1.0
    )
    assert list(report["claims"])[:3] == ["ME1", "ME2", "ME3"] and list(report["claims"])[-1] == "aim (reverse)"
    numbers = {int(name.split()[0].removeprefix("ME")) for name in report["claims"] if name.startswith("ME")}
    assert numbers == set(range(1, 22))
    text = (tmp_path / "mera-world.md").read_text()
    assert "MERA (10 %)" in text and "video clip" in text
    assert (tmp_path / "mera-world.png").read_bytes().startswith(b"\x89PNG")
    assert (tmp_path / "mera-world" / found.key).is_dir()


def test_chosen_methods_alone_are_computed_and_the_report_is_on_all_that_is_there(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first, _ = reported(found, tmp_path, monkeypatch, only=Chosen(methods=["expert", "fine-tuning", "mera-10"]))
    assert set(first["gains"]["reverse"]) == {"fine-tuning", "mera-10"}
    assert first["claims"]["ME1"]["values"] and not first["claims"]["ME10 (mean)"]["values"]
    second, made = reported(found, tmp_path, monkeypatch, only=Chosen(methods=["merging"]))
    assert {cell.method for asked in made.asked for cell in asked} == {"merging"}
    assert set(second["gains"]["reverse"]) == {"fine-tuning", "merging", "mera-10"}
    reported(found, tmp_path, monkeypatch, only=Chosen(methods=["ewc"], seeds=[2], orders=["reverse"]))
    assert {(cell.method, cell.seed) for cell in finished_cells(tmp_path / "mera-world") if cell.method == "ewc"} == {
        ("ewc", 2)
    }
    with pytest.raises(ConfigError, match="no method 'mearging'"):
        reported(found, tmp_path, monkeypatch, only=Chosen(methods=["mearging"]))


def test_only_what_is_undecided_gets_more_seeds(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, made = reported(found, tmp_path, monkeypatch, noise=0.3)
    assert report["claims"]["ME4"]["verdict"] == "undecided within the spread"
    assert len(report["claims"]["ME4"]["values"]) == 6
    assert {cell.seed for cell in made.asked[1]} == {3, 4, 5}
    assert "mera-1" in {cell.method for cell in made.asked[1]}
    assert {cell.seed for cell in made.asked[-1]} == {0, 1, 2} and made.asked[-1][0].method == "cost"


def test_beyond_the_paper_are_six_senses_and_other_ways_to_merge(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    report, made = reported(found, tmp_path, monkeypatch, beyond=["merging"])
    assert {cell.method for cell in made.asked[-2]} == {*MERGED}
    report, made = reported(found, tmp_path, monkeypatch, beyond=BEYOND)
    assert {cell.method for cell in made.asked[-2]} == {EXPERT, "mera-10", "fine-tuning", *MERGED}
    assert {cell.seed for cell in made.asked[-2]} == {0}
    assert report["gains"]["sequential"]["mera-10-ties"]["mean"]["low"] is None
    with pytest.raises(ConfigError, match="nothing beyond the paper is called 'seven'"):
        reported(found, tmp_path, monkeypatch, beyond=["seven"])
    assert "Further variants" in (tmp_path / "mera-world.md").read_text()


def test_nothing_is_trained_on_a_world_that_the_check_refuses(
    found: Setting, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(setting: Setting) -> None:
        assert setting is found
        raise ConfigError("not calibrated", fix="Calibrate.")

    monkeypatch.setattr(mera_world, "setting", lambda config, output: found)
    monkeypatch.setattr(Setting, "base", lambda self: pytest.fail("trained"))
    with pytest.raises(ConfigError, match="not calibrated"):
        mera_world.run(tmp_path, tmp_path / "runs", refuse)
    assert not list(tmp_path.iterdir())


def test_a_report_on_one_seed_is_refused_before_anything_is_made(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no interval"):
        mera_world.run(tmp_path, tmp_path, lambda found: None, seeds=(0,))
    assert not list(tmp_path.iterdir())


def test_a_setting_is_called_by_world_recipe_and_parts(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    built: list[tuple[str, Path]] = []
    monkeypatch.setattr(WorldSettings, "build", lambda self, root: built.append((self.difficulty, root)))
    worlds = (WorldSummary(Path("world"), WorldConfig(size="tiny"), name * 64, {}, {}, 0.0) for name in "aab")
    monkeypatch.setattr(mera_world, "load_world", lambda root: next(worlds))
    first, elsewhere, other = (mera_world.setting("world", tmp_path / name) for name in ("one", "two", "two"))
    assert first.key == elsewhere.key != other.key, "where it is made is no part of it"
    assert first.recipe.data_root == str(built[0][1].resolve()) and built[0][1].parent == tmp_path / "one"
    assert first.folder == tmp_path / "one" / "mera" / first.key


def test_all_cells_begin_with_the_same_parts(monkeypatch: pytest.MonkeyPatch, found: Setting) -> None:
    class Parts:
        llm = Path("llama")

        def __init__(self, recipe: MeraRecipe, output: Path) -> None:
            assert output.name.startswith("parts-")

        def encoder(self, name: str) -> Path:
            return Path(name.replace(":", "-"))

        @staticmethod
        def elsewhere(name: str) -> bool:
            return False

    monkeypatch.setattr(mera_world, "MeraRun", Parts)
    base = found.base()
    assert base.world is None and Path(base.llm).name == "llama" and Path(base.llm).is_absolute()
    assert {Path(each.encoder).name for each in base.senses.values()} == {"clip", "net-audio", "unialign-world"}
    assert base.frozen_store is not None and Path(base.frozen_store).name == "frozen-tokens"
    assert {key for key, value in asdict(base).items() if value != asdict(found.recipe)[key]} == {
        "llm", "senses", "world", "frozen_store",
    }  # fmt: skip


def test_a_unialign_checkpoint_can_be_the_encoder_of_every_sense(found: Setting) -> None:
    one = found.one_encoder(BASE)
    assert {each.encoder for each in one.senses.values()} == {"unialign:world"} and set(one.senses) == set(SENSES)


def test_six_senses_share_an_encoder_that_has_learned_the_last_one(
    monkeypatch: pytest.MonkeyPatch, found: Setting
) -> None:
    asked: list[Any] = []

    def train(config: str, output: Path, overrides: list[str], imports: list[str]) -> Path:
        asked.append((config, output, overrides, imports))
        return output / "stages/stage-1-thermal"

    monkeypatch.setattr(unialign, "run", train)
    six = found.six(BASE)
    assert asked[0][0] == "world" and asked[0][3] == ["thermal"] == list(six.imports)
    assert set(six.senses) == set(six.evaluation.tests) == set(six.sources) == set(ORDERS["six"])
    assert {Path(each.encoder).name for each in six.senses.values()} == {"stage-1-thermal"}
    assert six.senses["video"].pool == BASE.senses["video"].pool and not six.senses["video"].processor
    assert six.sources["thermal"].modality == six.evaluation.tests["thermal"].modality == "thermal"
    assert six.sources["thermal"].data == BASE.sources["image"].data


def test_the_summary_is_json_and_says_which_methods_there_are() -> None:
    found = summary(cells({"fine-tuning": (0.4, 0.4, 0.4)}))
    assert json.loads(json.dumps(found, allow_nan=False)) == found
    assert found["methods"]["mera-10-ties"] == "MERA (10 %), ties" and found["language_model_unchanged"] is True
    assert found["raw"]["reverse"]["experts"]["image"] == pytest.approx({"captioning": 1.0, "question answering": 0.4})
    assert found["cost"]["ewc"]["training time"] is None
