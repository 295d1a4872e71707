"""Point clouds from PLY, PCD and .npy files, with declared counts checked before anything is allocated."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import plyfile
import pypcd4
from jaxtyping import Float, Shaped

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.arrays import read_npy

MAX_HEADER_BYTES = 1 << 16  # bytes of a PLY or PCD header
MAX_TEXT_ROWS = 2_000_000  # rows of text or of lists, which are parsed one by one
_FAR = 1 << 10  # times its own size that a cloud may lie from the origin before 32 bits blur its shape
_REBUILD = "The file is truncated or damaged: write it again, as binary."
_PLY_BYTES = {
    **dict.fromkeys(("char", "uchar", "int8", "uint8"), 1),
    **dict.fromkeys(("short", "ushort", "int16", "uint16"), 2),
    **dict.fromkeys(("int", "uint", "int32", "uint32", "float", "float32"), 4),
    **dict.fromkeys(("double", "float64"), 8),
}

_SHIFTS = (("red", 16), ("green", 8), ("blue", 0))  # bits of each colour in a PCD file's packed "rgb"

Cloud = Float[np.ndarray, "points channels"]


def read_cloud(opened: media.MediaFile, *, colour: bool) -> Cloud:
    """Coordinates, and with `colour` red, green and blue in 0 to 1.

    Raises:
        MediaError: a header that declares more than the file holds, missing coordinates or colours.
    """
    readers: Mapping[str, Callable[[media.MediaFile, bool], Cloud]] = {
        "PLY point cloud": _read_ply,
        "PCD point cloud": _read_pcd,
        "NumPy array": lambda file, wants: from_array(read_npy(file), file.name, colour=wants),
    }
    return readers[opened.kind](opened, colour)


def from_array(values: Shaped[np.ndarray, " ..."], name: str, *, colour: bool) -> Cloud:
    """Check an array of `points 3` or `points 6` (colours in 0 to 1) and keep the wanted channels.

    A cloud so far from the origin, as on a map, that 32 bits would blur its shape is moved to its first point.

    Raises:
        MediaError: another shape, or values that are no coordinates and colours.
    """
    if values.ndim != 2 or values.shape[1] not in (3, 6) or (colour and values.shape[1] == 3):
        wanted = "(points, 6)" if colour else "(points, 3) or (points, 6)"
        raise MediaError(f"has shape {values.shape} instead of {wanted}", where=name,
                         fix="Give x, y, z and, where colour is asked for, red, green, blue in 0 to 1.")  # fmt: skip
    if values.dtype.kind not in "fiu":
        raise MediaError(f"has values of type {values.dtype}", where=name, fix="Give numbers.")
    if colour and not ((values[:, 3:] >= 0) & (values[:, 3:] <= 1)).all():
        raise MediaError("has colours outside 0 to 1", where=name, fix="Divide 8-bit colours by 255.")
    with np.errstate(over="ignore", invalid="ignore"):
        return np.concatenate([_near(values[:, :3]), values[:, 3 : 6 if colour else 3]], axis=1).astype(np.float32)


def _near(xyz: Shaped[np.ndarray, "points 3"]) -> Shaped[np.ndarray, "points 3"]:
    if not len(xyz) or xyz.dtype.itemsize < 4 or xyz.dtype == np.float32:
        return xyz
    exact = xyz.astype(np.float64)
    is_far = _FAR * np.ptp(exact, axis=0).max() < np.abs(exact).max() <= np.finfo(np.float32).max
    return exact - exact[0] if is_far else xyz


def _read_ply(opened: media.MediaFile, colour: bool) -> Cloud:
    with media.decoding(opened.name, opened.kind):
        _check_ply_header(opened)
        opened.file.seek(0)
        # mapping the file spares the row-by-row reader; memory files cannot be mapped and fall back to it
        data = plyfile.PlyData.read(opened.file, mmap="c")
        if "vertex" not in data:
            raise MediaError("has no element 'vertex'", where=opened.name, fix="Write x, y, z as vertices.")
        vertex = data["vertex"].data
        return _columns(vertex, opened.name, colour)


def _read_pcd(opened: media.MediaFile, colour: bool) -> Cloud:
    with media.decoding(opened.name, opened.kind):
        _check_pcd_header(opened)
        opened.file.seek(0)
        cloud = pypcd4.PointCloud.from_fileobj(opened.file)
        table = {field: cloud.pc_data[field] for field in cloud.fields}
        if colour and (packed := table.get("rgb", table.get("rgba"))) is not None:
            bits = np.ascontiguousarray(packed).view(np.uint32)
            table |= {name: (bits >> shift & 255).astype(np.uint8) for name, shift in _SHIFTS}
        return _columns(table, opened.name, colour)


def _columns(table: Any, name: str, colour: bool) -> Cloud:
    """Stack the named columns of a structured array or a mapping; 8-bit colours become 0 to 1."""
    names = table.dtype.names if isinstance(table, np.ndarray) else tuple(table)
    channels = []
    for wanted in ("x", "y", "z", *(("red", "green", "blue") if colour else ())):
        if wanted not in names:
            raise MediaError(f"has no {wanted!r} values (it has: {', '.join(names)})", where=name,
                             fix="Add them, or use a processor without colour.")  # fmt: skip
        column = np.asarray(table[wanted])
        channels.append(column / 255 if column.dtype == np.uint8 else column)
    return from_array(np.stack(channels, axis=1), name, colour=colour)


def _check_ply_header(opened: media.MediaFile) -> None:
    header = opened.file.read(MAX_HEADER_BYTES)
    end = header.find(b"end_header")
    if end < 0:
        raise MediaError(
            f"has no end of its PLY header within {MAX_HEADER_BYTES} bytes", where=opened.name, fix=_REBUILD
        )
    text = b"format ascii" in header[:end]
    needed = rows = width = count = 0
    slow = text
    for words in (line.split() for line in header[:end].decode("latin-1").splitlines()):
        if words[:1] == ["element"] and len(words) == 3:
            needed, width, count = needed + count * max(width, 1), 0, _declared(words[2], opened)
            rows += count
        elif words[:2] == ["property", "list"] and len(words) == 5:
            width += 2 if text else _PLY_BYTES.get(words[2], 1)
            slow = True
        elif words[:1] == ["property"] and len(words) == 3:
            width += 2 if text else _PLY_BYTES.get(words[1], 1)
    needed += count * max(width, 1)
    _check_declared(opened, rows, needed - 1 if text else needed, opened.size - end)
    _check_rows(opened, rows, slow)


def _check_pcd_header(opened: media.MediaFile) -> None:
    fields: dict[str, list[str]] = {}
    read = 0
    while "DATA" not in fields:
        line = opened.file.readline(MAX_HEADER_BYTES)
        read += len(line)
        if not line or read > MAX_HEADER_BYTES:
            raise MediaError("has no DATA line in its PCD header", where=opened.name, fix=_REBUILD)
        words = line.decode("latin-1").split()
        if words and not words[0].startswith("#"):
            fields[words[0]] = words[1:]
    points = _declared(" ".join(fields.get("POINTS", ["none"])), opened)
    sizes = [_declared(word, opened) for word in fields.get("SIZE", [])]
    counts = [_declared(word, opened) for word in fields.get("COUNT", ["1"] * len(sizes))]
    width = sum(size * count for size, count in zip(sizes, counts, strict=True))
    body = opened.size - opened.file.tell()
    if fields["DATA"] == ["binary_compressed"]:
        packed, unpacked = (int.from_bytes(opened.file.read(4), "little") for _ in range(2))
        _check_declared(opened, points, packed, body)
        if unpacked != points * width:
            raise MediaError(f"declares {points} points and {unpacked} bytes of them", where=opened.name, fix=_REBUILD)
    else:
        text = fields["DATA"] == ["ascii"]
        _check_declared(opened, points, points * 2 * sum(counts) - 1 if text else points * width, body)
        _check_rows(opened, points, text)


def _declared(word: str, opened: media.MediaFile) -> int:
    if not word.isascii() or not word.isdigit():
        raise MediaError(f"declares {word[:40]!r} where a count is expected", where=opened.name, fix=_REBUILD)
    return int(word[:20])


def _check_declared(opened: media.MediaFile, rows: int, needed: int, present: int) -> None:
    if needed > present:
        raise MediaError(f"declares {rows} rows, at least {needed} bytes, and holds {present} bytes of them",
                         where=opened.name, fix=_REBUILD)  # fmt: skip
    if rows > media.MAX_POINTS:
        raise MediaError(f"declares {rows} points, more than the limit of {media.MAX_POINTS}", where=opened.name,
                         fix="Thin the cloud out before use.")  # fmt: skip


def _check_rows(opened: media.MediaFile, rows: int, slow: bool) -> None:
    slow = slow or isinstance(opened.file, io.BytesIO)
    if slow and rows > MAX_TEXT_ROWS:
        raise MediaError(f"has {rows} rows that must be parsed one by one, more than the limit of {MAX_TEXT_ROWS}",
                         where=opened.name, fix="Write it as binary points without faces.")  # fmt: skip
