"""How every model of this library is loaded: judged first, read completely or not at all."""

from __future__ import annotations

import copy
import hashlib
import logging
import re
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any, Self, TypeAlias, cast

import torch
from huggingface_hub import snapshot_download
from safetensors import safe_open
from torch import Tensor, nn
from transformers import CONFIG_MAPPING, MODEL_MAPPING, AutoModel, PreTrainedModel

from polysense.errors import CheckpointError, ConfigError, PolysenseError, UnknownModalityError, nearest
from polysense.modality import JsonValue
from polysense.protocols import ModalityEncoder
from polysense.safety import check_checkpoint_folder, read_json
from polysense.storage import check_intact

Source: TypeAlias = str | Path | PreTrainedModel
"""Where a model comes from: a folder, a name on the Hub, or a model at hand."""

_HUB_FILES = ["*.json", "*.safetensors", "*.txt", "*.jinja", "README.md"]
HUB_ARGUMENTS = ("subfolder", "revision", "cache_dir", "token", "local_files_only", "force_download")
_NAME_ONE = "Give a stage's folder, or owner/name on the Hub."
_OTHER_KIND = (
    "Load it with AutoModel or the class of its type; a new model begins with from_clip, from_encoder, from_parts or "
    "from_llava."
)
_CHOICES = ("attn_implementation", "quantization_config", "device_map", "dtype", "torch_dtype")  # how, and not what
_INCIDENTAL = ("_name_or_path", "transformers_version")  # of a config: what a model does, does not depend on them
_LOADING_FAULTS = ("missing_keys", "unexpected_keys", "mismatched_keys", "error_msgs")


def count_parameters(model: nn.Module, part_of: Callable[[str], str]) -> dict[str, tuple[int, int]]:
    """(all, trainable) parameters of every part of a model.

    Args:
        part_of: name of a parameter to the name of its part.
    """
    table: dict[str, tuple[int, int]] = {}
    for name, parameter in model.named_parameters():
        total, trainable = table.get(part := part_of(name), (0, 0))
        size = parameter.numel()
        table[part] = (total + size, trainable + size * parameter.requires_grad)
    return table


def best_device() -> torch.device:
    """Where a model works fastest here: on the GPU, if there is one."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


@contextmanager
def reading(where: str | Path, *, what: str = "model", fix: str = _NAME_ONE) -> Iterator[None]:
    """Within this block, whatever transformers or the Hub's client raise becomes a `CheckpointError` about `where`."""
    try:
        yield
    except PolysenseError:
        raise
    # they raise errors of many libraries here, hence the broad clause
    except Exception as error:
        reason = " ".join(str(error).split())[:200]
        raise CheckpointError(
            f"the {what} cannot be loaded ({type(error).__name__}: {reason})", where=where, fix=fix
        ) from error


def local_folder(name_or_path: str | Path, arguments: dict[str, Any], *, fix: str = _NAME_ONE) -> Path:
    """The local folder of a checkpoint, fetched from the Hub if need be, after `check_checkpoint_folder`.

    Args:
        arguments: keyword arguments of `from_pretrained`; those that concern the Hub are taken out.
        fix: what to do where there is no such folder or repository.

    Raises:
        ConfigError: a revision of a folder, which has none.
        CheckpointError: there is no such folder, it cannot be fetched, or it is damaged.
        UnsafeFileError: see `check_checkpoint_folder`.
    """
    hub = {key: arguments.pop(key) for key in HUB_ARGUMENTS if key in arguments}
    subfolder = hub.pop("subfolder", "") or ""
    if Path(name_or_path).exists():
        if hub.get("revision") is not None:
            raise ConfigError(f"{name_or_path} is a folder here, which has no revisions", where="revision",
                              fix="Leave it out, or name a repository on the Hub.")  # fmt: skip
        folder = Path(name_or_path) / subfolder
        check_checkpoint_folder(folder)
        check_intact(folder)
        return folder
    name, hub = str(name_or_path), {key: value for key, value in hub.items() if value is not None}
    if name.count("/") > 1 or name.startswith((".", "/", "~")):
        raise CheckpointError("there is no such folder", where=name, fix=fix)
    with reading(name, fix=fix):
        snapshot = snapshot_download(name, allow_patterns=_HUB_FILES, **hub)
    check_checkpoint_folder(Path(snapshot) / subfolder, own_links=False)
    return Path(snapshot) / subfolder


def check_kind(folder: Path, kind: str, *, fix: str) -> None:
    """Refuse a folder whose config is of another kind of model, whose weights would be drawn anew or left out.

    Raises:
        CheckpointError: naming both kinds.
    """
    found = read_json(folder / "config.json").get("model_type")
    if found != kind:
        raise CheckpointError(f"the model is of type {found!r}, not {kind!r}", where=folder, fix=fix)


def unknown_input(key: str, keys: Iterable[str], modalities: Iterable[str], *, where: str) -> PolysenseError:
    """The error about an input that no model takes: features of a sense it lacks, or a name that is none.

    Args:
        keys: names of the inputs there are.
        modalities: senses of the model.
    """
    if meant := nearest(key, keys := sorted(keys), 0.85):
        return ConfigError(f"unknown key {key!r}", where=where, fix=meant)
    if features := re.fullmatch(r"(\w+)_(values|mask)", key):
        return UnknownModalityError(features[1], modalities, where=f"{where}, {key}")
    return ConfigError(f"unknown key {key!r}", where=where, fix=f"Known keys: {', '.join(keys)}.")


def weights_digest(state: Mapping[str, Tensor]) -> str:
    """SHA-256 of weights: their names, types, shapes and bits, in whichever order and on whichever device."""
    together = hashlib.sha256()
    for name in sorted(state):
        weight = state[name].detach().cpu().contiguous()
        together.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        together.update(weight.flatten().view(torch.uint8).numpy().data)
    return together.hexdigest()


def model_key(model: PreTrainedModel) -> dict[str, JsonValue]:
    """All that a frozen model's outputs depend on beside its inputs: the digest of its weights, and its config."""
    config = {key: value for key, value in model.config.to_dict().items() if key not in _INCIDENTAL}
    return {"weights": weights_digest(model.state_dict()), "config": config}


def load_foreign(
    kind: Any, source: str | Path, *, may_lack: str = r"(?!)", hub: dict[str, Any] | None = None, fix: str = ""
) -> PreTrainedModel:
    """A model of transformers' own from a folder or the Hub, with safetensors only and all its weights.

    Args:
        kind: its class, or an Auto class.
        may_lack: regular expression of weights that are not needed.
        hub: keyword arguments, of which those that concern the Hub are taken out.
        fix: what to do about a folder of another kind.

    Raises:
        UnsafeFileError: a pickle, code or an escaping path, before anything is read.
        CheckpointError: weights are missing, or the folder holds no such model.
    """
    folder = local_folder(source, {} if hub is None else hub)
    fix = fix or f"Use a folder that {kind.__name__} can load."
    if (config := getattr(kind, "config_class", None)) is not None:  # which the Auto classes do not have
        check_kind(folder, config.model_type, fix=fix)
    with reading(folder, fix=fix), _without_report():
        model, info = kind.from_pretrained(folder, use_safetensors=True, output_loading_info=True)
    if missing := sorted(key for key in info["missing_keys"] if not re.fullmatch(may_lack, key)):
        raise CheckpointError(f"the folder lacks the weights {missing[:3]}", where=folder,
                              fix="Use a folder that save_pretrained wrote.")  # fmt: skip
    return cast(PreTrainedModel, model)


@contextmanager
def _without_report() -> Iterator[None]:
    """Within this block, transformers does not list the weights of this thread's model that are there and not needed,
    or that it lacks: heads of a pre-training, mostly, and what must not be lacking is an error of ours."""
    logger, thread = logging.getLogger("transformers.modeling_utils"), threading.get_ident()

    def is_wanted(record: logging.LogRecord) -> bool:
        text = record.getMessage()
        failed = "MISMATCH" in text or "CONVERSION" in text  # the error that follows only points at the list
        return failed or record.thread != thread or "LOAD REPORT" not in text

    logger.addFilter(is_wanted)
    try:
        yield
    finally:
        logger.removeFilter(is_wanted)


def load_encoder(source: Source) -> PreTrainedModel:
    """A frozen encoder: one of ours as it is, any other wrapped as an `hf_encoder`.

    Raises:
        UnsafeFileError, CheckpointError: see `load_foreign`.
        ConfigError: a model that cannot be wrapped.
    """
    wrapper: Any = MODEL_MAPPING[CONFIG_MAPPING["hf_encoder"]]
    if isinstance(source, PreTrainedModel):
        own = isinstance(source, ModalityEncoder)
        return cast(PreTrainedModel, copy.deepcopy(source) if own else wrapper.from_model(source))
    kind = read_json(local_folder(source, {}) / "config.json").get("model_type")
    known = kind in CONFIG_MAPPING and CONFIG_MAPPING[kind] in MODEL_MAPPING
    own = known and hasattr(MODEL_MAPPING[CONFIG_MAPPING[kind]], "encode_tokens")
    return cast(PreTrainedModel, AutoModel.from_pretrained(source) if own else wrapper.from_base(source))


def checked_encoder(encoder: Any, key: str) -> nn.Module:
    """The encoder itself, if it has the protocol's methods; `ConfigError` otherwise."""
    if not isinstance(encoder, ModalityEncoder):
        raise ConfigError(f"a {type(encoder).__name__} is no ModalityEncoder", where=f"encoder {key}",
                          fix="Wrap it: model_type hf_encoder, with its config as base_config.")  # fmt: skip
    return cast(nn.Module, encoder)


def _check_size(model: PreTrainedModel, folder: Path) -> None:
    """Refuse a config that asks for more values than the files hold: absent weights would be allocated and drawn."""
    stored = 0
    for path in folder.glob("*.safetensors"):
        with safe_open(path, framework="pt") as file:
            stored += sum(prod(file.get_slice(key).get_shape()) for key in file.keys())  # noqa: SIM118
    wanted = sum(parameter.numel() for parameter in model.parameters())
    if stored < wanted:
        raise CheckpointError(
            f"the config describes {wanted} weights, the files hold {stored}", where=folder,
            fix="Use a folder that save_pretrained of this class wrote, with all its files.",
        )  # fmt: skip


def _mend(arguments: Mapping[str, Any], error: Exception) -> str:
    """What to do where loading with these arguments of `from_pretrained` ended in an error."""
    asked = [name for name in _CHOICES if arguments.get(name) is not None or name in str(error)]
    if isinstance(error, ImportError):
        return f"Install what is missing, or load it without {' and '.join(asked) or 'what asks for it'}."
    return f"Use a folder that save_pretrained of this class wrote{', or leave out '.join(['', *asked])}."


class PolysenseModel(PreTrainedModel):
    """Base of our models: `from_pretrained` refuses unsafe folders and anything short of a complete match."""

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, *args: Any, **kwargs: Any) -> Self:
        """As in transformers, from a folder or the Hub, with safetensors only.

        Raises:
            ConfigError: a variant, or a revision of a folder.
            UnsafeFileError: a pickle, code or an escaping path, before anything is read.
            CheckpointError: the folder holds a model of another type or a config that cannot be used, a weight is
                missing, unexpected or of another shape, or an argument cannot be followed here.
        """
        if "variant" in kwargs:
            raise ConfigError("variants of a checkpoint are not supported", where="variant",
                              fix="Name a revision or a folder instead.")  # fmt: skip
        folder = local_folder(pretrained_model_name_or_path, kwargs)
        wants_info = kwargs.pop("output_loading_info", False)
        kwargs.pop("trust_remote_code", None)
        kwargs.pop("use_safetensors", None)
        if kwargs.get("config") is None:
            check_kind(folder, cls.config_class.model_type, fix=_OTHER_KIND)
        try:
            config = copy.deepcopy(kwargs.get("config")) or cls.config_class.from_pretrained(folder, **kwargs)
            with torch.device("meta"):
                plan = cls(config)
            _check_size(plan, folder)
            loaded = super().from_pretrained(
                folder, *args, output_loading_info=True, use_safetensors=True, ignore_mismatched_sizes=True, **kwargs
            )
        except ConfigError as error:
            if "config" in kwargs:
                raise
            key = f"{error.where}: " if error.where else ""
            raise CheckpointError(f"in the config, {key}{error.what}", where=folder, fix=error.fix) from error
        except PolysenseError:
            raise
        except Exception as error:
            raise CheckpointError(
                f"the checkpoint cannot be loaded ({type(error).__name__}: {error})", where=folder,
                fix=_mend(kwargs, error),
            ) from error  # fmt: skip
        model, info = loaded
        faults = {fault: info[fault] for fault in _LOADING_FAULTS if info.get(fault)}
        if faults:
            listing = "; ".join(f"{fault} {sorted(map(str, keys))[:3]}" for fault, keys in faults.items())
            raise CheckpointError(
                f"the weights do not fit the config ({listing})", where=folder,
                fix="Load it with the class and config that it was saved with.",
            )  # fmt: skip
        frozen = {name for name, parameter in plan.named_parameters() if not parameter.requires_grad}
        for name, parameter in model.named_parameters():  # loading makes new parameters, which all train
            parameter.requires_grad_(name not in frozen and parameter.requires_grad)
        return cast(Self, (model, info) if wants_info else model)
