from __future__ import annotations

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging import (
    concatenate_factors,
    effective_weight,
    lora_delta,
    merge_coefficients,
    running_average,
)

FIRST = (torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0], [0.0]]))
SECOND = (torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0], [1.0]]))


def factors(rank: int, *, outputs: int = 12, inputs: int = 9, scale: float = 0.5) -> tuple[Tensor, Tensor, float]:
    return torch.randn(rank, inputs), torch.randn(outputs, rank), scale


def relative_error(found: Tensor, expected: Tensor) -> float:
    return float((found.double() - expected.double()).norm() / expected.double().norm())


def test_coefficients_are_one_over_the_stage() -> None:
    assert merge_coefficients(4) == [1, 1 / 2, 1 / 3, 1 / 4]
    with pytest.raises(ConfigError, match="no stage 0"):
        merge_coefficients(0)


def test_a_delta_by_hand() -> None:
    A, B = torch.tensor([[1.0, 2.0, 3.0]]), torch.tensor([[1.0], [10.0]])
    assert lora_delta(A, B, 0.5).tolist() == [[0.5, 1.0, 1.5], [5.0, 10.0, 15.0]]


def test_averaging_the_factors_is_wrong_in_two_dimensions() -> None:
    """The counter-example of the module's docstring."""
    exact = effective_weight(torch.zeros(2, 2), [(*FIRST, 0.5), (*SECOND, 0.5)])
    assert exact.tolist() == [[0.5, 0.0], [0.0, 0.5]]
    A, B = ((first + second) / 2 for first, second in zip(FIRST, SECOND, strict=True))
    assert lora_delta(A, B, 1.0).tolist() == [[0.25, 0.25], [0.25, 0.25]]
    assert lora_delta(*concatenate_factors([(*FIRST, 0.5), (*SECOND, 0.5)])).equal(exact)


@pytest.mark.parametrize("stages", [2, 3, 4, 6])
def test_the_running_average_of_full_weights_is_the_sum_of_scaled_deltas(stages: int) -> None:
    scaling, start = 2.0, torch.randn(12, 9)
    loras = [factors(3) for _ in range(stages)]
    merged = {"w": start}
    for stage, (A, B, _) in enumerate(loras, start=1):
        vanilla = {"w": merged["w"] + scaling * B @ A}  # a fresh LoRA on the merged weights
        merged = running_average(merged, vanilla, stage=stage)
    coefficients = merge_coefficients(stages)
    deltas = [(A, B, c * scaling) for (A, B, _), c in zip(loras, coefficients, strict=True)]
    assert relative_error(effective_weight(start, deltas), merged["w"]) <= 1e-6
    mean_A, mean_B = (torch.stack(each).mean(dim=0) for each in list(zip(*loras, strict=True))[:2])
    assert relative_error(start + lora_delta(mean_A, mean_B, scaling), merged["w"]) > 0.1


def test_concatenated_factors_stand_for_the_weighted_sum() -> None:
    loras = [factors(2), factors(5, scale=-0.3), factors(1, scale=4.0)]
    A, B, scaling = concatenate_factors(loras)
    assert (A.shape, B.shape, scaling) == ((8, 9), (12, 8), 1.0)
    expected = torch.stack([scale * (B.double() @ A.double()) for A, B, scale in loras]).sum(dim=0)
    assert relative_error(lora_delta(A, B, scaling), expected) <= 1e-6


def test_concatenation_can_go_on() -> None:
    first, second, third = factors(2), factors(2), factors(3)
    step_by_step = concatenate_factors([concatenate_factors([first, second]), third])
    at_once = concatenate_factors([first, second, third])
    assert step_by_step[0].equal(at_once[0]) and step_by_step[1].equal(at_once[1])


@pytest.mark.parametrize("stage", [2, 3, 5])
def test_a_lora_that_was_trained_on_is_averaged_by_its_delta(stage: int) -> None:
    """Not by its factors: the mean has the ranks of both together."""
    (A, B, s), (new_A, new_B, _) = factors(3), factors(3)
    merged = concatenate_factors([(A, B, s * (stage - 1) / stage), (new_A, new_B, s / stage)])
    assert merged[0].shape == (6, 9)
    in_full = running_average({"w": lora_delta(A, B, s)}, {"w": lora_delta(new_A, new_B, s)}, stage=stage)["w"]
    assert relative_error(lora_delta(*merged), in_full) <= 1e-6


def test_sums_are_in_float32_whatever_the_weights_are() -> None:
    """In bfloat16 a hundredth of the weight's last digit would be lost at every stage."""
    start = torch.ones(4, 4, dtype=torch.bfloat16)
    small = (torch.full((1, 4), 1e-3).bfloat16(), torch.ones(4, 1, dtype=torch.bfloat16), 1.0)
    total = effective_weight(start, [small] * 8)
    assert total.dtype == torch.float32
    torch.testing.assert_close(total, torch.full((4, 4), 1 + 8 * small[0][0, 0].item()))
    rounded = start
    for delta in [small] * 8:
        rounded = effective_weight(rounded, [delta]).bfloat16()
    assert torch.equal(rounded, start)


def test_factors_of_eight_bits_are_summed_too() -> None:
    A, B = torch.tensor([[1.0, 2.0]]).to(torch.float8_e4m3fn), torch.tensor([[2.0], [0.5]])
    assert torch.equal(lora_delta(A, B, 1.0), torch.tensor([[2.0, 4.0], [0.5, 1.0]]))


def test_the_weight_itself_is_never_changed_or_returned() -> None:
    start = torch.zeros(12, 9)
    effective_weight(start, []).add_(1)
    effective_weight(start, [factors(2)])
    assert not start.any()


@pytest.mark.parametrize(
    ("A", "B"),
    [
        (torch.zeros(3, 9), torch.zeros(12, 2)),
        (torch.zeros(2, 8), torch.zeros(12, 2)),
        (torch.zeros(2, 9), torch.zeros(11, 2)),
    ],
)
def test_factors_that_do_not_fit_are_refused(A: Tensor, B: Tensor) -> None:
    with pytest.raises(ConfigError, match=r"(no LoRA of a linear layer|meets \(12, 9\))"):
        effective_weight(torch.zeros(12, 9), [(A, B, 1.0)])


def test_factors_of_several_layers_and_none_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"layers of shapes \[\(12, 9\), \(13, 9\)\]"):
        concatenate_factors([factors(2), factors(2, outputs=13)])
    with pytest.raises(ConfigError, match="no factors"):
        concatenate_factors([])
    with pytest.raises(ConfigError, match="scaling is nan"):
        lora_delta(*FIRST, float("nan"))
