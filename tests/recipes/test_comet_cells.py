"""Cells of COMET's report on a tiny world: what they share, and what they record."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.recipes import comet_cells, comet_variants
from polysense.recipes.cells import Cell, finished_cells, run_cells
from polysense.recipes.comet import CometRun
from polysense.recipes.comet_cells import RAW, Setting, figure_name, figures, setting, trained, work
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_variants import SPOKEN, recipe_of
from polysense.recipes.config import read_config
from polysense.recipes.evaluation import Result
from polysense.recipes.sources import WorldSettings
from polysense.world import WorldConfig, WorldSummary
from tests.recipes.comet_parts import SILENT, comet_recipe, stage_folders
from tests.recipes.features import trained_nets
from tests.recipes.fixtures import Parts

OWN = "own"  # an order that is the recipe's: two stages


@pytest.fixture(scope="module")
def base(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> CometRecipe:
    nets = trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)
    return comet_recipe(parts.world, nets, tmp_path_factory.mktemp("sequences"))


def test_a_cell_tells_of_every_stage_what_the_report_needs(base: CometRecipe, tmp_path: Path) -> None:
    record = work(Cell("dcid-comet", 4, OWN), base=base, output=tmp_path)
    first, second = record["stages"]
    assert (first["trained"], second["trained"]) == (["video", "text"], ["audio", "text"])
    assert set(second) == {"name", "trained", "steps", "seconds", "figures", "codes", "codebook"}
    assert second["codebook"]["sizes"] == [8, 4] and set(second["codes"]["active_in"]) == {"0", "1", "2", "3"}
    assert first["codes"]["active_in"] is None, "the senses of the analysis are not all there"
    name = figure_name("localisation video to audio", "test", "F1, last epoch")
    assert set(second["figures"][name]) == {"value", "chance", "bound"} and name not in first["figures"]
    assert len(stage_folders(tmp_path / "seed4")) == 2 and not list((tmp_path / "seed4/training").iterdir())


def test_equal_stages_of_a_seed_are_trained_once(
    base: CometRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    quick = replace(base, evaluation=SILENT)
    made: list[int] = []
    learn = CometRun._learn

    def noted(self: CometRun, number: int, *rest: Any) -> Any:
        made.append(number)
        return learn(self, number, *rest)

    monkeypatch.setattr(CometRun, "_learn", noted)
    for method in ("dcid-comet", "comet-no-growth", "comet-no-replay"):
        trained(recipe_of(Cell(method, 0, OWN), quick), tmp_path)
    assert made == [1, 2, 2, 2]
    trained(recipe_of(Cell("dcid-printed", 0, OWN), quick), tmp_path)
    assert made[4:] == [1, 2], "what EWC is to hold is known from the first stage on"


def test_raw_sequences_bound_what_codes_can_carry(base: CometRecipe, tmp_path: Path) -> None:
    found = work(Cell(RAW, 0), base=base, output=tmp_path)["raw"]
    assert {name.split(" | ")[0] for name in found} == {"localisation video to video", "localisation audio to audio"}
    assert all(each["value"] == each["bound"] for each in found.values())
    assert {path.name for path in Path(base.data.store).iterdir()} >= {"video", "audio", "text"}


def test_of_another_config_only_its_own_pairs_are_extracted(
    base: CometRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    monkeypatch.setattr(comet_cells, "extract", lambda data, names: asked.extend(names))
    silent = replace(base, evaluation=SILENT)
    assert work(Cell(RAW, 0, "unialign"), base=silent, output=tmp_path) == {"raw": {}}
    assert asked == ["video-text", "audio-text"]
    work(Cell(RAW, 0), base=silent, output=tmp_path)
    assert {"speech-text", "audio-video", "image-text"} <= set(asked)


def test_stages_that_know_speech_are_asked_to_segment(
    base: CometRecipe, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, int]] = []

    def segmented(stage: Path, root: Path, seed: int) -> dict[str, Any]:
        asked.append((stage.name, seed))
        return {"segmentation": {"value": 0.5}}

    monkeypatch.setattr(comet_cells, "segmented", segmented)
    monkeypatch.setattr(comet_variants, "ORDERS", {SPOKEN: ("video-text", "audio-text")})
    record = work(Cell("dcid", 2, SPOKEN), base=replace(base, evaluation=SILENT), output=tmp_path)
    assert len(asked) == 2 and {seed for _, seed in asked} == {2}
    assert all(stage["figures"]["segmentation"] == {"value": 0.5} for stage in record["stages"])


def test_a_stage_that_has_not_heard_speech_is_not_asked(base: CometRecipe, tmp_path: Path) -> None:
    (stage, *_) = trained(recipe_of(Cell("dcid", 0, OWN), replace(base, evaluation=SILENT)), tmp_path)
    assert comet_cells.segmented(stage, tmp_path, 0) == {}


def test_figures_are_called_by_task_data_and_metric() -> None:
    result = Result(task="a to b", modality="b", dataset="test", metric="R@1", value=0.5, chance=0.1, count=4)
    assert figures([result]) == {"a to b | test | R@1": {"value": 0.5, "chance": 0.1, "bound": None}}


def test_finished_cells_are_found_whoever_computed_them(tmp_path: Path) -> None:
    run_cells([Cell("dcid", 3, OWN), Cell(RAW, 0)], _told, tmp_path, workers=1)
    found = finished_cells(tmp_path)
    assert set(found) == {Cell("dcid", 3, OWN), Cell(RAW, 0)} and found[Cell(RAW, 0)]["told"] == "raw"
    assert finished_cells(tmp_path / "nothing") == {}


def _told(cell: Cell) -> dict[str, Any]:
    return {"told": cell.method}


# ---- settings -------------------------------------------------------------------------------------------------------


@pytest.fixture
def built(monkeypatch: pytest.MonkeyPatch) -> list[Path]:
    """Places of worlds that were built."""
    places: list[Path] = []

    def load(folder: Path) -> WorldSummary:
        return WorldSummary(folder, WorldConfig(size="tiny"), "a" * 64, {}, {}, 0.0)

    monkeypatch.setattr(WorldSettings, "build", lambda self, root: places.append(root))
    monkeypatch.setattr(comet_cells, "load_world", load)
    return places


def test_a_setting_places_everything_in_one_folder(built: list[Path], tmp_path: Path) -> None:
    found = setting("world", tmp_path)
    data, features = found.recipe.data, found.recipe.features
    assert features is not None and built == [tmp_path / "world"]
    assert all(str(tmp_path) in place for place in (data.data_root, data.nets, data.store, features.data_root))
    assert Path(found.recipe.spoken) == Path("tests/assets/spoken").resolve()
    assert found.folder == tmp_path / "comet" / found.key


def test_keys_tell_recipes_and_not_places(built: list[Path], tmp_path: Path) -> None:
    one, again = setting("world", tmp_path / "a"), setting("world", tmp_path / "b")
    assert one.key == again.key and one.recipe != again.recipe
    licensed = setting("world", tmp_path, ["data.pairs.image-text.license=MIT"])
    assert licensed.key == one.key, "a licence changes no figure"
    assert setting("world", tmp_path, ["data.pairs.image-text.batch_size=8"]).key != one.key
    keys = {setting(name, tmp_path).key for name in ("world", "world-unialign", "world-long")}
    assert len(keys) == 3
    assert setting("world-long", tmp_path).recipe.data.store == setting("world", tmp_path).recipe.data.store


def test_the_base_of_all_cells_has_its_nets_and_trains_none(
    built: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Run:
        def __init__(self, recipe: CometRecipe, output: Path) -> None:
            assert output == found.folder / "parts" and recipe.spoken
            self.recipe = replace(recipe, data=replace(recipe.data, nets="trained"))

    monkeypatch.setattr(comet_cells, "CometRun", Run)
    found: Setting = setting("world", tmp_path)
    base = found.base()
    assert (base.features, base.spoken, base.data.world, base.data.nets) == (None, "", None, "trained")
    assert base.stages == read_config(CometRecipe, "comet", "world").stages
