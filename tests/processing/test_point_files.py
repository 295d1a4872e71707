from __future__ import annotations

import tracemalloc

import numpy as np
import pytest

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.point_files import from_array, read_cloud


def _read(content: bytes) -> None:
    with media.open_media(content, media.CLOUDS) as opened:
        read_cloud(opened, colour=False)


PLY = "ply\nformat {} 1.0\nelement vertex {}\n{}end_header\n"
XYZ = "property float x\nproperty float y\nproperty float z\n"
PCD = "VERSION 0.7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\nCOUNT 1 1 1\nWIDTH 1\nHEIGHT 1\nPOINTS {}\nDATA {}\n"


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (PLY.format("binary_little_endian", 10**9, XYZ).encode() + bytes(36), "declares 1000000000 rows"),
        (PLY.format("ascii", 10**9, XYZ).encode() + b"1 2 3\n" * 9, "declares 1000000000 rows"),
        (PLY.format("binary_little_endian", 10**9, "").encode() + bytes(36), "declares 1000000000 rows"),
        (PLY.format("binary_little_endian", 10**30, XYZ).encode(), "declares"),
        (PLY.format("ascii", "-3", XYZ).encode(), "declares '-3' where a count"),
        (b"ply\n" + b"comment x\n" * 9000, "no end of its PLY header"),
        (PLY.format("ascii", 0, XYZ).replace("vertex", "face").encode(), "no element 'vertex'"),
        (PLY.format("ascii", 1, "property float x\n").encode() + b"1\n", "has no 'y' values"),
        (PCD.format(10**9, "binary").encode() + bytes(36), "declares 1000000000 rows"),
        (PCD.format(10**9, "ascii").encode() + b"1 2 3\n", "declares 1000000000 rows"),
        (PCD.format(3, "binary_compressed").encode() + b"\x04\0\0\0\0\0\0\x7f" + bytes(4), "3 points and 2130706432"),
        (PCD.format(3, "binary_compressed").encode() + b"\xff\xff\0\0\x24\0\0\0" + bytes(4), "holds 12 bytes"),
        (b"VERSION 0.7\n" * 9, "no DATA line"),
    ],
)
def test_headers_that_declare_more_than_there_is_cost_no_memory(content: bytes, reason: str) -> None:
    tracemalloc.start()
    with pytest.raises(MediaError, match=reason):
        _read(content)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4_000_000


def test_many_rows_of_text_are_refused_before_they_are_parsed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysense.processing.point_files.MAX_TEXT_ROWS", 5)
    with pytest.raises(MediaError, match="6 rows that must be parsed one by one"):
        _read(PLY.format("ascii", 6, XYZ).encode() + b"1 2 3\n" * 6)


@pytest.mark.parametrize("kind", [np.float64, np.int64])
def test_a_cloud_on_a_map_keeps_its_shape(kind: type) -> None:
    shape = np.random.default_rng(0).integers(0, 100, (50, 3))
    far = (shape + np.array([500_000_000, 5_000_000_000, 0])).astype(kind)
    assert np.array_equal(from_array(far, "far", colour=False), (shape - shape[0]).astype(np.float32))
    near: np.ndarray = (shape + 500).astype(kind)
    assert np.array_equal(from_array(near, "near", colour=False), near.astype(np.float32))


def test_colours_do_not_move_with_the_points() -> None:
    far = np.concatenate([np.arange(9.0).reshape(3, 3) + 1e9, np.full((3, 3), 0.5)], axis=1)
    assert from_array(far, "far", colour=True).tolist() == [
        [0, 0, 0, 0.5, 0.5, 0.5], [3, 3, 3, 0.5, 0.5, 0.5], [6, 6, 6, 0.5, 0.5, 0.5],
    ]  # fmt: skip
    assert from_array(np.empty((0, 3)), "empty", colour=False).shape == (0, 3)
