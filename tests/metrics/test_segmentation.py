"""J and F of masks whose contours can be counted on squared paper."""

from __future__ import annotations

import pytest
import torch
from jaxtyping import Bool
from torch import Tensor

from polysense.metrics import contour_accuracy, region_similarity
from polysense.metrics.segmentation import contours


def box(top: int, left: int, bottom: int, right: int, size: int = 8) -> Bool[Tensor, "size size"]:
    mask = torch.zeros(size, size, dtype=torch.bool)
    mask[top:bottom, left:right] = True
    return mask


def test_j_is_intersection_over_union() -> None:
    """Squares of 9 pixels that share 4: 4 / 14."""
    assert region_similarity(box(1, 1, 4, 4), box(2, 2, 5, 5)).item() == pytest.approx(4 / 14)


def test_j_of_several_frames_keeps_their_shape() -> None:
    frames = torch.stack([box(1, 1, 4, 4), box(0, 0, 0, 0)]).expand(3, 2, 8, 8)
    truth = torch.stack([box(1, 1, 4, 4), box(0, 0, 2, 2)]).expand(3, 2, 8, 8)
    assert region_similarity(frames, truth).tolist() == [[1.0, 0.0]] * 3
    assert contour_accuracy(frames, truth).tolist() == [[1.0, 0.0]] * 3


def test_two_empty_masks_agree_and_one_empty_mask_does_not() -> None:
    empty, full = box(0, 0, 0, 0), box(1, 1, 3, 3)
    for score in (region_similarity, contour_accuracy):
        assert score(empty, empty).item() == 1
        assert score(empty, full).item() == score(full, empty).item() == 0


def test_the_contour_lies_where_a_pixel_differs_from_right_below_or_across() -> None:
    """A square in rows and columns 1 and 2: of rows and columns 0 to 2 only (1, 1) has equal neighbours."""
    expected = box(0, 0, 3, 3, size=5)
    expected[1, 1] = False
    assert torch.equal(contours(box(1, 1, 3, 3, size=5)), expected)


def test_the_edge_of_the_picture_is_no_contour() -> None:
    assert not contours(box(0, 0, 8, 8)).any()
    assert contour_accuracy(box(0, 0, 8, 8), box(0, 0, 0, 0)).item() == 1  # neither has a contour, though J is 0


def test_f_by_hand() -> None:
    """Lines of the left half's border: columns 3 and 5; within 1 pixel nothing is near, within 2 everything is."""
    left, wider = box(0, 0, 8, 4), box(0, 0, 8, 6)
    assert contour_accuracy(left, wider, tolerance=1.0).item() == 0
    assert contour_accuracy(left, wider, tolerance=2.0).item() == 1


def test_f_weighs_precision_and_recall() -> None:
    """Predicted is the border in column 3 of all 8 rows; the truth turns off to the right below row 3.

    The truth has columns 3 in rows 0 to 3 and row 3 from column 3 on: 4 + 4 pixels (the last column differs from what
    is below it). Of the 8 predicted pixels those of rows 0 to 3 lie on it, and row 4 is one below: 5 / 8. Of the
    truth's 8 pixels those of column 3 lie on the prediction, and column 4 is one beside: 5 / 8.
    """
    predicted, truth = box(0, 0, 8, 4), box(0, 0, 8, 4) | box(4, 4, 8, 8)
    assert contours(truth).sum().item() == 8
    assert contour_accuracy(predicted, truth, tolerance=1.0).item() == pytest.approx(5 / 8)


def test_the_tolerance_is_a_share_of_the_diagonal_rounded_up() -> None:
    """0.008 of 64 x 64 pixels is 0.72: one pixel."""
    one, two = box(0, 0, 64, 33, size=64), box(0, 0, 64, 34, size=64)
    truth = box(0, 0, 64, 32, size=64)
    assert contour_accuracy(one, truth).item() == 1 and contour_accuracy(two, truth).item() == 0
