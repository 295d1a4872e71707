from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polysense.errors import ConfigError, MediaError
from polysense.modality import get_modality
from polysense.processing import ImageProcessor, VideoProcessor, processor_for
from tests.processing.videos import numbered_frame, write_video


def _processor(**options: object) -> VideoProcessor:
    processor = processor_for(get_modality("video"), 32, **options)
    assert isinstance(processor, VideoProcessor)
    return processor


def _numbers(frames: np.ndarray) -> list[int]:
    """Frame numbers read back from `numbered_frame`."""
    return [round(float(frame.mean()) / 8) for frame in frames]


def test_frames_come_from_the_middles_of_equal_spans(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=20, rate=2)
    assert _numbers(_processor(num_frames=4).load(tmp_path / "a.mp4")) == [2, 7, 12, 17]
    assert _processor(num_frames=4)([tmp_path / "a.mp4"])["video_values"].shape == (1, 4, 3, 32, 32)


def test_windows_give_the_middle_frame_of_every_second(tmp_path: Path) -> None:
    write_video(tmp_path / "long.mp4", frames=20, rate=2)
    write_video(tmp_path / "short.mp4", frames=6, rate=2)
    processor = _processor(windows=10)
    assert _numbers(processor.load(tmp_path / "long.mp4")) == list(range(1, 21, 2))
    out = processor([tmp_path / "long.mp4", tmp_path / "short.mp4"])
    assert out["video_mask"].sum(dim=1).tolist() == [10, 3]


def test_clips_shorter_than_the_number_of_frames_give_each_of_theirs(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=3, rate=2)
    assert _numbers(_processor(num_frames=8).load(tmp_path / "a.mp4")) == [0, 1, 2]


def test_arrays_and_lists_of_pictures_are_sampled_alike() -> None:
    frames = np.stack([numbered_frame(i, 32) for i in range(20)])
    processor = _processor(num_frames=4)
    assert _numbers(processor.load(frames)) == [2, 7, 12, 17]
    assert np.array_equal(processor.load([Image.fromarray(f) for f in frames]), processor.load(frames))
    for values in (frames / 255, frames.astype(np.int64)):
        assert np.array_equal(processor.load(list(values)), processor.load(frames))
    assert _numbers(_processor(windows=10).load(frames, {"frame_rate": 2})) == list(range(1, 21, 2))


@pytest.mark.parametrize(("frames", "shown"), [(3, [2]), (15, [5, 14]), (16, [5, 15])])
def test_an_array_that_ends_before_the_middle_of_a_window_shows_its_last_frame_there(
    tmp_path: Path, frames: int, shown: list[int]
) -> None:
    """As a film of the same frames does."""
    write_video(tmp_path / "a.mp4", frames=frames)
    array = np.stack([numbered_frame(number) for number in range(frames)])
    assert _numbers(_processor(windows=10).load(array, {"frame_rate": 10})) == shown
    assert _numbers(_processor(windows=10).load(tmp_path / "a.mp4")) == shown


@pytest.mark.parametrize("rate", [0, -1, "fast", None, float("nan"), float("inf"), 10**400])
def test_an_impossible_frame_rate_is_refused(rate: object) -> None:
    with pytest.raises(MediaError, match=r"has a frame rate of .*\. Give a positive number"):
        _processor(windows=10).load(np.zeros((4, 8, 8, 3), np.uint8), {"frame_rate": rate})


def test_every_frame_passes_the_picture_pipeline() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (3, 40, 50, 3), dtype=np.uint8)
    image = processor_for(get_modality("image"), 32)
    assert isinstance(image, ImageProcessor)
    expected = torch.stack([image.features(frame) for frame in frames])
    assert torch.equal(_processor().features(frames), expected)


def test_all_frames_share_one_random_view() -> None:
    frames = np.repeat(np.random.default_rng(0).integers(0, 256, (1, 40, 50, 3), dtype=np.uint8), 3, axis=0)
    values = _processor().features(frames, np.random.default_rng(5))
    assert torch.equal(values[0], values[1]) and torch.equal(values[0], values[2])
    assert not torch.equal(values[0], _processor().features(frames)[0])


def test_without_its_background_a_clip_of_a_still_camera_shows_what_moves() -> None:
    frames = np.full((4, 32, 32, 3), 90, dtype=np.uint8)
    frames[2, 8:16, 8:16] = 250
    processor = _processor(num_frames=4, subtract_background=True)
    kept = processor.features(frames)
    torch.testing.assert_close(kept.mean(dim=0), torch.zeros(3, 32, 32), atol=1e-5, rtol=0)
    usual = _processor(num_frames=4).features(frames)
    torch.testing.assert_close(kept, usual - usual.mean(dim=0))
    assert kept[:, :, 20:, 20:].abs().max() < 1e-5 < kept[2, :, 8:16, 8:16].min()


def test_in_grayscale_all_channels_are_the_luma() -> None:
    frames = np.zeros((1, 32, 32, 3), dtype=np.uint8)
    frames[0, :, :16] = (200, 100, 50)
    kept = _processor(num_frames=1, grayscale=True, mean=(0.0,), std=(1.0,), scale=1.0).features(frames)
    assert torch.equal(kept[:, 0], kept[:, 1]) and torch.equal(kept[:, 0], kept[:, 2])
    torch.testing.assert_close(kept[0, 0, 4, 4], torch.tensor(0.299 * 200 + 0.587 * 100 + 0.114 * 50))
    assert kept[0, 0, 4, 28] == 0


@pytest.mark.parametrize(
    "array", [np.zeros((0, 4, 4, 3), np.uint8), np.zeros((2, 4, 4, 3)), np.zeros((4, 4, 3), np.uint8)]
)
def test_unusable_arrays_are_refused(array: np.ndarray) -> None:
    with pytest.raises(MediaError, match="has shape"):
        _processor().load(array)


def test_lists_without_pictures_or_of_unequal_sizes_are_refused() -> None:
    for pictures in ([], [np.zeros((4, 4, 3), np.uint8), np.zeros((5, 4, 3), np.uint8)]):
        with pytest.raises(MediaError, match="unequal sizes or none"):
            _processor().load(pictures)


def test_options_are_checked() -> None:
    for option, value in (("num_frames", 0), ("windows", 0), ("seconds", 0.0)):
        with pytest.raises(ConfigError, match=option):
            _processor(**{option: value})
