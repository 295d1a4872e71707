"""What COMET's report compares: methods as changes of one recipe, and the orders in which pairs of senses come."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError
from polysense.recipes.cells import Cell
from polysense.recipes.comet_config import CometRecipe, CometStageSettings
from polysense.recipes.feature_pairs import PairRecipe

FIRST, SECOND, SPOKEN, HEARD = "vt-at-it", "at-vt-it", "vt-st-at", "at-av-it"
ORDERS: Mapping[str, Sequence[str]] = {
    FIRST: ("video-text", "audio-text", "image-text"),
    SECOND: ("audio-text", "video-text", "image-text"),
    SPOKEN: ("video-text", "speech-text", "audio-text"),
    HEARD: ("audio-text", "audio-video", "image-text"),  # video is reached through sound
}
"""Name of an order to the pairs of its stages."""
CONFIGS: Mapping[str, str] = {"unialign": "world-unialign", "long": "world-long"}
"""Orders that are those of a config of their own: other features, and more senses."""
FRESH: Mapping[str, int] = {f"fresh-{seed}": seed for seed in (101, 102, 103)}
"""The first order on worlds from which nothing in the recipe was chosen: name to their seed, and that of the runs."""
EVERY_ORDER = (*ORDERS, *CONFIGS, *FRESH)

BARE, COMET, PRINTED = "", "comet", "printed"
_EXPERTS = 6  # of the recipe
SETTINGS = (COMET, PRINTED)
"""Readings of COMET: as the recipe recommends it, with a frozen teacher, and as it is printed."""
RIVALS = ("turn", "cmcm", "dcid")
NUMBERS = (1, 2, 4, 6, 8)
"""Of experts (Figure 2)."""


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method changes in the recipe.

    Attributes:
        label: its name in tables.
        recipe: fields of the recipe.
        model, objective: entries of its `model` and fields of its `objective`.
        pairs: names of pairs, and those that are learned in their place.
        narrated: share of the samples of these that are told second by second, if not what the recipe says.
        all_codes: has from the beginning as many codes as COMET has at the end.
    """

    label: str
    recipe: Mapping[str, Any] = field(default_factory=dict)
    model: Mapping[str, Any] = field(default_factory=dict)
    objective: Mapping[str, Any] = field(default_factory=dict)
    pairs: Mapping[str, str] = field(default_factory=dict)
    narrated: float | None = None
    all_codes: bool = False


_WITHOUT: Mapping[str, Any] = {"comet": False}
_READINGS: Mapping[str, Method] = {
    BARE: Method(label="", recipe=_WITHOUT), COMET: Method(label=" + COMET"),
    PRINTED: Method(
        label=" + COMET as printed", recipe={"pmr_teacher": "live", "ewc_scope": "adapter"},
        model={"hold_old_codes": False}, objective={"replay": 1.0},
    ),
}  # fmt: skip

REMOVALS: Mapping[str, Method] = {
    "replay": Method(label="replay", recipe={"pmr_teacher": None}),
    "experts": Method(label="experts", model={"num_experts": 0}),
    "gate": Method(label="gate loss", objective={"gate": 0.0}),
    "ewc": Method(label="EWC", recipe={"ewc": 0.0}),
    "specific": Method(label="specific layers", model={"expert_specific": False}),
    "growth": Method(label="growth", recipe={"rows": 0}),
}
"""Parts that are removed (Tables 6 and 8, and growth). As printed, EWC holds nothing but the experts, and goes with
them."""


_OTHER_SCOPES = {
    COMET: ("narrow-ewc", "adapter", "the adapter alone"),
    PRINTED: ("wide-ewc", "adapter+encoder", "the text's encoder too"),
}


def named(rival: str, setting: str = BARE) -> str:
    """The method that is a rival alone, or with COMET in one of its readings."""
    return f"{rival}-{setting}" if setting else rival


def full(setting: str) -> str:
    """COMET in one of its readings: what it adds to DCID."""
    return named("dcid", setting)


def without(setting: str, part: str) -> str:
    """COMET in one of its readings with one part removed."""
    return f"{setting}-no-{part}"


def with_experts(setting: str, number: int) -> str:
    """COMET with so many experts."""
    return full(setting) if number == _EXPERTS else f"{setting}-experts-{number}"


def _rivals() -> dict[str, Method]:
    return {
        named(rival, setting): replace(
            reading, label=rival.upper() + reading.label, recipe={"method": rival, **reading.recipe}
        )
        for setting, reading in _READINGS.items()
        for rival in reversed(RIVALS)
    }


def _ablations() -> dict[str, Method]:
    return {name: _on(_READINGS[setting], each) for setting in SETTINGS for name, each in _changes(setting).items()}


def _changes(setting: str) -> dict[str, Method]:
    """What is changed in a reading, with labels that follow its name."""
    found = {without(setting, part): replace(each, label=f" - {each.label}") for part, each in REMOVALS.items()}
    if setting == PRINTED:
        experts = without(setting, "experts")
        found[experts] = replace(found[experts], recipe={"ewc": 0.0})
    for number in NUMBERS:
        if (name := with_experts(setting, number)) != full(setting):
            label = f", {number} expert{'s' * (number > 1)}"
            found[name] = Method(label=label, model={"num_experts": number})
    if setting == COMET:
        found["comet-moving-codes"] = Method(label=", old codes moving", model={"hold_old_codes": False})
    key, scope, held = _OTHER_SCOPES[setting]
    found[f"{setting}-{key}"] = Method(label=f", EWC on {held}", recipe={"ewc_scope": scope})
    return found


def _on(reading: Method, change: Method) -> Method:
    return replace(
        change, label=reading.label.removeprefix(" + ") + change.label, recipe={**reading.recipe, **change.recipe},
        model={**reading.model, **change.model}, objective={**reading.objective, **change.objective},
    )  # fmt: skip


CONTROLS: Mapping[str, Method] = {
    "dcid-no-contrast": Method(label="DCID - Cross-CPC", recipe=_WITHOUT, objective={"contrast": 0.0}),
    "dcid-frozen-text": Method(label="DCID, text frozen", recipe={**_WITHOUT, "frozen": (TEXT,)}),
    "dcid-ewc-text": Method(label="DCID, EWC on text", recipe={**_WITHOUT, "ewc_scope": "encoder"}),
    "dcid-protected": Method(
        label="DCID, old codes protected", recipe={**_WITHOUT, "protect": True}, model={"hold_old_codes": False}
    ),
    "dcid-held": Method(
        label="DCID, old codes held", recipe={**_WITHOUT, "protect": True}, model={"hold_old_codes": True}
    ),
    "dcid-all-codes": Method(label="DCID, all codes at once", recipe=_WITHOUT, all_codes=True),
    "dcid-video-images": Method(label="DCID, images as films", recipe={**_WITHOUT, "image_branch": "video"}),
    "comet-video-images": Method(label="COMET, images as films", recipe={"image_branch": "video"}),
}
"""What explains an effect without COMET, and Part 0's Cross-CPC removed."""

_CAPTIONS = {"video-text": "video-captions", "audio-text": "audio-captions"}
_LABELS = {name: name for name in _CAPTIONS}
TEXTS: Mapping[str, Method] = {
    **{
        f"dcid-captions-{share}": Method(
            label=f"DCID, told by captions, {share} % second by second", recipe=_WITHOUT, pairs=_CAPTIONS,
            narrated=share / 100,
        )
        for share in (0, 20, 40)
    },
    **{
        f"dcid-narrated-{share}": Method(
            label=f"DCID, {share} % second by second", recipe=_WITHOUT, pairs=_LABELS, narrated=share / 100
        )
        for share in (0, 100)
    },
    "dcid-attention": Method(label="DCID, blended by attention", recipe=_WITHOUT, model={"mixing": "attention"}),
}  # fmt: skip
"""What text says, and how its steps meet those of the other sense."""

COMPARED: Mapping[str, Method] = _rivals()
"""Rivals with and without COMET: rows of Tables 1 to 4 and 7."""
ABLATIONS: Mapping[str, Method] = _ablations()
METHODS: Mapping[str, Method] = {**COMPARED, **ABLATIONS, **CONTROLS, **TEXTS}


def recipe_of(cell: Cell, base: CometRecipe) -> CometRecipe:
    """The recipe of one cell: its order, its seed and what its method changes.

    Raises:
        ConfigError: no such method, or pairs that the recipe does not have.
    """
    if cell.method not in METHODS:
        raise ConfigError(f"there is no method {cell.method!r}", fix=f"Known methods: {', '.join(METHODS)}.")
    method, pairs = METHODS[cell.method], ORDERS.get(cell.order)
    stages = base.stages if pairs is None else tuple(CometStageSettings(pairs=(pair,)) for pair in pairs)
    if method.pairs:
        stages = tuple(replace(each, pairs=[method.pairs.get(name, name) for name in each.pairs]) for each in stages)
    more = {"codes": base.codes + (len(stages) - 1) * base.rows} if method.all_codes else {}
    return replace(
        base, seed=cell.seed, stages=stages, data=_told(base.data, method), model={**base.model, **method.model},
        objective=replace(base.objective, **method.objective), evaluation=replace(base.evaluation, seed=cell.seed),
        **{**method.recipe, **more},
    )  # fmt: skip


def _told(data: PairRecipe, method: Method) -> PairRecipe:
    """The data, with the method's share of narrated samples in the pairs that it names."""
    if method.narrated is None:
        return data
    told = {name: replace(data.pairs[name], narrated=method.narrated) for name in method.pairs.values()}
    return replace(data, pairs={**data.pairs, **told})


def cells_of(seeds: Sequence[int]) -> list[Cell]:
    """All cells of the paper's tables and figures, the most telling first."""
    core = ["dcid", *map(full, SETTINGS)]
    groups: list[tuple[str, list[str]]] = [
        (FIRST, core), (SECOND, core),
        *((order, [name for name in COMPARED if name not in core]) for order in (FIRST, SECOND)),
        (FIRST, list(ABLATIONS)), (FIRST, list(CONTROLS)), (FIRST, list(TEXTS)), (SPOKEN, core),
    ]  # fmt: skip
    return [Cell(method, seed, order) for order, methods in groups for seed in seeds for method in methods]


def fresh_cells() -> list[Cell]:
    """What COMET adds to DCID, in either reading, on worlds of other seeds."""
    return [Cell(method, seed, order) for order, seed in FRESH.items() for method in ("dcid", *map(full, SETTINGS))]


def extra_cells(seed: int, *, beyond: bool) -> list[Cell]:
    """On one seed: the codebook on a UniAlign checkpoint; and beyond the paper, another mediator and more senses."""
    orders = ["unialign", *([HEARD, "long"] if beyond else [])]
    return [Cell(method, seed, order) for order in orders for method in ("dcid", full(COMET))]


__all__ = [
    "COMET", "COMPARED", "CONFIGS", "EVERY_ORDER", "FIRST", "FRESH", "METHODS", "ORDERS", "PRINTED", "SECOND",
    "SPOKEN", "Method", "cells_of", "extra_cells", "fresh_cells", "full", "named", "recipe_of", "with_experts",
    "without",
]  # fmt: skip
