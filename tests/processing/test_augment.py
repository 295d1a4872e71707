from __future__ import annotations

import numpy as np
import pytest

from polysense.processing.augment import _affine, _transformed, draw_view, erase, warp


def test_views_stay_inside_and_keep_the_asked_share() -> None:
    rng = np.random.default_rng(0)
    for _ in range(200):
        left, top, right, bottom = draw_view(rng, 30, 50, (0.25, 1.0), flip=True).box
        assert 0 <= left < right <= 50 and 0 <= top < bottom <= 30
        assert (right - left) * (bottom - top) >= 0.2 * 30 * 50


def test_half_of_the_views_are_mirrored_only_when_asked() -> None:
    rng = np.random.default_rng(0)
    mirrored = sum(draw_view(rng, 10, 10, (0.5, 1.0), flip=True).flip for _ in range(400))
    assert 160 < mirrored < 240
    assert not any(draw_view(rng, 10, 10, (0.5, 1.0), flip=False).flip for _ in range(20))


def test_pictures_too_narrow_for_a_random_crop_give_their_centre() -> None:
    view = draw_view(np.random.default_rng(0), 1000, 10, (0.9, 1.0), flip=False)
    assert view.box == (0, 493, 10, 506)


def test_erasing_zeroes_one_rectangle_and_leaves_its_input() -> None:
    pixels = np.ones((2, 20, 20), np.float32)
    erased = erase(pixels, np.random.default_rng(0), 1.0)
    rows, columns = np.nonzero(erased[0] == 0)
    assert 0.01 * 400 < len(rows) == (np.ptp(rows) + 1) * (np.ptp(columns) + 1)
    assert pixels.min() == 1
    assert erase(pixels, np.random.default_rng(0), 0.0) is pixels


def test_translation_and_rotation_by_hand() -> None:
    channel = np.arange(9, dtype=np.float32).reshape(3, 3)
    third = 1 / 3 / 0.45
    shifted = _transformed(channel, _affine(3, third, 3, 3) or ())
    assert shifted[:, :2].tolist() == channel[:, 1:].tolist()
    quarter = _transformed(channel, _affine(5, 3.0, 3, 3) or ())
    assert np.allclose(quarter, np.rot90(channel, 1)) or np.allclose(quarter, np.rot90(channel, -1))


def test_warps_of_no_strength_change_nothing() -> None:
    pixels = np.random.default_rng(0).random((1, 8, 8), dtype=np.float32)
    assert warp(pixels, np.random.default_rng(1), 4, 0) == pytest.approx(pixels, abs=1e-6)
    assert warp(pixels, np.random.default_rng(1), 4, 20).shape == pixels.shape
