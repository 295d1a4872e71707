from __future__ import annotations

import pytest
import torch
from torch import nn

from polysense.errors import CheckpointError
from polysense.models.encoders.published import load_strictly, renamed

RULES = ((r"old\.(\w+)", r"new.\1"), (r"(old\.deep\.\w+)", r"\1"))


def test_the_first_fitting_rule_names_a_weight_and_some_are_left_out() -> None:
    state = {"old.weight": torch.zeros(1), "old.deep.bias": torch.ones(1), "head.weight": torch.ones(2)}
    out = renamed(state, RULES, left_out=r"head\..*", where="model")
    assert set(out) == {"new.weight", "old.deep.bias"} and out["new.weight"] is state["old.weight"]


def test_a_weight_that_fits_nothing_is_named() -> None:
    with pytest.raises(CheckpointError, match=r"extra\.weight: no model has this weight"):
        renamed({"extra.weight": torch.zeros(1)}, RULES, left_out="x", where="model")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bias": None}, r"missing \['bias'\], unknown \[\]"),
        ({"scale": torch.zeros(1)}, r"missing \[\], unknown \['scale'\]"),
        ({"weight": torch.zeros(3, 2)}, r"weight: the weight has shape \(3, 2\), not \(2, 2\)"),
    ],
)
def test_loading_is_all_or_nothing(changes: dict[str, torch.Tensor | None], message: str) -> None:
    model = nn.Linear(2, 2)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    wanted = {"weight": torch.ones(2, 2), "bias": torch.ones(2), **changes}
    with pytest.raises(CheckpointError, match=message):
        load_strictly(model, {name: value for name, value in wanted.items() if value is not None})
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
    load_strictly(model, {"weight": torch.ones(2, 2), "bias": torch.ones(2)})
    assert bool((model.weight == 1).all())
