"""Online elastic weight consolidation: important parameters are held near where the last stage left them.

L = L_task + lambda/2 sum_k F_k (theta_k - anchor_k)^2, with F the sum of the Fisher diagonals of all earlier stages
and the anchor the parameters after the last one (MERA, appendix D; COMET, Eq. 6; Schwarz et al. 2018). So the state
is two numbers per parameter, however many stages there were.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping

import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import CheckpointError, ConfigError


class OnlineEwc:
    """The state that EWC carries from stage to stage, and its penalty.

    Args:
        strength: lambda.

    Attributes:
        fisher, anchor: parameter name to a float32 tensor of its shape; empty before the first stage has ended, as
            F_0 = 0.

    Raises:
        ConfigError: lambda is negative or not finite.
    """

    def __init__(self, strength: float = 1.0) -> None:
        if not math.isfinite(strength) or strength < 0:
            raise ConfigError(f"lambda is {strength}", where="ewc", fix="Give a finite number of at least 0.")
        self.strength = strength
        self.fisher: dict[str, Tensor] = {}
        self.anchor: dict[str, Tensor] = {}

    @torch.no_grad()
    def consolidate(self, parameters: Mapping[str, Tensor], fisher: Mapping[str, Tensor]) -> None:
        """End a stage: F += `fisher`, and the anchor moves to `parameters`.

        Args:
            parameters: name to value after the stage; those that are neither in `fisher` nor known are ignored.
            fisher: the stage's own Fisher diagonal. Names that no earlier stage had join; known ones may be absent
                (they did not train) and keep theirs.

        Raises:
            ConfigError: a parameter is missing, or its shape is another one. Nothing is changed.
        """
        names = [*self.fisher, *(name for name in fisher if name not in self.fisher)]
        _check(parameters, self.fisher)
        _check(parameters, fisher)
        for name in names:
            added = fisher.get(name)
            if added is not None:
                before = self.fisher.get(name)
                self.fisher[name] = added.float().clone() if before is None else before + added
            self.anchor[name] = parameters[name].detach().float().clone()

    def penalty(self, parameters: Mapping[str, Tensor] | Iterable[tuple[str, Tensor]]) -> Float[Tensor, ""]:
        """lambda/2 sum F (theta - anchor)^2 in float32; its gradient is lambda F (theta - anchor).

        Args:
            parameters: name to value, or `model.named_parameters()`.

        Raises:
            ConfigError: a parameter is missing, or its shape is another one.
        """
        current = dict(parameters)
        _check(current, self.anchor)
        terms = [
            (fisher * (current[name].float() - self.anchor[name]).square()).sum()
            for name, fisher in self.fisher.items()
        ]
        if not terms:
            return torch.zeros((), device=next((each.device for each in current.values()), None))
        return self.strength / 2 * torch.stack(terms).sum()

    def state_dict(self) -> dict[str, Tensor]:
        """Flat and ready for safetensors: `fisher.<name>` and `anchor.<name>`."""
        return {
            f"{part}.{name}": tensor
            for part, tensors in (("fisher", self.fisher), ("anchor", self.anchor))
            for name, tensor in tensors.items()
        }

    def load_state_dict(self, state: Mapping[str, Tensor]) -> None:
        """Take over what `state_dict` gave, on the devices where the tensors are.

        Raises:
            CheckpointError: a key that is no part of such a state, or a parameter with only one of its two tensors.
                Nothing is changed.
        """
        parts: dict[str, dict[str, Tensor]] = {"fisher": {}, "anchor": {}}
        for key, tensor in state.items():
            part, _, name = key.partition(".")
            if part not in parts or not name:
                raise CheckpointError("this key is no part of a state of EWC", where=key, fix="Load its own file.")
            parts[part][name] = tensor
        fisher, anchor = parts["fisher"], parts["anchor"]
        if lone := sorted(set(fisher) ^ set(anchor)):
            raise CheckpointError("the state holds only one of importance and anchor", where=lone[0],
                                  fix="Use an intact file.")  # fmt: skip
        self.fisher, self.anchor = fisher, anchor


def _check(parameters: Mapping[str, Tensor], known: Mapping[str, Tensor]) -> None:
    for name, tensor in known.items():
        if name not in parameters:
            raise ConfigError("EWC holds this parameter, the model does not have it", where=name,
                              fix="Give all parameters that earlier stages trained.")  # fmt: skip
        if tensor.shape != parameters[name].shape:
            raise ConfigError(
                f"EWC holds it with shape {tuple(tensor.shape)}, the model has {tuple(parameters[name].shape)}",
                where=name, fix="Parameters must keep their shapes from stage to stage.",
            )  # fmt: skip
