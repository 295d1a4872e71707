"""Sharded training (FSDP2): each process holds a share of every parameter, its gradient and its optimiser state.

The launcher switches it on, as everywhere on Accelerate: `accelerate launch --use_fsdp --fsdp_version 2 ...`. Its
settings are Accelerate's, the sharding is torch's own `fully_shard`: Accelerate applies FSDP to accelerators alone and
leaves several CPU processes unsharded without a word, and it would shard parts that are called by themselves.

A loop shards as it begins and gives whole parameters back as it ends, so that nothing around it (merging, scoring,
saving) has to know. Hence a process needs room for the whole model before and after, though not for the rest.
"""

from __future__ import annotations

import copy
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from accelerate.utils import FullyShardedDataParallelPlugin
from torch import Tensor, nn
from torch.distributed._composable_state import _module_state_mapping
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.distributed.tensor import DTensor, distribute_tensor

from polysense.errors import ConfigError
from polysense.trainer.distributed import world_size

_SWITCH = "ACCELERATE_USE_FSDP"


@contextmanager
def sharded(objective: Any, device: torch.device) -> Iterator[None]:
    """Shard an objective's module over all processes within the block, if the launcher says so.

    An objective that can be sharded calls `module(...)` itself, and has `whole`: names of parts of it that are also
    called by themselves, so that every process keeps all of them. If the block raises, the module stays sharded.

    Args:
        device: the module is moved there first.

    Raises:
        ConfigError: FSDP of version 1, or an objective that cannot be sharded.
    """
    settings = _launched()
    if settings is None or world_size() == 1:
        yield
        return
    whole = getattr(objective, "whole", None)
    if whole is None:
        raise ConfigError(f"{type(objective).__name__} cannot be sharded", where=_SWITCH,
                          fix="Launch this training without --use_fsdp.")  # fmt: skip
    module = objective.module.to(device)
    before = _Before(module)
    spared = [part for name in whole for part in module.get_submodule(name).modules()]
    ignored = {parameter for part in spared for parameter in part.parameters()}
    options: dict[str, Any] = {
        "mesh": init_device_mesh(device.type, (world_size(),)), "offload_policy": settings.cpu_offload,
        "reshard_after_forward": settings.reshard_after_forward,
    }  # fmt: skip
    blocks = set(settings.transformer_cls_names_to_wrap or getattr(module, "_no_split_modules", None) or ())
    for part in reversed(list(module.modules())):  # the inner ones first
        if type(part).__name__ in blocks and part not in spared:
            fully_shard(part, **options)
    fully_shard(module, **options, ignored_params=ignored)
    before.release(ignored)
    yield
    before.restore()


class _Before:
    """A module as it was before it was sharded; torch has no way back of its own."""

    def __init__(self, module: nn.Module) -> None:
        self.module, self.parameters = module, dict(module.named_parameters())
        self.parts = [(part, type(part), _kept(part)) for part in module.modules()]

    def release(self, ignored: set[nn.Parameter]) -> None:
        """Let go of the values, which the shards hold now."""
        for parameter in self.parameters.values():
            if parameter not in ignored:
                parameter.data = parameter.data.new_empty(0)

    @torch.no_grad()
    def restore(self) -> None:
        """Give every part its class, hooks and parameter objects back, and these the values that the shards have."""
        mode = self.module.training
        for name, parameter in self.module.named_parameters():
            self.parameters[name].data = whole_value(parameter.detach())
        for part, kind, attributes in self.parts:
            _module_state_mapping.pop(part, None)
            part.__class__ = kind
            part.__dict__.clear()
            part.__dict__.update(attributes)
        self.module.train(mode)


def _kept(part: nn.Module) -> dict[str, Any]:
    """Attributes of one module, its tables of parameters, parts and hooks copied."""
    return {name: copy.copy(value) if isinstance(value, dict) else value for name, value in part.__dict__.items()}


def _launched() -> Any | None:
    """The launcher's settings, `None` where it has none."""
    if os.environ.get(_SWITCH, "false").lower() not in ("true", "1"):
        return None
    settings = FullyShardedDataParallelPlugin()
    if settings.fsdp_version != 2:
        raise ConfigError(f"FSDP of version {settings.fsdp_version} is not supported", where=_SWITCH,
                          fix="Launch with --fsdp_version 2.")  # fmt: skip
    return settings


def is_sharded(tensor: Tensor) -> bool:
    """Whether this process holds a share of the tensor only."""
    return isinstance(tensor, DTensor)


def whole_value(tensor: Tensor) -> Tensor:
    """All of a tensor; of a sharded one every process has to ask for it."""
    return tensor.full_tensor() if isinstance(tensor, DTensor) else tensor


def shared_like(value: Tensor, target: Tensor) -> Tensor:
    """A copy of `value`, which all processes have whole, on the device of `target` and spread as that is."""
    value = value.to(target.device, copy=True)
    if isinstance(target, DTensor):
        # without a source rank every process takes its own share, and none waits for a transfer
        return distribute_tensor(value, target.device_mesh, target.placements, src_data_rank=None)
    return value
