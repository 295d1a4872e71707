"""Arrays from memory and from .npy files, with their sizes checked before they are allocated."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped

from polysense.errors import MediaError
from polysense.processing.media import MediaFile, decoding, source_name

_NUMERIC = "biuf"
_HEADERS = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}


def in_memory_array(source: Any) -> Shaped[np.ndarray, " ..."] | None:
    """`source` as an array where it is one (NumPy, torch, or a mapping with "array"), else None.

    Raises:
        MediaError: a mapping whose "array" is none, such as rows of unequal lengths.
    """
    values = source["array"] if isinstance(source, dict) and "array" in source else source
    with decoding(source_name(source), "array"):
        if isinstance(values, torch.Tensor):
            values = values.detach().cpu()
            # NumPy has no such type
            return (values.float() if values.dtype == torch.bfloat16 else values).numpy()
        if values is not source:
            return np.asarray(values)
    return values if isinstance(values, np.ndarray) else None


def read_npy(opened: MediaFile) -> Shaped[np.ndarray, " ..."]:
    """Read a .npy file of numbers.

    Raises:
        MediaError: a pickled object, a type that is no number, or a shape that needs more bytes than the file has.
    """
    with decoding(opened.name, opened.kind):
        version = np.lib.format.read_magic(opened.file)
        if version not in _HEADERS:
            raise MediaError(f"is a NumPy file of version {version}", where=opened.name,
                             fix="Save it again with numpy.save.")  # fmt: skip
        shape, _, dtype = _HEADERS[version](opened.file)
        if dtype.hasobject or dtype.kind not in _NUMERIC:
            raise MediaError(f"holds values of type {dtype}, not plain numbers", where=opened.name,
                             fix="Save an array of numbers; pickled objects are never loaded.")  # fmt: skip
        needed, present = math.prod(shape) * dtype.itemsize, opened.size - opened.file.tell()
        if needed > present:
            raise MediaError(f"declares an array of shape {shape} ({needed} bytes) and holds {present} bytes",
                             where=opened.name, fix="The file is truncated or damaged: write it again.")  # fmt: skip
        opened.file.seek(0)
        return np.asarray(np.load(opened.file, allow_pickle=False))
