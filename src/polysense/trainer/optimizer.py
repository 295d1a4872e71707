"""The optimiser of a run: which parameters, in which groups, and their state by parameter name."""

from __future__ import annotations

from collections.abc import Mapping
from fnmatch import fnmatchcase

import torch
from torch import Tensor, nn

from polysense.errors import CheckpointError, ConfigError
from polysense.trainer.config import LoopConfig
from polysense.trainer.sharding import shared_like, whole_value

_COUNT = "step"
_STATE = {_COUNT, "exp_avg", "exp_avg_sq"}  # what AdamW keeps of a parameter; SGD without momentum keeps nothing


def trainable_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Name to parameter of everything that requires a gradient; `ConfigError` when nothing does."""
    parameters = {name: parameter for name, parameter in module.named_parameters() if parameter.requires_grad}
    if not parameters:
        raise ConfigError("nothing of the model is trainable", fix="Check the freezing table of this stage.")
    return parameters


def build_optimizer(parameters: Mapping[str, nn.Parameter], config: LoopConfig) -> torch.optim.Optimizer:
    """AdamW or SGD over groups that share a learning-rate factor (`factor` in the group) and a weight decay.

    Raises:
        ConfigError: a pattern of `lr_multipliers` matches no trainable parameter.
    """
    for pattern in config.lr_multipliers:
        if not any(fnmatchcase(name, pattern) for name in parameters):
            raise ConfigError(
                f"pattern {pattern!r} matches no trainable parameter",
                where="loop.lr_multipliers",
                fix="Correct or drop it.",
            )
    groups: dict[tuple[float, float], list[nn.Parameter]] = {}
    for name, parameter in parameters.items():
        factor = next((f for pattern, f in config.lr_multipliers.items() if fnmatchcase(name, pattern)), 1.0)
        decay = config.weight_decay if parameter.ndim >= 2 else 0.0
        groups.setdefault((factor, decay), []).append(parameter)
    options = [{"params": group, "factor": key[0], "weight_decay": key[1]} for key, group in groups.items()]
    if config.optimizer == "sgd":
        return torch.optim.SGD(options, lr=config.learning_rate)
    return torch.optim.AdamW(
        options, lr=config.learning_rate, betas=(config.beta1, config.beta2), eps=config.epsilon, fused=True
    )


def set_learning_rate(optimizer: torch.optim.Optimizer, learning_rate: float) -> None:
    """Give every group its share of `learning_rate`."""
    for group in optimizer.param_groups:
        group["lr"] = learning_rate * group["factor"]


def optimizer_tensors(optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter]) -> dict[str, Tensor]:
    """The optimiser's state as `{state}/{parameter name}`: tensors only, independent of the order of groups."""
    return {
        f"{key}/{name}": whole_value(value)
        for name, parameter in parameters.items()
        for key, value in optimizer.state.get(parameter, {}).items()
        if isinstance(value, Tensor)
    }


def load_optimizer_tensors(
    optimizer: torch.optim.Optimizer, parameters: Mapping[str, nn.Parameter], tensors: Mapping[str, Tensor]
) -> None:
    """Put back what `optimizer_tensors` gave; `CheckpointError` before anything changes if the names do not fit."""
    state: dict[str, dict[str, Tensor]] = {}
    for full_name, value in tensors.items():
        key, _, name = full_name.partition("/")
        alike = name in parameters and (value.shape, value.dtype) == (parameters[name].shape, parameters[name].dtype)
        if key not in _STATE or name not in parameters or (value.ndim if key == _COUNT else not alike):
            raise CheckpointError(
                f"the optimiser state {full_name!r} fits no trainable parameter",
                fix="Resume with the model and the freezing table the run began with.",
            )
        state.setdefault(name, {})[key] = value
    if partial := [name for name, values in state.items() if len(values) < len(_STATE)]:
        raise CheckpointError(f"the optimiser's state of {partial[0]!r} is not whole", fix="Use another checkpoint.")
    for name, values in state.items():
        parameter = parameters[name]
        optimizer.state[parameter] = {
            key: value.clone() if value.ndim == 0 else shared_like(value, parameter) for key, value in values.items()
        }
