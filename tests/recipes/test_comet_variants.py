"""What COMET's methods change, which orders there are, and what is computed first."""

from __future__ import annotations

from dataclasses import fields, replace
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes.cells import Cell
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.comet_variants import (
    COMPARED,
    CONFIGS,
    CONTROLS,
    EVERY_ORDER,
    FIRST,
    FRESH,
    METHODS,
    NUMBERS,
    ORDERS,
    SETTINGS,
    SPOKEN,
    cells_of,
    extra_cells,
    fresh_cells,
    full,
    recipe_of,
    with_experts,
    without,
)
from polysense.recipes.config import read_config

BASE = read_config(CometRecipe, "comet", "world")
LIVE: dict[str, Any] = {
    "pmr_teacher": "live",
    "ewc_scope": "adapter",
    "model": {**BASE.model, "hold_old_codes": False},
    "objective": replace(BASE.objective, replay=1.0),
}


def changed(method: str, order: str = FIRST) -> dict[str, Any]:
    """Fields in which a method's recipe is not that of DCID with COMET."""
    plain, other = (recipe_of(Cell(name, 3, order), BASE) for name in ("dcid-comet", method))
    return {each.name: getattr(other, each.name) for each in fields(plain)
            if getattr(plain, each.name) != getattr(other, each.name)}  # fmt: skip


def test_rivals_are_the_three_methods_alone_and_with_either_reading() -> None:
    assert changed("dcid-comet") == {} and changed("dcid") == {"comet": False}
    assert changed("turn") == {"method": "turn", "comet": False} and changed("cmcm-comet") == {"method": "cmcm"}
    assert changed("dcid-printed") == LIVE and changed("turn-printed") == {"method": "turn", **LIVE}
    assert len(COMPARED) == 9


def test_a_removal_takes_one_part_away_and_what_rests_on_it() -> None:
    model, gate = dict(BASE.model), replace(BASE.objective, gate=0.0)
    removed = {
        "replay": {"pmr_teacher": None}, "experts": {"model": {**model, "num_experts": 0}},
        "gate": {"objective": gate}, "ewc": {"ewc": 0.0}, "specific": {"model": {**model, "expert_specific": False}},
        "growth": {"rows": 0},
    }  # fmt: skip
    for part, changes in removed.items():
        assert changed(without("comet", part)) == changes
        printed = {**LIVE, **changes}
        if part == "experts":
            printed["ewc"] = 0.0  # it would hold nothing
        if "model" in changes:
            printed["model"] = {**changes["model"], "hold_old_codes": False}
        if part == "gate":
            printed["objective"] = replace(LIVE["objective"], gate=0.0)
        assert changed(without("printed", part)) == printed


def test_experts_are_counted_and_the_usual_number_is_the_method_itself() -> None:
    assert [with_experts("comet", number) for number in NUMBERS].count("dcid-comet") == 1
    for setting in SETTINGS:
        assert all(with_experts(setting, number) in METHODS for number in NUMBERS)
        assert recipe_of(Cell(full(setting), 0, FIRST), BASE).model["num_experts"] == 6
    assert changed("printed-experts-2") == {**LIVE, "model": {**LIVE["model"], "num_experts": 2}}
    assert changed("comet-moving-codes") == {"model": LIVE["model"]}
    assert changed("comet-narrow-ewc") == {"ewc_scope": "adapter"}
    assert changed("printed-wide-ewc") == {name: each for name, each in LIVE.items() if name != "ewc_scope"}


def test_controls_explain_without_comet() -> None:
    bare = {"comet": False}
    assert changed("dcid-frozen-text") == {**bare, "frozen": ("text",)}
    assert changed("dcid-ewc-text") == {**bare, "ewc_scope": "encoder"}
    assert recipe_of(Cell("dcid-ewc-text", 0, FIRST), BASE).strength == BASE.ewc
    assert changed("dcid-held") == {**bare, "protect": True}
    assert changed("dcid-protected") == {**bare, "protect": True, "model": LIVE["model"]}
    assert changed("dcid-all-codes") == {**bare, "codes": BASE.codes + 2 * BASE.rows}, "as many as COMET ends with"
    assert changed("dcid-no-contrast")["objective"].contrast == 0
    assert {changed(f"{name}-video-images")["image_branch"] for name in ("dcid", "comet")} == {"video"}
    assert all(name.startswith("dcid") or name == "comet-video-images" for name in CONTROLS)


def test_texts_are_told_in_other_ways_or_blended_otherwise() -> None:
    some, none = (recipe_of(Cell(f"dcid-captions-{share}", 0, FIRST), BASE) for share in (40, 0))
    assert [list(stage.pairs) for stage in some.stages] == [["video-captions"], ["audio-captions"], ["image-text"]]
    assert {some.data.pairs[f"{sense}-captions"].narrated for sense in ("video", "audio")} == {0.4}
    assert {none.data.pairs[f"{sense}-captions"].narrated for sense in ("video", "audio")} == {0.0}
    assert some.data.pairs["video-text"] == BASE.data.pairs["video-text"] and not some.comet
    assert changed("dcid-attention")["model"] == {**BASE.model, "mixing": "attention"}


def test_labels_are_narrated_less_or_throughout() -> None:
    for share in (0, 100):
        told = recipe_of(Cell(f"dcid-narrated-{share}", 0, FIRST), BASE).data.pairs
        assert {told[f"{sense}-text"].narrated for sense in ("video", "audio")} == {share / 100}


def test_an_order_decides_the_pairs_and_a_seed_all_that_is_drawn() -> None:
    recipe = recipe_of(Cell("dcid-comet", 7, "at-vt-it"), BASE)
    assert [stage.pairs for stage in recipe.stages] == [("audio-text",), ("video-text",), ("image-text",)]
    assert (recipe.seed, recipe.evaluation.seed) == (7, 7)
    assert recipe_of(Cell("dcid", 0, "unialign"), BASE).stages == BASE.stages, "it is the config's own"
    heard = recipe_of(Cell("dcid-comet", 0, "at-av-it"), BASE)
    assert [stage.mediator for stage in heard.codebook_stages] == [None, "audio", "text"]
    with pytest.raises(ConfigError, match=r"there is no method .comet.*dcid-comet"):
        recipe_of(Cell("comet", 0, FIRST), BASE)


def test_every_method_can_be_a_recipe_in_every_order() -> None:
    names = [method.label for method in METHODS.values()]
    assert len(set(names)) == len(METHODS)
    for method in METHODS:
        for order in ORDERS:
            if "video-images" in method and order != FIRST:
                continue
            recipe_of(Cell(method, 0, order), BASE)


def test_the_chain_of_six_ends_with_a_sense_of_the_users_own() -> None:
    long = read_config(CometRecipe, "comet", CONFIGS["long"])
    assert [stage.pair[0] for stage in long.codebook_stages] == [
        "video", "audio", "image", "depth", "point_cloud", "thermal",
    ]  # fmt: skip
    assert tuple(long.imports) == ("thermal",) and {stage.pair[1] for stage in long.codebook_stages} == {"text"}
    assert {f"{stage.name}" for stage in long.stages} <= set(long.evaluation.retrieval)


def test_the_most_telling_cells_come_first() -> None:
    cells = cells_of((0, 1))
    assert [each.name for each in cells[:3]] == [f"{m}-{FIRST}-seed0" for m in ("dcid", "dcid-comet", "dcid-printed")]
    assert {cell.order for cell in cells[:6]} == {FIRST} and {cell.seed for cell in cells[:6]} == {0, 1}
    assert len(cells) == len(set(cells)) and {cell.method for cell in cells} == set(METHODS)
    assert cells[-1].order == SPOKEN
    assert {(cell.order, cell.seed) for cell in fresh_cells()} == set(FRESH.items())
    assert {cell.order for cell in extra_cells(0, beyond=False)} == {"unialign"}
    assert {cell.order for cell in extra_cells(0, beyond=True)} == {"unialign", "at-av-it", "long"}
    computed = [*cells, *fresh_cells(), *extra_cells(0, beyond=True)]
    assert {cell.order for cell in computed} == set(EVERY_ORDER), "each of them can be asked for"
