from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from polysense.continual import OnlineEwc
from polysense.errors import CheckpointError, ConfigError


def consolidated(stages: int = 1) -> OnlineEwc:
    ewc = OnlineEwc(strength=2.0)
    for stage in range(stages):
        ewc.consolidate({"w": torch.tensor([1.0, 2.0]) + stage}, {"w": torch.tensor([0.5, 4.0])})
    return ewc


def test_the_penalty_by_hand() -> None:
    # 2/2 (0.5 (2-1)^2 + 4 (2-2)^2)
    assert consolidated().penalty({"w": torch.tensor([2.0, 2.0])}).item() == 0.5


def test_the_penalty_is_zero_at_the_anchor_and_its_gradient_is_that_of_the_formula() -> None:
    ewc = consolidated()
    assert ewc.penalty({"w": torch.tensor([1.0, 2.0])}).item() == 0.0
    w = torch.tensor([3.0, 1.0], requires_grad=True)
    ewc.penalty({"w": w}).backward()
    torch.testing.assert_close(w.grad, 2.0 * torch.tensor([0.5, 4.0]) * torch.tensor([2.0, -1.0]))


def test_before_the_first_stage_ends_there_is_no_penalty() -> None:
    model = nn.Linear(2, 1)
    assert OnlineEwc().penalty(model.named_parameters()).item() == 0.0


def test_importances_add_up_and_the_last_parameters_are_the_anchor() -> None:
    ewc = consolidated(stages=3)
    assert torch.equal(ewc.fisher["w"], torch.tensor([1.5, 12.0]))
    assert torch.equal(ewc.anchor["w"], torch.tensor([3.0, 4.0]))
    assert len(ewc.state_dict()) == len(consolidated().state_dict()) == 2


def test_new_parameters_join_and_idle_ones_stay() -> None:
    ewc = consolidated()
    ewc.consolidate({"w": torch.zeros(2), "new": torch.ones(1)}, {"new": torch.ones(1)})
    assert torch.equal(ewc.fisher["w"], torch.tensor([0.5, 4.0]))
    assert torch.equal(ewc.anchor["w"], torch.zeros(2))
    assert ewc.penalty({"w": torch.zeros(2), "new": torch.full((1,), 3.0)}).item() == 4.0


def test_the_anchor_does_not_follow_the_parameters() -> None:
    w, ewc = torch.tensor([1.0]), OnlineEwc()
    fisher = torch.tensor([1.0])
    ewc.consolidate({"w": w}, {"w": fisher})
    w += 1
    fisher += 1
    assert (ewc.anchor["w"].item(), ewc.fisher["w"].item()) == (1.0, 1.0)


def test_half_precision_parameters_are_compared_in_float32() -> None:
    ewc = OnlineEwc()
    ewc.consolidate({"w": torch.ones(1).bfloat16()}, {"w": torch.full((1,), 1e-30)})
    assert ewc.penalty({"w": torch.full((1,), 3.0).bfloat16()}).item() == pytest.approx(2e-30)


def test_the_state_survives_a_file(tmp_path: Path) -> None:
    ewc, loaded = consolidated(), OnlineEwc(strength=2.0)
    save_file(ewc.state_dict(), tmp_path / "ewc.safetensors")
    loaded.load_state_dict(load_file(tmp_path / "ewc.safetensors"))
    w = {"w": torch.randn(2)}
    assert torch.equal(loaded.penalty(w), ewc.penalty(w))


@pytest.mark.parametrize(
    ("state", "message"),
    [
        ({"weight": torch.ones(1)}, "weight: this key is no part"),
        ({"fisher.w": torch.ones(1)}, "w: the state holds only one"),
    ],
)
def test_a_foreign_state_is_refused_and_nothing_changes(state: dict[str, Tensor], message: str) -> None:
    ewc = consolidated()
    before = ewc.state_dict()
    with pytest.raises(CheckpointError, match=message):
        ewc.load_state_dict(state)
    assert ewc.state_dict().keys() == before.keys()


def test_parameters_that_do_not_fit_are_named_and_nothing_changes() -> None:
    ewc = consolidated()
    before = ewc.state_dict()
    with pytest.raises(ConfigError, match="w: EWC holds this parameter"):
        ewc.penalty({"v": torch.ones(2)})
    with pytest.raises(ConfigError, match=r"w: EWC holds it with shape \(2,\), the model has \(3,\)"):
        ewc.consolidate({"w": torch.ones(3)}, {"w": torch.ones(3)})
    assert all(torch.equal(each, before[key]) for key, each in ewc.state_dict().items())
    with pytest.raises(ConfigError, match="lambda is -1"):
        OnlineEwc(strength=-1.0)
