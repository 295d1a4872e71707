from __future__ import annotations

import pytest
import torch

from polysense.errors import FeatureShapeError
from polysense.nn.masks import attention_mask, masked_mean, real_steps

CPU = torch.device("cpu")


def test_padding_is_hidden_and_the_class_token_is_seen() -> None:
    mask = attention_mask(torch.tensor([[1, 0]]), torch.zeros(1, 3, 4))
    assert mask.shape == (1, 1, 3, 3)
    assert (mask[0, 0] == 0).tolist() == [[True, True, False]] * 3
    assert torch.isfinite(mask).all()


def test_without_a_mask_every_step_is_real() -> None:
    assert real_steps(None, 2, 3, CPU).all()


def test_a_tubelet_is_real_if_any_of_its_frames_is() -> None:
    mask = torch.tensor([[1, 1, 1, 0, 0, 0]], dtype=torch.bool)
    assert real_steps(mask, 1, 3, CPU).tolist() == [[True, True, False]]


@pytest.mark.parametrize("shape", [(3, 4), (2, 3)])
def test_a_mask_that_fits_no_step_is_refused(shape: tuple[int, int]) -> None:
    with pytest.raises(FeatureShapeError, match=r"does not fit 2 samples of 2 steps"):
        real_steps(torch.ones(shape, dtype=torch.bool), 2, 2, CPU)


def test_the_mean_counts_real_steps_only() -> None:
    values = torch.tensor([[[1.0], [3.0], [100.0]], [[4.0], [5.0], [6.0]]])
    mask = torch.tensor([[True, True, False], [False, False, False]])
    assert masked_mean(values, mask).tolist() == [[2.0], [0.0]]


def test_one_step_is_passed_through_untouched() -> None:
    values = torch.randn(3, 1, 4)
    assert masked_mean(values, torch.zeros(3, 1, dtype=torch.bool)).data_ptr() == values.data_ptr()


def test_what_stands_in_padding_does_not_matter() -> None:
    values = torch.tensor([[[1.0], [3.0], [torch.nan]]])
    assert masked_mean(values, torch.tensor([[True, True, False]])).tolist() == [[2.0]]
