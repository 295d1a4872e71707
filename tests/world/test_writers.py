from __future__ import annotations

import hashlib
import io
from pathlib import Path

import av
import numpy as np
import soundfile
from PIL import Image
from plyfile import PlyData

from polysense.world.writers import flac, mp4, ply, png, store


def test_pictures_come_back_bit_by_bit() -> None:
    rng = np.random.default_rng(0)
    colour = rng.integers(0, 256, size=(8, 9, 3)).astype(np.uint8)
    millimetres = rng.integers(0, 65536, size=(8, 9)).astype(np.uint16)
    for picture in (colour, millimetres):
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(png(picture)))), picture)


def test_points_come_back_with_their_colours() -> None:
    rng = np.random.default_rng(0)
    points, colours = rng.normal(size=(5, 3)).astype(np.float32), rng.integers(0, 256, size=(5, 3)).astype(np.uint8)
    vertices = PlyData.read(io.BytesIO(ply(points, colours)))["vertex"]
    np.testing.assert_array_equal(np.stack([vertices[axis] for axis in "xyz"], 1), points)
    np.testing.assert_array_equal(np.stack([vertices[name] for name in ("red", "green", "blue")], 1), colours)


def test_sound_comes_back_to_sixteen_bits_and_is_clipped_not_wrapped() -> None:
    wave = np.array([0.0, 0.5, -1.0, 1.5], dtype=np.float32)
    back, rate = soundfile.read(io.BytesIO(flac(wave)), dtype="float32")
    assert rate == 16_000
    np.testing.assert_allclose(back, [0.0, 0.5, -1.0, 1.0], atol=1e-4)


def test_films_come_back_nearly_as_they_were_at_two_frames_a_second() -> None:
    ramp = np.linspace(0, 200, 64, dtype=np.float32)
    frames = np.stack([np.tile((ramp + 2 * k)[None, :, None], (64, 1, 3)) for k in range(20)]).astype(np.uint8)
    with av.open(io.BytesIO(mp4(frames))) as container:
        stream = container.streams.video[0]
        assert stream.average_rate == 2
        back = np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])
    assert back.shape == frames.shape
    assert np.abs(back.astype(int) - frames).mean() < 3
    assert mp4(frames) == mp4(frames)


def test_a_stored_file_is_described_by_path_hash_and_facts(tmp_path: Path) -> None:
    entry = store(tmp_path, "media/depth/a.png", b"abc", baseline=0.075)
    assert entry == {"path": "media/depth/a.png", "sha256": hashlib.sha256(b"abc").hexdigest(), "baseline": 0.075}
    assert (tmp_path / entry["path"]).read_bytes() == b"abc"
