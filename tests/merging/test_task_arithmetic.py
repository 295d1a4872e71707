from __future__ import annotations

import pytest
import torch
from peft.utils.merge_utils import task_arithmetic as peft_task_arithmetic

from polysense.errors import ConfigError
from polysense.merging import running_average, task_arithmetic


def test_a_scaled_update_by_hand() -> None:
    previous, current = {"w": torch.tensor([1.0, 2.0])}, {"w": torch.tensor([3.0, 0.0])}
    assert task_arithmetic(previous, current, stage=2, scale=0.25)["w"].tolist() == [1.5, 1.5]


def test_stage_after_stage_it_adds_the_weighted_task_vectors() -> None:
    start, first, second = (torch.randn(9) for _ in range(3))
    merged = task_arithmetic({"w": start}, {"w": start + first}, stage=2, scale=0.3)
    merged = task_arithmetic(merged, {"w": merged["w"] + second}, stage=3, scale=0.3)
    expected = start + peft_task_arithmetic([first, second], torch.tensor([0.3, 0.3]))
    torch.testing.assert_close(merged["w"], expected)


def test_scale_one_over_i_is_the_running_average() -> None:
    previous, current = {"w": torch.randn(9)}, {"w": torch.randn(9)}
    merged = task_arithmetic(previous, current, stage=4, scale=0.25)
    assert torch.equal(merged["w"], running_average(previous, current, stage=4)["w"])


@pytest.mark.parametrize("scale", [float("nan"), float("inf")])
def test_the_scale_has_to_be_a_number(scale: float) -> None:
    with pytest.raises(ConfigError, match=r"^scale: scale is (nan|inf)"):
        task_arithmetic({}, {}, stage=2, scale=scale)
