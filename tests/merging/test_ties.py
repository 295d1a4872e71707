from __future__ import annotations

import pytest
import torch
from peft.utils.merge_utils import ties as peft_ties

from polysense.errors import ConfigError
from polysense.merging import running_average, ties
from polysense.merging.ties import trim

ORIGIN = {"w": torch.zeros(4)}


def test_trimming_keeps_the_largest_magnitudes() -> None:
    assert trim(torch.tensor([0.1, -3.0, 2.0, -0.2]), 0.5).tolist() == [0.0, -3.0, 2.0, 0.0]
    assert trim(torch.tensor([0.1, -3.0, 2.0]), 0.01).tolist() == [0.0, -3.0, 0.0]


def test_trim_elect_and_mean_by_hand() -> None:
    """Trimmed (4, -3, 0, 0) and (2, 5, 0, 0): they agree in the first place, the larger wins the second."""
    previous, current = {"w": torch.tensor([4.0, -3.0, 1.0, 0.5])}, {"w": torch.tensor([2.0, 5.0, -1.0, 0.1])}
    assert ties(previous, current, stage=2, base=ORIGIN, density=0.5)["w"].tolist() == [3.0, 5.0, 0.0, 0.0]


def test_earlier_stages_weigh_as_many_as_they_are() -> None:
    """At stage 4: 3 * 4 > 5 elects plus; the second place has (3 * 1 + 5) / 4."""
    previous, current = {"w": torch.tensor([4.0, 1.0])}, {"w": torch.tensor([-5.0, 5.0])}
    merged = ties(previous, current, stage=4, base={"w": torch.zeros(2)}, density=1.0)
    assert merged["w"].tolist() == [4.0, 2.0]


@pytest.mark.parametrize("density", [0.2, 0.5, 0.9])
def test_stage_two_is_the_algorithm_of_peft(density: float) -> None:
    base, first, second = (torch.randn(20, 30) for _ in range(3))
    merged = ties({"w": base + first}, {"w": base + second}, stage=2, base={"w": base}, density=density, scale=0.7)
    vectors = [(base + first) - base, (base + second) - base]
    torch.testing.assert_close(merged["w"], base + 0.7 * peft_ties(vectors, torch.ones(2), density))


def test_without_trimming_and_conflict_it_is_the_running_average() -> None:
    base = torch.randn(30)
    previous, current = {"w": base + torch.rand(30)}, {"w": base + torch.rand(30)}
    merged = ties(previous, current, stage=3, base={"w": base}, density=1.0)
    torch.testing.assert_close(merged["w"], running_average(previous, current, stage=3)["w"])


def test_the_base_is_needed() -> None:
    with pytest.raises(ConfigError, match=r"'ties' needs the model before the first stage\. Give it as `base`"):
        ties(ORIGIN, ORIGIN, stage=2)


@pytest.mark.parametrize("density", [0.0, 1.5, -1.0])
def test_the_density_is_a_share(density: float) -> None:
    with pytest.raises(ConfigError, match="density is"):
        ties(ORIGIN, ORIGIN, stage=2, base=ORIGIN, density=density)
