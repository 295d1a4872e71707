"""What a COMET recipe may say, and which stages it means."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.models.comet import CometConfig
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.config import read_config
from polysense.trainer.comet_settings import CometSettings
from tests.recipes.comet_parts import comet_recipe


def tiny(**changes: Any) -> CometRecipe:
    return comet_recipe(Path("world"), Path("nets"), Path("store"), **changes)


def test_growth_replay_and_a_mediator_begin_with_the_second_stage() -> None:
    first, second = tiny().codebook_stages
    assert (first.rows, first.pmr_teacher, first.mediator) == (0, None, None)
    assert (second.rows, second.pmr_teacher, second.mediator) == (4, "frozen", "text")


def test_without_comet_nothing_grows_and_nothing_is_held() -> None:
    recipe = tiny(comet=False)
    assert all((stage.rows, stage.pmr_teacher) == (0, None) for stage in recipe.codebook_stages)
    assert recipe.strength == 0 and recipe.switches.config["num_experts"] == 0


def test_ewc_holds_the_mediator_of_the_next_stage() -> None:
    assert [tiny().held(number) for number in (1, 2)] == ["text", "text"]
    chain = tiny(stages=[{"pairs": ["video-text"]}, {"pairs": ["audio-video"]}, {"pairs": ["audio-text"]}])
    assert [stage.mediator for stage in chain.codebook_stages] == [None, "video", "audio"]
    assert [chain.held(number) for number in (1, 2, 3)] == ["video", "audio", "audio"]


def test_defaults_are_the_recommended_reading() -> None:
    usual, world = tiny(), read_config(CometRecipe, "comet", "world")
    for name in ("pmr_teacher", "ewc", "ewc_scope", "new_code_weight"):
        assert CometRecipe.__dataclass_fields__[name].default == getattr(world, name)
    assert CometSettings().replay == world.objective.replay and usual.comet
    assert CometConfig().hold_old_codes == world.model["hold_old_codes"]


def test_images_need_the_branch_that_they_are_to_use() -> None:
    values: dict[str, Any] = {"image_branch": "video"}
    assert tiny(**values).branch("image") == "video" and tiny(**values).branch("audio") is None
    assert tiny().branch("image") is None


def test_mistakes_are_named_as_the_config_is_read() -> None:
    recipe = tiny()
    stage = recipe.stages[0]
    for changes, message in (
        ({"stages": [replace(stage, pairs=["depth-text"])]}, "there are no pairs"),
        ({"stages": [stage, replace(stage, pairs=["lonely"])]}, "shares no sense"),
        ({"stages": [stage, replace(recipe.stages[1], mediator="audio")]}, "audio"),
        ({"stages": []}, "0 stages"), ({"rows": -1}, "cannot grow by -1"), ({"codes": 0}, "0 codes"),
        ({"method": "clip"}, "no method 'clip'"), ({"ewc_scope": "all"}, "no ewc_scope"), ({"ewc": -1.0}, "lambda"),
        ({"pmr_teacher": "old"}, "pmr_teacher"), ({"model": {"codebook_sizes": [4]}}, "codebook_sizes"),
        ({"model": {"num_expert": 2}}, "model: unknown key 'num_expert'.*num_experts"),
        ({"model": {"dropout": "none"}}, "model: .*dropout"), ({"frozen": ["txt"]}, "frozen: .*'txt'"),
        ({"recurrent": ["words"]}, "recurrent: .*'words'"), ({"image_branch": "vidio"}, "image_branch: .*'vidio'"),
        ({"stages": [replace(stage, rows=4)]}, "rows: the first stage adds no codes"),
    ):  # fmt: skip
        with pytest.raises(ConfigError, match=message):
            replace(recipe, **changes)


def test_a_recipe_says_where_it_is_not_the_printed_method() -> None:
    world = read_config(CometRecipe, "comet", "world")
    (told,) = world.departures
    for part in ("frozen snapshot", "encoder too", "replay weighs 0.1", "earlier stages stand still", "vCLUB"):
        assert part in told
    moving = {**world.model, "hold_old_codes": False}
    objective = CometSettings(replay=1.0)
    printed = replace(world, pmr_teacher="live", ewc_scope="adapter", model=moving, objective=objective)
    assert printed.departures == []
    (told,) = replace(printed, ewc=0.0, rows=0, model={"num_experts": 2}, new_code_weight=0.5).departures
    for part in ("no EWC", "does not grow", "2 experts", "new codes weigh 0.5"):
        assert part in told
    (told,) = replace(printed, objective=CometSettings(code=2.0, replay=0.0)).departures
    assert told == "Not as printed: there is no replay; code weighs 2."
    (told,) = replace(printed, objective=CometSettings(replay=1.0, information=0.1, sequence=0.2)).departures
    assert told == "Not as printed: information weighs 0.1; sequence weighs 0.2."
    own = CometSettings(replay=1.0, terms={"mine": 0.5, "off": 0.0})
    for method in ("dcid", "turn"):
        (told,) = replace(printed, objective=own, method=method).departures
        assert told == "Not as printed: mine, a term of its own, weighs 0.5."
    alone = replace(world, comet=False)
    assert alone.departures == ["Not as printed: no information is kept apart by vCLUB."]
    assert read_config(CometRecipe, "comet", "paper").departures == []
