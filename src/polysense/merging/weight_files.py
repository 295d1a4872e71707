"""Safetensors folders read and written piece by piece, without ever holding a tensor in memory.

The library `safetensors` maps a file into memory, where every page that was touched counts, and writes only what it
is given as a whole. A file's header follows from names, dtypes and shapes alone, so it can be written strictly
forward: eight bytes of length, the header as JSON, the numbers. The files are byte for byte those of `save_file`.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from io import FileIO
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Shaped
from torch import Tensor
from tqdm.auto import tqdm

from polysense.errors import CheckpointError
from polysense.merging.select import Entry
from polysense.safety import MAX_HEADER_BYTES, SAVE_AGAIN, check_checkpoint_folder, check_file_name, read_json

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
SHARD_BYTES = 5 * 10**9
# in the order that safetensors gives them in a file: widest first, so that every tensor lies aligned
_DTYPES = {
    "U64": torch.uint64, "I64": torch.int64, "F64": torch.float64, "C64": torch.complex64, "F32": torch.float32,
    "U32": torch.uint32, "I32": torch.int32, "BF16": torch.bfloat16, "F16": torch.float16, "U16": torch.uint16,
    "I16": torch.int16, "F8_E4M3": torch.float8_e4m3fn, "F8_E5M2": torch.float8_e5m2, "I8": torch.int8,
    "U8": torch.uint8, "BOOL": torch.bool,
}  # fmt: skip
_NAMES = {dtype: name for name, dtype in _DTYPES.items()}
_RANKS = {dtype: rank for rank, dtype in enumerate(_NAMES)}

Piece = Callable[[], Shaped[Tensor, " numbers"]]
"""Makes some consecutive numbers of a tensor, in its dtype; in any thread, at any time."""


@dataclass(frozen=True)
class StoredTensor(Entry):
    """A tensor in a file.

    Attributes:
        file: the safetensors file.
        offset: place of its first byte there.
    """

    file: Path
    offset: int


@dataclass(frozen=True)
class Output:
    """A tensor to be written: its pieces, in order, are asked for shortly before the file has come to them."""

    dtype: torch.dtype
    shape: tuple[int, ...]
    pieces: Callable[[], Iterator[Piece]]

    @property
    def size(self) -> int:
        """Bytes of the tensor."""
        return math.prod(self.shape) * self.dtype.itemsize


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Where every tensor of a model folder lies, in the order of the names; no number is read.

    Raises:
        UnsafeFileError: the index names a path instead of a file, or a config of the folder is unsafe.
        CheckpointError: a file is missing, truncated or no safetensors file, or the index does not fit the files.
    """
    if (folder / "config.json").exists():
        check_checkpoint_folder(folder)
    index = folder / INDEX
    if not index.exists():
        return dict(sorted(_read_header(folder / WEIGHTS).items()))
    weight_map = read_json(index).get("weight_map")
    if not isinstance(weight_map, dict):
        raise CheckpointError("the index has no weight_map", where=index, fix=SAVE_AGAIN)
    files = {check_file_name(name, where=f"{index}: {key}") for key, name in weight_map.items()}
    stored = {name: _read_header(folder / name) for name in sorted(files)}
    if unlisted := sorted(f"{name}: {key}" for name in stored for key in stored[name] if weight_map.get(key) != name):
        raise CheckpointError(f"the index does not list {unlisted[0]}", where=index, fix=SAVE_AGAIN)
    if missing := sorted(key for key, name in weight_map.items() if key not in stored[name]):
        raise CheckpointError(f"{weight_map[missing[0]]} lacks {missing[0]}", where=index, fix=SAVE_AGAIN)
    return {key: stored[weight_map[key]][key] for key in sorted(weight_map)}


def read_numbers(tensor: StoredTensor, start: int, stop: int) -> Shaped[Tensor, " numbers"]:
    """Numbers `start` to `stop` of a stored tensor, counted row by row. Raises `CheckpointError` if they are gone."""
    data = np.empty((stop - start) * tensor.dtype.itemsize, np.uint8)
    with tensor.file.open("rb", buffering=0) as file:
        file.seek(tensor.offset + start * tensor.dtype.itemsize)
        done = 0
        while done < len(data) and (count := file.readinto(data[done:].data)):
            done += count
    if done < len(data):
        raise CheckpointError("the file was cut while it was read", where=tensor.where, fix=SAVE_AGAIN)
    return torch.from_numpy(data).view(tensor.dtype)


def write_weights(
    folder: Path, outputs: Mapping[str, Output], shard_bytes: int = SHARD_BYTES, workers: int = 1
) -> None:
    """Write tensors into a folder, as one safetensors file or as several with an index.

    Args:
        folder: where to; see `polysense.storage.atomic_folder`.
        outputs: in the order of the files.
        shard_bytes: most bytes of numbers in a file that holds more than one tensor.
        workers: pieces that are made side by side; as many wait to be written at most.
    """
    shards = _shards(outputs, shard_bytes)
    names = [f"model-{i:05d}-of-{len(shards):05d}.safetensors" for i in range(1, len(shards) + 1)]
    total = sum(output.size for output in outputs.values())
    with tqdm(total=total, desc="writing weights", unit="B", unit_scale=True, delay=2, leave=False) as bar:
        for name, shard in zip(names if len(shards) > 1 else [WEIGHTS], shards, strict=True):
            _write_shard(folder / name, shard, workers, bar)
    if len(shards) > 1:
        weight_map = {key: name for name, shard in zip(names, shards, strict=True) for key in shard}
        index = {"metadata": {"total_size": total}, "weight_map": dict(sorted(weight_map.items()))}
        (folder / INDEX).write_text(json.dumps(index, indent=2) + "\n")


def _shards(outputs: Mapping[str, Output], shard_bytes: int) -> list[dict[str, Output]]:
    shards: list[dict[str, Output]] = [{}]
    filled = 0
    for key, output in outputs.items():
        if shards[-1] and filled + output.size > shard_bytes:
            shards.append({})
            filled = 0
        shards[-1][key] = output
        filled += output.size
    return [dict(sorted(shard.items(), key=lambda item: (_RANKS[item[1].dtype], item[0]))) for shard in shards]


def _write_shard(path: Path, outputs: Mapping[str, Output], workers: int, bar: tqdm[Any]) -> None:
    header: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    end = 0
    for key, output in outputs.items():
        begin, end = end, end + output.size
        header[key] = {"dtype": _NAMES[output.dtype], "shape": output.shape, "data_offsets": [begin, end]}
    text = json.dumps(header, ensure_ascii=False, separators=(",", ":")).encode()
    text += b" " * (-len(text) % 8)
    pieces = (piece for output in outputs.values() for piece in output.pieces())
    with path.open("wb", buffering=0) as file:
        _write(file, len(text).to_bytes(8, "little") + text)
        for piece in _made_ahead(pieces, workers):
            _write(file, piece.view(torch.uint8).numpy().data)
            bar.update(piece.nbytes)


def _made_ahead(pieces: Iterator[Piece], workers: int) -> Iterator[Shaped[Tensor, " numbers"]]:
    """The pieces in order; while one is written, the next are made."""
    with ThreadPoolExecutor(workers) as pool:
        pending = deque(pool.submit(piece) for piece in islice(pieces, workers))
        while pending:
            made = pending.popleft().result()
            pending.extend(pool.submit(piece) for piece in islice(pieces, 1))
            yield made


def _write(file: FileIO, data: bytes | memoryview) -> None:
    """All of it: a disk that is nearly full takes a part, and refuses the rest when it is asked again."""
    while data:
        data = data[file.write(data) :]


def _read_header(path: Path) -> dict[str, StoredTensor]:
    """The header of one file, accepted only if its tensors tile the rest of the file, as the format demands."""
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if length > min(MAX_HEADER_BYTES, size - 8):
                raise CheckpointError("the file is truncated or no safetensors file", where=path, fix=SAVE_AGAIN)
            header = json.loads(file.read(length))
        header.pop("__metadata__", None)
        stored = {key: _stored(path, key, entry, 8 + length) for key, entry in header.items()}
    except FileNotFoundError as error:
        raise CheckpointError("the file is missing", where=path, fix=SAVE_AGAIN) from error
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        if isinstance(error, CheckpointError):
            raise
        raise CheckpointError("the file has no safetensors header", where=path, fix=SAVE_AGAIN) from error
    end = 8 + length
    for tensor in sorted(stored.values(), key=lambda each: (each.offset, math.prod(each.shape))):
        if tensor.offset != end:
            raise CheckpointError("tensors overlap or leave gaps", where=tensor.where, fix=SAVE_AGAIN)
        end += math.prod(tensor.shape) * tensor.dtype.itemsize
    if end != size:
        raise CheckpointError(f"the file has {size} bytes, its header tells of {end}", where=path, fix=SAVE_AGAIN)
    return stored


def _stored(path: Path, key: str, entry: Mapping[str, Any], data: int) -> StoredTensor:
    shape, (begin, end) = tuple(entry["shape"]), entry["data_offsets"]
    if not all(isinstance(each, int) and each >= 0 for each in (*shape, begin, end)):
        raise CheckpointError("the tensor has an impossible shape or place", where=f"{path}: {key}", fix=SAVE_AGAIN)
    if entry["dtype"] not in _DTYPES:
        raise CheckpointError(f"the dtype {entry['dtype']!r} is unknown", where=f"{path}: {key}", fix=SAVE_AGAIN)
    dtype = _DTYPES[entry["dtype"]]
    if math.prod(shape) * dtype.itemsize != end - begin:
        raise CheckpointError(f"{end - begin} bytes cannot hold {entry['dtype']} of shape {shape}",
                              where=f"{path}: {key}", fix=SAVE_AGAIN)  # fmt: skip
    return StoredTensor(dtype, shape, f"{path}: {key}", path, data + begin)
