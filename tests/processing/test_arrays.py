from __future__ import annotations

import io
import struct

import numpy as np
import pytest
import torch

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.arrays import in_memory_array, read_npy


def _read(content: bytes) -> np.ndarray:
    with media.open_media(content, ("NumPy array",)) as opened:
        return read_npy(opened)


def _saved(array: np.ndarray) -> bytes:
    np.save(buffer := io.BytesIO(), array, allow_pickle=True)
    return buffer.getvalue()


def test_numbers_are_read_as_saved() -> None:
    for array in (np.arange(6).reshape(2, 3), np.asfortranarray(np.ones((3, 2), np.float32)), np.array(3)):
        assert np.array_equal(_read(_saved(array)), array)


def test_pickled_objects_are_never_loaded() -> None:
    with pytest.raises(MediaError, match=r"holds values of type object.*never loaded"):
        _read(_saved(np.array([print], dtype=object)))


def test_a_declared_shape_must_fit_the_file() -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (1000000000, 3)}\n"
    with pytest.raises(MediaError, match=r"\(12000000000 bytes\) and holds 8 bytes"):
        _read(b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(8))
    with pytest.raises(MediaError, match="version"):
        _read(b"\x93NUMPY\x09\x00" + bytes(20))


def test_arrays_in_memory_are_recognised() -> None:
    for source in (np.ones(2), torch.ones(2), {"array": [1.0, 1.0], "sampling_rate": 1}):
        found = in_memory_array(source)
        assert found is not None and found.tolist() == [1, 1]
    assert in_memory_array("a.npy") is None


def test_a_type_that_numpy_lacks_is_widened() -> None:
    found = in_memory_array(torch.tensor([0.5, 1.0], dtype=torch.bfloat16))
    assert found is not None and found.dtype == np.float32 and found.tolist() == [0.5, 1.0]


def test_what_is_no_array_is_named() -> None:
    with pytest.raises(MediaError, match=r"a.wav: cannot be decoded as array \(ValueError"):
        in_memory_array({"array": [[1, 2], [3]], "path": "a.wav"})
