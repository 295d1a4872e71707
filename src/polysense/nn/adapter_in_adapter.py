"""PathWeave's adapter-in-adapter beside linear layers (Yu et al. 2024), as MERA puts it into its language model.

Every modality leaves a low-rank pair (A_m, B_m) that is frozen once the next one comes. For modality m, small
in-adapters F_j (rank x rank) between the frozen halves make the earlier pairs useful to it, and a gate weighs them
(MERA, section 5.1 and appendix D; method-facts 4.4):

    y = W x + sum_{j<m} g_j B_j F_j A_j x + g_m B_m A_m x,    g = softmax(W_g x),    y = W x + B_1 A_1 x for m = 1

The gate starts at zero, as the original's does, so that a new path begins with 1/m of each earlier pair and nothing of
its own. It does not begin with what the path before gave, which only that path still gives (`AdapterInAdapter.use`).
Nothing is ever resized: a modality brings Parameters of its own, under keys of its own.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import ConfigError, UnknownModalityError


@dataclass(frozen=True, kw_only=True)
class AdapterOptions:
    """What the adapters of all layers and modalities have in common.

    Attributes:
        rank: of every pair.
        alpha: pairs are scaled by alpha / rank; `None` means by 1.
        noise: add softplus(W_n x) + 0.01 of normal noise to the gate's logits while training, as the original does.
        in_adapter_start: "identity" begins with the earlier pairs as they were learned, of which each counts 1/m;
            "linear" is the original's random start.

    Raises:
        ConfigError: the rank is not positive.
    """

    rank: int
    alpha: float | None = None
    noise: bool = False
    in_adapter_start: Literal["identity", "linear"] = "identity"

    def __post_init__(self) -> None:
        if self.rank < 1:
            raise ConfigError(f"the rank is {self.rank}", where="rank", fix="Give a positive number.")

    @property
    def scale(self) -> float:
        return 1.0 if self.alpha is None else self.alpha / self.rank


class AdapterPath(nn.Module):
    """What one modality adds at one layer.

    Parameters: `down` (rank, in) and `up` (out, rank), the pair A and B; `inner.<earlier modality>` (rank, rank), the
    in-adapters; and for all modalities but the first `gate` (m, in), with `noise` also `gate_noise` (m, in), whose
    last row is the modality's own.
    """

    def __init__(self, in_features: int, out_features: int, earlier: list[str], options: AdapterOptions) -> None:
        super().__init__()
        rank, self.options = options.rank, options
        self.down = nn.Parameter(torch.empty(rank, in_features))
        self.up = nn.Parameter(torch.empty(out_features, rank))
        self.inner = nn.ParameterDict({name: nn.Parameter(torch.empty(rank, rank)) for name in earlier})
        gate = (len(earlier) + 1, in_features)
        self.gate = nn.Parameter(torch.empty(gate)) if earlier else None
        self.gate_noise = nn.Parameter(torch.empty(gate)) if earlier and options.noise else None
        self.reset_parameters()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """LoRA's start (A Kaiming-uniform with a = sqrt(5), B zero), gates zero, in-adapters by the options."""
        nn.init.kaiming_uniform_(self.down, a=math.sqrt(5))
        nn.init.zeros_(self.up)
        for inner in self.inner.values():
            if self.options.in_adapter_start == "identity":
                nn.init.eye_(inner)
            else:
                nn.init.kaiming_uniform_(inner, a=math.sqrt(5))
        for gate in (self.gate, self.gate_noise):
            if gate is not None:
                nn.init.zeros_(gate)

    def gates(self, inputs: Float[Tensor, "*tokens in"]) -> Float[Tensor, "*tokens modalities"]:
        """What each pair counts for each token, at least in float32: positive, with sum 1."""
        if self.gate is None:
            return inputs.new_ones(*inputs.shape[:-1], 1)
        logits = F.linear(inputs, self.gate.to(inputs.dtype))
        if self.gate_noise is not None and self.training:
            deviation = F.softplus(F.linear(inputs, self.gate_noise.to(inputs.dtype))) + 0.01
            logits = logits + torch.randn_like(logits) * deviation
        return logits.to(torch.promote_types(logits.dtype, torch.float32)).softmax(dim=-1)


class AdapterInAdapter(nn.Module):
    """A frozen linear layer with the paths of all modalities so far, of which one is in use.

    After `add`, that is the newest for every input, as in MERA, where prompts mix modalities; `use` goes back to an
    earlier one, as the original does when it tests a former modality.

    Args:
        base: the layer; it is frozen.
    """

    def __init__(self, base: nn.Linear, options: AdapterOptions) -> None:
        super().__init__()
        self.base, self.options = base.requires_grad_(False), options
        self.paths = nn.ModuleDict()
        self.active: str | None = None

    @property
    def weight(self) -> Float[Tensor, "out in"]:
        return self.base.weight

    @property
    def bias(self) -> Float[Tensor, " out"] | None:
        return self.base.bias

    def add(self, modality: str) -> None:
        """Freeze all paths and add, train and use a new one. Raises `ConfigError` if there is one already."""
        _check_new(modality, self.paths)
        self.paths.requires_grad_(False)
        path = AdapterPath(self.base.in_features, self.base.out_features, list(self.paths), self.options)
        self.paths[modality] = path.to(self.base.weight.device).train(self.training)
        self.active = modality

    def use(self, modality: str | None) -> None:
        """Take the path of `modality` from now on; `None` takes the base alone. Raises `UnknownModalityError`."""
        if modality is not None and modality not in self.paths:
            raise UnknownModalityError(modality, self.paths)
        self.active = modality

    def forward(self, inputs: Float[Tensor, "*tokens in"]) -> Float[Tensor, "*tokens out"]:
        output = self.base(inputs)
        if self.active is None:
            return cast(Tensor, output)
        own = cast(AdapterPath, self.paths[self.active])
        gates = (own.gates(inputs) * self.options.scale).to(inputs.dtype)
        for number, name in enumerate([*own.inner, self.active]):
            pair = cast(AdapterPath, self.paths[name])
            hidden = F.linear(inputs, pair.down.to(inputs.dtype))
            if name in own.inner:
                hidden = F.linear(hidden, own.inner[name].to(inputs.dtype))
            output = output + F.linear(gates[..., number, None] * hidden, pair.up.to(inputs.dtype))
        return cast(Tensor, output)


def inject_adapters(model: nn.Module, pattern: str, options: AdapterOptions) -> list[str]:
    """Put an `AdapterInAdapter` without paths in the place of every `nn.Linear` whose whole name matches.

    The model's function stays what it is until `add_path`; its other parameters are not touched.

    Returns:
        The layers' names, in the model's order.

    Raises:
        ConfigError: no linear layer matches, or the model has such adapters already. Nothing is changed.
    """
    if any(_sites(model)):
        raise ConfigError("the model has adapters already", fix="Call remove_adapters first, or add_path.")
    own = re.compile(pattern)
    places = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if name and type(module) is nn.Linear and own.fullmatch(name)
    ]
    if not places:
        raise ConfigError(
            "no linear layer has a name that matches", where=pattern, fix="Give a pattern of whole names."
        )
    sites = {layer: AdapterInAdapter(layer, options) for _, layer in places}
    for name, layer in places:
        model.set_submodule(name, sites[layer])
    return [name for name, _ in places]


def remove_adapters(model: nn.Module) -> None:
    """Put the bare layers back in their places. Raises `ConfigError` if the model has no adapters."""
    places = [
        (name, module)
        for name, module in model.named_modules(remove_duplicate=False)
        if isinstance(module, AdapterInAdapter)
    ]
    if not places:
        raise ConfigError("the model has no adapters", fix="Call inject_adapters first.")
    for name, site in places:
        model.set_submodule(name, site.base)


def add_path(model: nn.Module, modality: str) -> None:
    """Begin a modality at every adapted layer: the earlier pairs freeze, the new path trains and is used.

    Raises:
        ConfigError: the model has no adapters, or this modality has a path. Nothing is changed.
    """
    sites = list(_sites(model))
    if not sites:
        raise ConfigError("the model has no adapters", fix="Call inject_adapters first.")
    for site in sites:
        _check_new(modality, site.paths)
    for site in sites:
        site.add(modality)


def use_path(model: nn.Module, modality: str | None) -> None:
    """Take the path of `modality` at every adapted layer; `None` takes the bare model.

    Raises:
        UnknownModalityError: it has no path. Nothing is changed.
    """
    sites = list(_sites(model))
    for site in sites:
        if modality is not None and modality not in site.paths:
            raise UnknownModalityError(modality, site.paths)
    for site in sites:
        site.use(modality)


def path_pattern(modality: str) -> str:
    """Pattern of the parameters that train with `modality`, for a freezing table: its pair, in-adapters and gate."""
    return rf"(.*\.)?paths\.{re.escape(modality)}\..*"


def _sites(model: nn.Module) -> Iterator[AdapterInAdapter]:
    return (module for module in model.modules() if isinstance(module, AdapterInAdapter))


def _check_new(modality: str, paths: nn.ModuleDict) -> None:
    if modality in paths:
        raise ConfigError("the modality has a path already", where=modality, fix="Give each modality one stage.")
