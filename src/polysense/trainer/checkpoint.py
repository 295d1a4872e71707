"""Checkpoints of a running training: what has to be known to go on as if nothing had happened.

They hold the trainable parameters, the buffers, the optimiser's state and the step; of the frozen parameters only a
fingerprint. All randomness is keyed by the step, so no generator state is stored. Layout:
`checkpoints/step-00000100/{model.safetensors, optimizer.safetensors, state.json, MANIFEST.json}`.
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn

from polysense.errors import CheckpointError
from polysense.modality import JsonValue
from polysense.storage import FileSystem, atomic_folder, read_verified
from polysense.trainer.sharding import shared_like, whole_value

logger = logging.getLogger(__name__)

MODEL, OPTIMIZER, STATE = "model.safetensors", "optimizer.safetensors", "state.json"
_REQUIRED = (MODEL, OPTIMIZER, STATE)
_NAME = re.compile(r"step-(\d{8})")


@dataclass(frozen=True)
class Checkpoint:
    """State after `step` optimiser steps.

    Attributes:
        step: optimiser steps done.
        model: name to tensor of trainable parameters and buffers.
        optimizer: state of the optimiser by parameter name.
        state: counters and settings as JSON values.
        path: the folder it was read from.
    """

    step: int
    model: Mapping[str, Tensor]
    optimizer: Mapping[str, Tensor]
    state: Mapping[str, JsonValue]
    path: Path | None = None


class CheckpointStore:
    """The checkpoints of one run folder.

    Args:
        folder: the run folder.
        keep: newest checkpoints that stay, at least 2.
        files: how to write.
    """

    def __init__(self, folder: str | Path, *, keep: int = 2, files: FileSystem | None = None) -> None:
        self.folder, self.keep, self.files = Path(folder) / "checkpoints", max(2, keep), files or FileSystem()

    def paths(self) -> list[Path]:
        """Folders of finished checkpoints, newest first."""
        found = self.folder.iterdir() if self.folder.is_dir() else ()
        return sorted((path for path in found if _NAME.fullmatch(path.name)), reverse=True)

    def save(self, checkpoint: Checkpoint) -> Path:
        """Write a checkpoint, and only when it is safely on the disk remove the oldest.

        Raises:
            CheckpointError: the disk is full or broken; the checkpoints before are intact.
        """
        target = self.folder / f"step-{checkpoint.step:08d}"
        contents = {
            MODEL: save(_on_host(checkpoint.model)),
            OPTIMIZER: save(_on_host(checkpoint.optimizer)),
            STATE: json.dumps({"step": checkpoint.step, **checkpoint.state}, indent=1).encode(),
        }
        parent = next((path.name for path in self.paths() if path != target), None)
        needed = sum(len(data) for data in contents.values())
        with atomic_folder(
            target, details={"parent": parent, "kind": "training"}, needed_bytes=needed, files=self.files
        ) as temporary:
            for name, data in contents.items():
                self.files.write(temporary / name, data)
        self._remove_old()
        return target

    def newest(self, *, strict: bool = False) -> Checkpoint | None:
        """The newest checkpoint that is intact, or `None` where there is none at all.

        Args:
            strict: refuse a damaged newest checkpoint, in place of logging why and trying the one before.

        Raises:
            CheckpointError: every checkpoint is damaged (or the newest, with `strict`); the message names the file.
        """
        failures: list[CheckpointError] = []
        for path in self.paths():
            try:
                return read_checkpoint(path)
            except CheckpointError as error:
                if strict:
                    raise
                logger.warning("cannot resume from %s, trying the one before: %s", path.name, error)
                failures.append(error)
        if failures:
            raise CheckpointError(
                f"none of {len(failures)} checkpoints is intact, the newest because: {failures[0].what}",
                where=failures[0].where,
                fix="Restore one of them, or remove the folder to start from the beginning.",
            ) from failures[0]
        return None

    def _remove_old(self) -> None:
        for path in self.paths()[self.keep :]:
            hidden = path.with_name(f".{path.name}.tmp")
            try:
                # Renamed first: a removal that is cut short must not leave something that looks like a checkpoint.
                self.files.replace(path, hidden)
                self.files.remove_folder(hidden)
            except OSError as error:
                logger.warning("the old checkpoint %s could not be removed (%s)", path, error)


def read_checkpoint(path: Path) -> Checkpoint:
    """Read one checkpoint folder; `CheckpointError` names what is missing or damaged. Nothing is unpickled."""
    _, contents = read_verified(path, _REQUIRED)
    try:
        state = json.loads(contents[STATE])
        step = int(state.pop("step"))
        model, optimizer = load(contents[MODEL]), load(contents[OPTIMIZER])
    except (ValueError, KeyError, TypeError, AttributeError, SafetensorError) as error:
        raise CheckpointError(
            f"the checkpoint cannot be read ({error})", where=path, fix="Use another one."
        ) from error
    if path.name != f"step-{step:08d}":
        raise CheckpointError(f"the folder holds the state of step {step}", where=path, fix="Use another checkpoint.")
    return Checkpoint(step, model, optimizer, state, path)


def trainable_state(module: nn.Module) -> dict[str, Tensor]:
    """Trainable parameters and persistent buffers by name, all of them whole: what training may change."""
    return {name: whole_value(tensor) for name, tensor in _trainable_tensors(module).items()}


def _trainable_tensors(module: nn.Module) -> dict[str, Tensor]:
    """The same as the module holds them."""
    parameters = {name: parameter.requires_grad for name, parameter in module.named_parameters(remove_duplicate=False)}
    canonical = {name for name, _ in module.named_parameters()}
    return {
        name: tensor
        for name, tensor in module.state_dict().items()
        if (name in canonical and parameters[name]) or name not in parameters
    }


def load_trainable_state(module: nn.Module, saved: Mapping[str, Tensor]) -> None:
    """Put saved values into the module in place; `CheckpointError` before anything changes if they do not fit."""
    current = _trainable_tensors(module)
    missing, unexpected = sorted(set(current) - set(saved)), sorted(set(saved) - set(current))
    both = [name for name in current if name in saved]
    shapes = [name for name in both if current[name].shape != saved[name].shape]
    types = [name for name in both if current[name].dtype != saved[name].dtype]
    faults = {"has unexpected": unexpected, "has other sizes of": shapes, "has other types of": types}
    for what, names in {"lacks": missing, **faults}.items():
        if names:
            raise CheckpointError(
                f"the checkpoint {what} {_listing(names)}",
                where=MODEL,
                fix="Resume with the model and the freezing table the run began with.",
            )
    with torch.no_grad():
        for name, tensor in current.items():
            tensor.copy_(shared_like(saved[name], tensor))


def frozen_fingerprint(module: nn.Module) -> str:
    """SHA-256 of name, type, shape and bytes of every frozen parameter."""
    total = hashlib.sha256()
    for name, parameter in sorted(module.named_parameters()):
        if not parameter.requires_grad:
            data = whole_value(parameter.detach()).cpu().contiguous().reshape(-1).view(torch.uint8)
            total.update(f"{name} {parameter.dtype} {tuple(parameter.shape)}\n".encode())
            total.update(data.numpy().data)
    return total.hexdigest()


def _on_host(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {name: tensor.detach().to("cpu", copy=True).contiguous() for name, tensor in tensors.items()}


def _listing(names: list[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")
