"""What is refused before a checkpoint folder is read: pickles, code, and paths that lead outside it.

A folder may come from anyone. transformers joins the file names of an index without looking at them and obeys some
class names of a config; so the folder is judged here, first, from its bytes and not from its file endings.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from polysense.errors import CheckpointError, ConfigError, UnsafeFileError, nearest

_PICKLE_NAMES = {".bin", ".pt", ".pth", ".pkl", ".pickle", ".ckpt"}
_PICKLE_STARTS = (b"PK\x03\x04", b"\x80\x02", b"\x80\x03", b"\x80\x04", b"\x80\x05")  # a zipped or a plain pickle
_MAX_JSON_BYTES = 64 << 20  # tokenizers of 256,000 words take half of that
MAX_HEADER_BYTES = 100 << 20  # the limit of the safetensors format
_CODE_KEYS = {"auto_map", "custom_pipelines", "custom_generate", "trust_remote_code", "transformers_weights",
              "audio_tokenizer_class", "audio_tokenizer_name_or_path"}  # fmt: skip
_MAX_LABELS = 100_000  # transformers makes a table of `num_labels` names as soon as it reads the number
SAVE_AGAIN = "Save the model again with save_pretrained and use that folder."
_CONVERT = "Convert the weights to safetensors in a sandbox; pickles can run code."
_DO_NOT_USE = "Do not use this folder unless you trust its author; ask for one that save_pretrained wrote."


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object of bounded size.

    Raises:
        CheckpointError: missing, larger than 64 MiB, no JSON, or no object.
    """
    try:
        if path.stat().st_size > _MAX_JSON_BYTES:
            raise CheckpointError("the file is larger than any config", where=path, fix=_DO_NOT_USE)
        value = json.loads(path.read_bytes())
    except CheckpointError:
        raise
    except FileNotFoundError as error:
        raise CheckpointError("the file is missing", where=path, fix=SAVE_AGAIN) from error
    except (ValueError, RecursionError, OSError) as error:
        raise CheckpointError(f"the file cannot be read as JSON ({error})", where=path, fix=SAVE_AGAIN) from error
    if not isinstance(value, dict):
        raise CheckpointError("the file does not hold a JSON object", where=path, fix=SAVE_AGAIN)
    return value


def check_keys(given: Iterable[object], known: Sequence[str], where: str) -> None:
    """Raise `ConfigError`, with the nearest known key, for a key that is not known."""
    for key in given:
        if key not in known:
            fix = nearest(key, known) or f"Known keys: {', '.join(known)}."
            raise ConfigError(f"unknown key {key!r}", where=where, fix=fix)


def check_file_name(name: object, *, where: str) -> str:
    """A plain file name: no folder, no parent, no drive. Raises `UnsafeFileError`."""
    if not isinstance(name, str) or not name or name in {".", ".."} or any(mark in name for mark in "/\\:\0"):
        raise UnsafeFileError(f"{name!r} is not a plain file name", where=where, fix=_DO_NOT_USE)
    return name


def _check_weights_file(path: Path) -> None:
    with path.open("rb") as file:
        start = file.read(9)
    if start.startswith(_PICKLE_STARTS):
        raise UnsafeFileError("the file is a pickle, whatever its name says", where=path, fix=_CONVERT)
    header, size = int.from_bytes(start[:8], "little"), path.stat().st_size
    if len(start) < 9 or header > min(MAX_HEADER_BYTES, size - 8) or start[8:] != b"{":
        raise CheckpointError("the file is truncated or no safetensors file", where=path, fix=SAVE_AGAIN)


def check_config(value: Any, *, where: str, depth: int = 0) -> None:
    """Refuse a config that names code or files to be used, at any level, or is made to exhaust the reader.

    transformers takes an attention (or experts) implementation with a slash in its name for a Hub repository of
    kernels, fetches it and runs it. A processor may name a whole model to be loaded from anywhere (its "audio
    tokenizer"), and a tokenizer a file in any folder.

    Raises:
        UnsafeFileError: names the place and the keys.
    """
    if depth > 32:
        raise UnsafeFileError("the config is nested more than 32 levels deep", where=where, fix=_DO_NOT_USE)
    if isinstance(value, dict):
        if bad := sorted(str(key) for key, item in value.items() if _is_unsafe(str(key), item)):
            raise UnsafeFileError(f"the keys {bad} name code or files to be used", where=where, fix=_DO_NOT_USE)
        labels = value.get("num_labels")
        if isinstance(labels, int) and labels > _MAX_LABELS:
            raise UnsafeFileError(f"num_labels is {labels}", where=where, fix=_DO_NOT_USE)
    children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
    for child in children:
        check_config(child, where=where, depth=depth + 1)


def _is_unsafe(key: str, value: Any) -> bool:
    if type(value) is int:  # a word of a vocabulary, such as "_internal", with its number
        return False
    names_place = "_implementation" in key or key == "fast_tokenizer_files"
    fetched = names_place and "/" in json.dumps(value, default=str)
    return key in _CODE_KEYS or key.endswith("_internal") or fetched


def check_links(folder: Path) -> None:
    """Refuse links that lead outside a folder or, in the Hub client's cache, outside its repository's own store.

    Raises:
        UnsafeFileError: naming the link.
    """
    root = folder.resolve()
    for place in (root, *root.parents):  # a model may lie within another's folder
        if place.parent.name == "snapshots" and place.parent.parent.name.startswith("models--"):
            root = place.parent.parent  # the Hub client keeps a repository's files beside its snapshots, as links
            break
    for entry in folder.rglob("*"):
        if entry.is_symlink() and not entry.resolve().is_relative_to(root):
            raise UnsafeFileError("the link leads outside the folder", where=entry, fix=_DO_NOT_USE)


def check_config_files(folder: Path) -> None:
    """Refuse a folder one of whose JSON files, whatever it configures, fails `check_config`.

    Raises:
        UnsafeFileError, CheckpointError: see `check_config` and `read_json`.
    """
    for path in sorted(folder.glob("*.json")):
        check_config(read_json(path), where=str(path))


def check_checkpoint_folder(folder: Path, *, own_links: bool = True) -> None:
    """Refuse a model folder that is unsafe or plainly incomplete, before anything in it is loaded.

    Args:
        own_links: links may only lead inside the folder (of a snapshot in the Hub client's cache: into the same
            repository's store). False where the Hub's client itself has just made them.

    Raises:
        UnsafeFileError: a pickle, a config that names code, a file name or link leading outside.
        CheckpointError: a missing or truncated file.
    """
    if not folder.is_dir():
        raise CheckpointError("there is no such folder", where=folder, fix="Give the folder that holds config.json.")
    if own_links:
        check_links(folder)
    if (folder / "adapter_config.json").exists():
        raise UnsafeFileError("an adapter config here sends the loading on to another model", where=folder,
                              fix="Load the base model, then the adapter with peft.")  # fmt: skip
    read_json(folder / "config.json")
    check_config_files(folder)
    index = folder / "model.safetensors.index.json"
    shards = {path.name for path in folder.glob("*.safetensors")} or {"model.safetensors"}
    if index.exists():
        weight_map = read_json(index).get("weight_map")
        if not isinstance(weight_map, dict):
            raise CheckpointError("the index has no weight_map", where=index, fix=SAVE_AGAIN)
        shards |= {check_file_name(name, where=f"{index}: {key}") for key, name in weight_map.items()}
    for name in sorted(shards):
        if not (folder / name).is_file():
            pickles = [path.name for path in folder.iterdir() if path.suffix in _PICKLE_NAMES]
            if pickles:
                listing = ", ".join(sorted(pickles))
                raise UnsafeFileError(f"only pickled weights are here ({listing})", where=folder, fix=_CONVERT)
            raise CheckpointError(f"{name} is missing", where=folder, fix=SAVE_AGAIN)
        _check_weights_file(folder / name)
