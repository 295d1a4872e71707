from __future__ import annotations

import io
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import CLIPImageProcessorPil

from polysense.errors import ConfigError, MediaError
from polysense.modality import get_modality
from polysense.processing import GridProcessor, ImageProcessor, processor_for
from polysense.processing.image import resized


def _picture(width: int, height: int) -> Image.Image:
    return Image.fromarray(np.random.default_rng(0).integers(0, 256, (height, width, 3), dtype=np.uint8))


@pytest.mark.parametrize("size", [32, 224])
@pytest.mark.parametrize("shape", [(64, 64), (100, 57), (57, 100), (225, 224), (30, 41)])
def test_pictures_agree_with_clip_image_processor(shape: tuple[int, int], size: int) -> None:
    picture = _picture(*shape)
    sizes = {"size": {"shortest_edge": size}, "crop_size": {"height": size, "width": size}}
    theirs = CLIPImageProcessorPil(**sizes)(picture, return_tensors="pt")["pixel_values"]
    ours = processor_for(get_modality("image"), size)([picture])["pixel_values"]
    torch.testing.assert_close(ours, theirs, atol=1e-6, rtol=0)


@pytest.mark.parametrize("kind", [np.uint8, np.float32])
@pytest.mark.parametrize("shape", [(20, 400), (700, 20)])
def test_a_thin_picture_shows_the_centre_of_its_whole(shape: tuple[int, int], kind: type) -> None:
    """Beyond a length of 16 only the centre is resized; a slope shows whether it is the same."""
    slope = np.broadcast_to(np.linspace(40, 200, max(shape)).reshape(1, -1), (20, max(shape)))
    pixels: np.ndarray = (slope if shape[1] > shape[0] else slope.T).astype(kind)[..., None]
    whole = np.asarray(Image.fromarray(pixels[..., 0]).resize((shape[1] * 2, shape[0] * 2), Image.Resampling.BICUBIC))
    top, left = whole.shape[0] // 2 - 20, whole.shape[1] // 2 - 20
    found = resized(pixels, 40)[..., 0].astype(float)
    assert np.abs(found - whole[top : top + 40, left : left + 40]).max() <= (1 if kind is np.uint8 else 1e-3)


def test_all_forms_of_a_source_give_the_same_features(tmp_path: Path) -> None:
    image = processor_for(get_modality("image"), 16)
    picture = _picture(20, 20)
    picture.save(path := tmp_path / "a.png")
    sources = [path, str(path), path.read_bytes(), io.BytesIO(path.read_bytes()), picture, np.asarray(picture)]
    sources += [torch.from_numpy(np.array(picture)), {"bytes": path.read_bytes(), "path": None}]
    batch = image(sources)["pixel_values"]
    assert batch.shape == (8, 3, 16, 16)
    assert all(torch.equal(row, batch[0]) for row in batch)


@pytest.mark.parametrize("kind", [np.float32, np.float64, np.float16])
def test_shares_of_full_scale_are_the_picture_in_eight_bits(kind: type) -> None:
    image = processor_for(get_modality("image"), 16)
    picture = np.asarray(_picture(20, 20)) // 2 + 64  # far from where only 8 bits are clipped
    expected = image([picture])["pixel_values"]
    shares: np.ndarray = (picture / 255).astype(kind)
    for source in (shares, torch.from_numpy(shares), picture.astype(np.float32), picture.astype(np.uint16)):
        torch.testing.assert_close(image([source])["pixel_values"], expected, atol=0.05, rtol=0)
    mask = picture > 127
    assert torch.equal(image([mask])["pixel_values"], image([mask.astype(np.float32)])["pixel_values"])


@pytest.mark.parametrize(
    ("values", "reason"),
    [
        (np.full((9, 9, 3), 40_000, np.uint16), "has values from 40000 to 40000, and image takes 0 to 255"),
        (np.full((9, 9, 3), 300.0), "to 300, and image takes 0 to 255.*floats from 0 to 1"),
        (np.full((9, 9, 3), -1, np.int16), "has values from -1"),
        (np.linspace(-2, 2, 243).reshape(9, 9, 3), "has values from -2 to 2"),  # normalised already
    ],
)
def test_values_beyond_full_scale_are_refused(values: np.ndarray, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        processor_for(get_modality("image"), 8)([values])


def test_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    _picture(20, 20).save(tmp_path / "a.png", "JPEG")
    assert processor_for(get_modality("image"), 8)([tmp_path / "a.png"])["pixel_values"].isfinite().all()


def test_orientation_of_a_camera_is_undone(tmp_path: Path) -> None:
    picture = _picture(30, 20)
    exif = Image.Exif()
    exif[0x0112] = 3  # half a turn
    picture.save(tmp_path / "a.png", exif=exif)
    for source in (tmp_path / "a.png", Image.open(tmp_path / "a.png")):
        raw = processor_for(get_modality("image"), 8).load(source)
        assert np.array_equal(raw, np.asarray(picture)[::-1, ::-1])


def test_an_opened_picture_that_is_cut_off_is_named(tmp_path: Path) -> None:
    _picture(300, 200).save(tmp_path / "a.png")
    (tmp_path / "a.png").write_bytes((tmp_path / "a.png").read_bytes()[:-400])
    with pytest.raises(MediaError, match=r"a\.png: cannot be decoded as picture"):
        processor_for(get_modality("image"), 8).load(Image.open(tmp_path / "a.png"))


def test_grid_values_are_scaled_shifted_and_normalised_by_hand() -> None:
    """29815 centikelvin are 298.15 K, 25 degrees: (25 - 20) / 10."""
    thermal = GridProcessor(modality="heat", channels=1, size=4, scale=0.01, offset=-273.15, mean=(20.0,), std=(10.0,))
    values = thermal([np.full((4, 6), 29815, np.uint16)])["heat_values"]
    torch.testing.assert_close(values, torch.full((1, 1, 4, 4), 0.5), atol=1e-4, rtol=0)


def test_sixteen_bit_files_keep_their_values(tmp_path: Path) -> None:
    values = np.array([[0, 300], [40000, 65535]], np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")
    np.save(tmp_path / "a.npy", values)
    grid = GridProcessor(modality="heat", channels=1, size=2)
    for name in ("a.png", "a.npy"):
        assert np.array_equal(grid.load(tmp_path / name)[..., 0], values)


def test_any_number_of_channels_comes_from_arrays() -> None:
    grid = GridProcessor(modality="bands", channels=5, size=4, mean=(1.0,), std=(1.0,))
    assert grid([np.ones((6, 4, 5), np.float32)])["bands_values"].abs().max() < 1e-6
    with pytest.raises(MediaError, match=r"has shape \(6, 4, 2\), and bands takes height, width, 5"):
        grid([np.ones((6, 4, 2), np.float32)])


def test_augmentation_is_decided_by_the_generator() -> None:
    image = processor_for(get_modality("image"), 16)
    raw = image.load(_picture(40, 30))
    first, again, other = (image.features(raw, np.random.default_rng(seed)) for seed in (1, 1, 2))
    assert first.shape == (3, 16, 16)
    assert torch.equal(first, again) and not torch.equal(first, other)


def test_unusable_values_are_refused(tmp_path: Path) -> None:
    grid = GridProcessor(modality="heat", channels=1, size=4)
    for values, reason in (
        (np.full((4, 4), np.nan), "not finite"),
        (np.full((4, 4), "a"), "values of type"),
        (np.zeros((0, 4)), "no area"),
        (np.zeros((4, 4, 4, 4)), "has shape"),
    ):
        with pytest.raises(MediaError, match=reason):
            grid.load(values)
    Image.fromarray(np.zeros((4, 4), np.uint16)).save(tmp_path / "deep.png")
    with pytest.raises(MediaError, match="takes 3 8-bit channels"):
        ImageProcessor(modality="image").load(tmp_path / "deep.png")


def test_options_are_checked() -> None:
    with pytest.raises(ConfigError, match="mean of the heat processor must be one number or one per channel"):
        GridProcessor(modality="heat", channels=3, mean=(1.0, 2.0))
    with pytest.raises(ConfigError, match="std of the heat processor must be above 0"):
        GridProcessor(modality="heat", channels=1, std=(0.0,))
    with pytest.raises(ConfigError, match="crop_scale"):
        GridProcessor(modality="heat", channels=1, crop_scale=(0.9, 0.5))
