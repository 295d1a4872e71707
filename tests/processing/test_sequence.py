"""Stored feature sequences."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polysense.errors import ConfigError, FeatureShapeError, MediaError
from polysense.processing import Fit, SequenceProcessor, fit_steps

SOUND = SequenceProcessor(modality="audio", channels=3)


def test_what_is_too_long_is_cut_and_what_is_too_short_repeated_if_so_wished() -> None:
    steps = torch.tensor([[1.0], [2.0], [6.0]])
    assert fit_steps(steps, 2, "cut").flatten().tolist() == [1.0, 2.0]
    assert fit_steps(steps, 2, "repeat").flatten().tolist() == [1.0, 2.0]
    assert fit_steps(steps, 5, "cut").flatten().tolist() == [1.0, 2.0, 6.0]
    assert fit_steps(steps, 5, "repeat").flatten().tolist() == [1.0, 2.0, 6.0, 6.0, 6.0]


def test_resampling_averages_spans_and_repeats_what_is_short() -> None:
    assert fit_steps(torch.tensor([[1.0], [3.0], [4.0], [8.0]]), 2, "resample").flatten().tolist() == [2.0, 6.0]
    shared = fit_steps(torch.tensor([[0.0], [3.0], [9.0]]), 2, "resample")  # the middle belongs to both
    assert shared.flatten().tolist() == [1.5, 6.0]
    assert fit_steps(torch.tensor([[1.0], [2.0]]), 4, "resample").flatten().tolist() == [1.0, 1.0, 2.0, 2.0]


@settings(max_examples=20, deadline=None)
@given(st.integers(1, 12), st.integers(1, 12), st.sampled_from(["cut", "repeat", "resample"]))
def test_every_length_fits_and_a_fitting_one_is_left_alone(length: int, steps: int, how: Fit) -> None:
    sequence = torch.randn(length, 2, 2, 3)
    fitted = fit_steps(sequence, steps, how)
    assert fitted.shape == (min(length, steps) if how == "cut" else steps, 2, 2, 3)
    assert length != steps or torch.equal(fitted, sequence)


def test_a_sequence_without_steps_is_refused() -> None:
    with pytest.raises(FeatureShapeError, match="no steps"):
        fit_steps(torch.zeros(0, 3), 2, "cut")


def test_files_and_arrays_are_read_alike(tmp_path: Path) -> None:
    array = np.arange(6, dtype=np.float64).reshape(2, 3)
    np.save(tmp_path / "a.npy", array)
    for source in (tmp_path / "a.npy", array):
        features = SOUND.features(SOUND.load(source))
        assert features.dtype == torch.float32 and torch.equal(features, torch.arange(6.0).view(2, 3))


def test_a_picture_is_a_sequence_of_one_step() -> None:
    picture = SequenceProcessor(modality="image", channels=5, raster=(2, 2), sequence=False)
    assert picture.features(picture.load(np.ones((2, 2, 5)))).shape == (1, 2, 2, 5)
    assert SequenceProcessor.from_dict(picture.to_dict()) == picture


@pytest.mark.parametrize(
    ("array", "why"),
    [
        (np.zeros((2, 4)), r"a step of audio is \(3,\)"),
        (np.zeros((2, 2, 3)), r"a step of audio is \(3,\)"),
        (np.zeros((0, 3)), "has no steps"),
        (np.zeros((2, 3), bool), "values of type bool, not real numbers"),
        (np.zeros((2, 3), complex), "values of type complex128"),
        (np.zeros((2, 3), object), "values of type object"),
        (np.array([[0.0, np.nan, 1.0]]), "not finite"),
    ],
)
def test_features_that_cannot_be_used_say_why(array: np.ndarray, why: str) -> None:
    with pytest.raises(MediaError, match=why):
        SOUND.load(array)


def test_a_truncated_file_and_an_impossible_raster_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros((4, 3)))
    whole = (tmp_path / "a.npy").read_bytes()
    (tmp_path / "a.npy").write_bytes(whole[:-8])
    with pytest.raises(MediaError, match=r"a\.npy"):
        SOUND.load(tmp_path / "a.npy")
    with pytest.raises(ConfigError, match="raster"):
        SequenceProcessor(modality="audio", channels=3, raster=(2,))
