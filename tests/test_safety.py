from __future__ import annotations

import json
import os
import pickle
import struct
import zipfile
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import CheckpointError, ConfigError, UnsafeFileError
from polysense.safety import check_checkpoint_folder, check_config, check_file_name, check_keys, read_json


def write_weights(path: Path, header: dict[str, Any] | None = None) -> None:
    raw = json.dumps(header or {"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    path.write_bytes(struct.pack("<Q", len(raw)) + raw + bytes(4))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text('{"model_type": "unialign"}')
    write_weights(folder / "model.safetensors")
    return folder


def index(folder: Path, *names: object) -> None:
    weight_map = {f"w{i}": name for i, name in enumerate(names)}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))


# ---- JSON -------------------------------------------------------------------------------------------------------


def test_json_of_a_file(folder: Path) -> None:
    assert read_json(folder / "config.json") == {"model_type": "unialign"}


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "cannot be read as JSON"),
        (b'{"a": 1', "cannot be read as JSON"),
        (b"\xff\xfe", "cannot be read as JSON"),
        (b"[" * 100_000, "cannot be read as JSON"),
        (b"[1, 2]", "does not hold a JSON object"),
        (b"null", "does not hold a JSON object"),
    ],
    ids=["empty", "truncated", "binary", "deep", "list", "null"],
)
def test_what_is_no_json_object_is_refused(folder: Path, content: bytes, message: str) -> None:
    (folder / "config.json").write_bytes(content)
    with pytest.raises(CheckpointError, match=rf"config\.json: the file {message}"):
        check_checkpoint_folder(folder)


def test_a_missing_file_a_folder_and_a_giant_are_named(folder: Path) -> None:
    with pytest.raises(CheckpointError, match="the file is missing"):
        read_json(folder / "other.json")
    (folder / "sub.json").mkdir()
    with pytest.raises(CheckpointError, match="cannot be read as JSON"):
        read_json(folder / "sub.json")
    os.truncate(folder / "config.json", 65 << 20)  # sparse: a hole costs nothing
    with pytest.raises(CheckpointError, match=rf"^{folder}/config\.json: the file is larger than any config"):
        read_json(folder / "config.json")


# ---- names and values of a config -------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["model-00001-of-00002.safetensors", "a b.safetensors", "...x"])
def test_plain_names_pass(name: str) -> None:
    assert check_file_name(name, where="index") == name


@pytest.mark.parametrize("name", ["../x", "/etc/passwd", "a/b", "a\\b", "C:x", "..", ".", "", "a\0b", 3, None, ["x"]])
def test_names_that_lead_elsewhere_are_refused(name: object) -> None:
    with pytest.raises(UnsafeFileError, match=r"index: .* is not a plain file name"):
        check_file_name(name, where="index")


@pytest.mark.parametrize(
    "config",
    [
        {"auto_map": {"AutoModel": "modeling.Evil"}},
        {"clip_config": {"vision_config": {"auto_map": {}}}},
        {"list": [{"custom_generate": "x"}]},
        {"trust_remote_code": True},
        {"custom_pipelines": {}},
        {"transformers_weights": "../other.safetensors"},
        {"_attn_implementation_internal": "someone/kernels"},
        {"_experts_implementation_internal": "someone/kernels"},
        {"attn_implementation": "someone/kernels"},
        {"_attn_implementation": {"vision_config": "someone/kernels:evil"}},
        {"clip_config": {"experts_implementation": "someone/kernels"}},
        {"audio_tokenizer": {"audio_tokenizer_class": "DacModel", "audio_tokenizer_name_or_path": "someone/model"}},
        {"audio_tokenizer_name_or_path": "../other"},
        {"fast_tokenizer_files": ["tokenizer.json", "../other/tokenizer.4.0.json"]},
    ],
    ids=str,
)
def test_a_config_may_not_name_code_or_files(config: dict[str, Any]) -> None:
    with pytest.raises(UnsafeFileError, match="name code or files to be used"):
        check_config(config, where="config.json")


def test_ordinary_configs_pass() -> None:
    check_config({"attn_implementation": "sdpa", "num_labels": 1000, "a": [{"b": [1, None, "x/y"]}]}, where="x")
    check_config({"fast_tokenizer_files": ["tokenizer.json", "tokenizer.4.0.json"]}, where="x")
    check_config({"model": {"vocab": {"_internal": 32_000, "auto_map": 0}}}, where="tokenizer.json")


def test_a_config_may_not_exhaust_its_reader() -> None:
    nested: dict[str, Any] = {}
    for _ in range(40):
        nested = {"a": nested}
    with pytest.raises(UnsafeFileError, match="nested more than 32 levels deep"):
        check_config(nested, where="config.json")
    with pytest.raises(UnsafeFileError, match="num_labels is 1000000000"):
        check_config({"text_config": {"num_labels": 10**9}}, where="config.json")


# ---- folders ----------------------------------------------------------------------------------------------------


def test_a_complete_folder_passes_whole_or_in_shards(folder: Path) -> None:
    check_checkpoint_folder(folder)
    (folder / "model.safetensors").rename(folder / "model-00001-of-00001.safetensors")
    index(folder, "model-00001-of-00001.safetensors")
    check_checkpoint_folder(folder)


def test_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="there is no such folder"):
        check_checkpoint_folder(tmp_path / "nothing")


def test_missing_weights_and_shards_are_named(folder: Path) -> None:
    index(folder, "model-00002-of-00002.safetensors")
    with pytest.raises(CheckpointError, match=r"model-00002-of-00002\.safetensors is missing"):
        check_checkpoint_folder(folder)
    (folder / "model.safetensors.index.json").write_text('{"weight_map": 3}')
    with pytest.raises(CheckpointError, match="the index has no weight_map"):
        check_checkpoint_folder(folder)
    (folder / "model.safetensors.index.json").unlink()
    (folder / "model.safetensors").unlink()
    with pytest.raises(CheckpointError, match=r"model\.safetensors is missing"):
        check_checkpoint_folder(folder)


@pytest.mark.parametrize("name", ["../secret.safetensors", "/etc/passwd", "sub/x.safetensors"])
def test_an_index_may_not_lead_outside(folder: Path, name: str) -> None:
    index(folder, name)
    with pytest.raises(UnsafeFileError, match="is not a plain file name"):
        check_checkpoint_folder(folder)


def test_links_may_lead_inside_only(folder: Path, tmp_path: Path) -> None:
    write_weights(tmp_path / "secret.safetensors")
    (folder / "inside.safetensors").symlink_to("model.safetensors")
    check_checkpoint_folder(folder)
    (folder / "extra.txt").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(UnsafeFileError, match=r"extra\.txt: the link leads outside the folder"):
        check_checkpoint_folder(folder)
    check_checkpoint_folder(folder, own_links=False)


def test_links_of_a_hub_snapshot_may_lead_into_its_own_repositorys_store_only(folder: Path, tmp_path: Path) -> None:
    repository = tmp_path / "models--me--x"
    snapshot = repository / "snapshots" / "abc"
    snapshot.mkdir(parents=True)
    (repository / "blobs").mkdir()
    for path in list(folder.iterdir()):
        blob = path.rename(repository / "blobs" / f"blob-of-{path.stem}")
        (snapshot / path.name).symlink_to(blob)
    check_checkpoint_folder(snapshot)
    within = snapshot / "nets" / "ear"  # a model that another one needs
    within.mkdir(parents=True)
    for path in (snapshot / "config.json", snapshot / "model.safetensors"):
        (within / path.name).symlink_to(path.resolve())
    check_checkpoint_folder(within)
    write_weights(tmp_path / "secret.safetensors")
    (snapshot / "extra.txt").symlink_to(tmp_path / "secret.safetensors")
    with pytest.raises(UnsafeFileError, match=r"extra\.txt: the link leads outside the folder"):
        check_checkpoint_folder(snapshot)
    (snapshot / "extra.txt").unlink()
    repository.rename(tmp_path / "mine")
    (tmp_path / "models--me--x").symlink_to(tmp_path / "mine")
    with pytest.raises(UnsafeFileError, match="the link leads outside the folder"):
        check_checkpoint_folder(tmp_path / "mine" / "snapshots" / "abc")


def test_an_adapter_config_would_redirect_the_loading(folder: Path) -> None:
    (folder / "adapter_config.json").write_text('{"base_model_name_or_path": "/elsewhere"}')
    with pytest.raises(UnsafeFileError, match="sends the loading on to another model"):
        check_checkpoint_folder(folder)


@pytest.mark.parametrize("name", ["pytorch_model.bin", "model.pt", "weights.pkl"])
def test_pickles_alone_are_no_weights(folder: Path, name: str) -> None:
    (folder / "model.safetensors").rename(folder / name)
    with pytest.raises(UnsafeFileError, match="only pickled weights are here"):
        check_checkpoint_folder(folder)


@pytest.mark.parametrize("protocol", [0, 1, 2, 3, 4, 5, "zip"])
def test_a_pickle_is_recognised_whatever_its_name(folder: Path, protocol: int | str) -> None:
    path = folder / "model.safetensors"
    if isinstance(protocol, int):
        path.write_bytes(pickle.dumps({"weights": [1.0] * 10}, protocol))
    else:
        with zipfile.ZipFile(path, "w") as archive:
            archive.writestr("archive/data.pkl", pickle.dumps({}))
    with pytest.raises(CheckpointError, match=r"is a pickle, whatever its name says|no safetensors file"):
        check_checkpoint_folder(folder)


@pytest.mark.parametrize("length", [0, 1, 7, 8])
def test_truncated_weights_are_refused(folder: Path, length: int) -> None:
    os.truncate(folder / "model.safetensors", length)
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        check_checkpoint_folder(folder)


@pytest.mark.parametrize("header", [2**63, 101 << 20, 10_000])
def test_an_absurd_header_length_is_refused(folder: Path, header: int) -> None:
    path = folder / "model.safetensors"
    path.write_bytes(struct.pack("<Q", header) + path.read_bytes()[8:])
    with pytest.raises(CheckpointError, match="truncated or no safetensors file"):
        check_checkpoint_folder(folder)


def test_an_unknown_key_is_named_with_the_nearest_known_one() -> None:
    check_keys(["a"], ["a", "b"], "here")
    with pytest.raises(ConfigError, match=r"here: unknown key 'stpes'\. Did you mean 'steps'\?"):
        check_keys(["steps", "stpes"], ["steps", "epochs"], "here")
    with pytest.raises(ConfigError, match=r"unknown key 'x'\. Known keys: steps, epochs\."):
        check_keys(["x"], ["steps", "epochs"], "here")
