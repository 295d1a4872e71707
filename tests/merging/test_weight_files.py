from __future__ import annotations

import json
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from polysense.errors import CheckpointError, UnsafeFileError
from polysense.merging.weight_files import INDEX, WEIGHTS, Output, Piece, read_headers, read_numbers, write_weights

DTYPES = (
    torch.float64, torch.float32, torch.float16, torch.bfloat16, torch.int64, torch.int32, torch.int16, torch.int8,
    torch.uint8, torch.bool, torch.float8_e4m3fn,
)  # fmt: skip


def every_dtype() -> dict[str, Tensor]:
    state = {f"layer.{i}.weight": (10 * torch.randn(3, 4)).to(dtype) for i, dtype in enumerate(DTYPES)}
    return state | {"größe": torch.tensor(1.5), "empty": torch.zeros(0, 4), "a.bias": torch.randn(5).bfloat16()}


def outputs(state: dict[str, Tensor], numbers: int = 5) -> dict[str, Output]:
    def pieces(tensor: Tensor) -> Iterator[Piece]:
        flat = tensor.reshape(-1)
        return (partial(flat.narrow, 0, at, min(numbers, len(flat) - at)) for at in range(0, len(flat), numbers))

    return {
        key: Output(tensor.dtype, tuple(tensor.shape), lambda t=tensor: pieces(t))  # type: ignore[misc]
        for key, tensor in state.items()
    }


def same(first: Tensor, second: Tensor) -> bool:
    """Equal to the bit, also where a dtype has no comparison."""
    bits = [tensor.reshape(-1).view(torch.uint8) for tensor in (first, second)]
    return first.dtype == second.dtype and first.shape == second.shape and torch.equal(*bits)


def hostile(path: Path, header: dict[str, Any] | bytes, data: bytes = bytes(8)) -> None:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def entry(shape: list[Any], offsets: list[Any], dtype: object = "F32") -> dict[str, Any]:
    return {"dtype": dtype, "shape": shape, "data_offsets": offsets}


@pytest.mark.parametrize("workers", [1, 3])
def test_a_written_file_is_the_library_s_own_byte_for_byte(tmp_path: Path, workers: int) -> None:
    state = every_dtype()
    write_weights(tmp_path, outputs(state), workers=workers)
    save_file(state, tmp_path / "theirs.safetensors", metadata={"format": "pt"})
    assert (tmp_path / WEIGHTS).read_bytes() == (tmp_path / "theirs.safetensors").read_bytes()
    assert not (tmp_path / INDEX).exists()


@pytest.mark.parametrize("workers", [1, 3])
def test_as_many_pieces_as_workers_are_made_before_one_is_written(tmp_path: Path, workers: int) -> None:
    made: list[int] = []

    def piece(number: int) -> Tensor:
        made.append(number)
        return torch.full((4,), number, dtype=torch.uint8)

    def asked() -> Iterator[Piece]:
        for number in range(9):
            assert number - (path.stat().st_size - header) // 4 <= workers + 1
            yield partial(piece, number)

    path, text = (
        tmp_path / WEIGHTS,
        b'{"__metadata__":{"format":"pt"},"x":{"dtype":"U8","shape":[36],"data_offsets":[0,36]}}',
    )
    header = 8 + len(text) + -len(text) % 8
    write_weights(tmp_path, {"x": Output(torch.uint8, (36,), asked)}, workers=workers)
    assert sorted(made) == list(range(9)) and load_file(path)["x"].tolist() == [i // 4 for i in range(36)]


def test_shards_are_written_with_an_index_and_read_back(tmp_path: Path) -> None:
    state = every_dtype()
    write_weights(tmp_path, outputs(state), shard_bytes=60)
    index = json.loads((tmp_path / INDEX).read_text())
    assert index["metadata"]["total_size"] == sum(tensor.nbytes for tensor in state.values())
    files = sorted(path.name for path in tmp_path.glob("*.safetensors"))
    assert len(files) > 3 and files[0] == f"model-00001-of-{len(files):05d}.safetensors"
    loaded = {key: tensor for name in files for key, tensor in load_file(tmp_path / name).items()}
    stored = read_headers(tmp_path)
    assert set(index["weight_map"]) == set(loaded) == set(stored) == set(state)
    for key, tensor in state.items():
        assert same(loaded[key], tensor)
        if tensor.numel():
            assert same(read_numbers(stored[key], 0, tensor.numel()).view(tensor.shape), tensor)


def test_any_part_of_a_tensor_can_be_read(tmp_path: Path) -> None:
    save_file({"a": torch.arange(7.0), "b": torch.arange(20.0).view(4, 5)}, tmp_path / WEIGHTS)
    assert read_numbers(read_headers(tmp_path)["b"], 3, 8).tolist() == [3.0, 4.0, 5.0, 6.0, 7.0]


def test_a_file_cut_after_the_headers_were_read_is_noticed(tmp_path: Path) -> None:
    save_file({"a": torch.arange(7.0)}, tmp_path / WEIGHTS)
    stored = read_headers(tmp_path)["a"]
    (tmp_path / WEIGHTS).write_bytes((tmp_path / WEIGHTS).read_bytes()[:-4])
    with pytest.raises(CheckpointError, match=r"model\.safetensors: a: the file was cut while it was read"):
        read_numbers(stored, 0, 7)


@pytest.mark.parametrize(
    "name", ["../model.safetensors", "/etc/passwd", "sub/model.safetensors", "..", "", 3, "C:\\x"]
)
def test_an_index_cannot_lead_outside(tmp_path: Path, name: object) -> None:
    (tmp_path / INDEX).write_text(json.dumps({"weight_map": {"w": name}}))
    with pytest.raises(UnsafeFileError, match=r"index\.json: w: .* is not a plain file name"):
        read_headers(tmp_path)


def test_a_folder_with_a_config_is_judged_as_a_checkpoint(tmp_path: Path) -> None:
    save_file({"a": torch.arange(7.0)}, tmp_path / WEIGHTS)
    (tmp_path / "config.json").write_text('{"auto_map": {"AutoModel": "evil.Model"}}')
    with pytest.raises(UnsafeFileError, match="auto_map"):
        read_headers(tmp_path)


def test_an_index_has_to_fit_its_files(tmp_path: Path) -> None:
    save_file({"a": torch.zeros(1), "b": torch.zeros(1)}, tmp_path / "one.safetensors")
    for weight_map, message in (
        ({"a": "one.safetensors"}, "the index does not list one.safetensors: b"),
        ({"a": "one.safetensors", "b": "one.safetensors", "c": "one.safetensors"}, "one.safetensors lacks c"),
        ({"a": "two.safetensors"}, r"two\.safetensors: the file is missing"),
        (["a"], "the index has no weight_map"),
    ):
        (tmp_path / INDEX).write_text(json.dumps({"weight_map": weight_map}))
        with pytest.raises(CheckpointError, match=message):
            read_headers(tmp_path)


@pytest.mark.parametrize(
    ("header", "message"),
    [
        (b"", "no safetensors header"),
        (b"[]", "no safetensors header"),
        (b"{", "no safetensors header"),
        (b'{"a": ' * 30_000, "no safetensors header"),
        ({"a": 3}, "no safetensors header"),
        ({"a": {"dtype": "F32", "shape": [2]}}, "no safetensors header"),
        ({"a": entry([2], [0, 8], "F3")}, "a: the dtype 'F3' is unknown"),
        ({"a": entry([2], [0, 8], [])}, "no safetensors header"),
        ({"a": entry([3], [0, 8])}, "a: 8 bytes cannot hold F32 of shape"),
        ({"a": entry([-2], [0, -8])}, "a: the tensor has an impossible shape"),
        ({"a": entry([2.0], [0, 8])}, "a: the tensor has an impossible shape"),
        ({"a": entry(["2"], [0, 8])}, "a: the tensor has an impossible shape"),
        ({"a": entry([2], [0, 8]), "b": entry([2], [0, 8])}, "b: tensors overlap or leave gaps"),
        ({"a": entry([1], [4, 8])}, "a: tensors overlap or leave gaps"),
        ({"a": entry([1], [0, 4])}, "has 120 bytes|its header tells of"),
        ({"a": entry([2**62], [0, 2**64])}, "its header tells of"),
    ],
)
def test_hostile_headers_are_refused(tmp_path: Path, header: dict[str, Any] | bytes, message: str) -> None:
    hostile(tmp_path / WEIGHTS, header)
    with pytest.raises(CheckpointError, match=message):
        read_headers(tmp_path)


@pytest.mark.parametrize("content", [b"", b"12", (2**40).to_bytes(8, "little") + b"{}", b"PK\x03\x04" + bytes(60)])
def test_what_is_no_safetensors_file_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / WEIGHTS).write_bytes(content)
    with pytest.raises(CheckpointError, match=r"truncated or no safetensors file|no safetensors header"):
        read_headers(tmp_path)


def test_a_folder_without_weights_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"model\.safetensors: the file is missing"):
        read_headers(tmp_path)
