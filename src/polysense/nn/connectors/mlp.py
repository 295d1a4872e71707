"""The perceptron of LLaVA-1.5: linear layers with an activation between them."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import ConfigError
from polysense.nn.connectors.base import Connector, TokenMask, check_sizes, register_connector

_ACTIVATIONS: dict[str, type[nn.Module]] = {"gelu": nn.GELU, "relu": nn.ReLU, "silu": nn.SiLU}
_MAX_LAYERS = 8


@register_connector("mlp")
class MLPConnector(Connector):
    """`linear_1`, activation, `linear_2`, by default: names and arithmetic of Hugging Face's LLaVA projector.

    Every token is projected alone, so padding needs no mask. MERA does not print the depth; two layers with GELU are
    LLaVA-1.5's and NExT-GPT's (method-facts 4.1). `hidden_dims=[1024, 2048]` is PointLLM's three-layer projector.

    Args:
        hidden_dims: widths between the layers; one layer of the output width if `None`, a single linear map if empty.
        activation: "gelu", "relu" or "silu".
        bias: whether the layers have one.
        init_scale: factor of the last layer's initial values. Words of a language model are short vectors (an RMS of
            0.02 or so), beside which torch's own values make long ones; small factors begin among the words.

    Raises:
        ConfigError: widths, layers, an activation or a factor that it does not have.
    """

    def __init__(
        self, in_dim: int, out_dim: int, *, hidden_dims: Sequence[int] | None = None, activation: str = "gelu",
        bias: bool = True, init_scale: float = 1.0,
    ) -> None:  # fmt: skip
        super().__init__(in_dim, out_dim)
        hidden = [out_dim] if hidden_dims is None else list(hidden_dims)
        check_sizes(**{f"hidden_dims[{index}]": width for index, width in enumerate(hidden)})
        if activation not in _ACTIVATIONS or len(hidden) >= _MAX_LAYERS:
            raise ConfigError(f"there is no perceptron of {len(hidden) + 1} layers with activation {activation!r}",
                              fix=f"Use up to {_MAX_LAYERS} layers and one of {', '.join(_ACTIVATIONS)}.")  # fmt: skip
        if not isinstance(init_scale, int | float) or not 0 < init_scale <= 1:
            raise ConfigError(f"init_scale of a connector is {init_scale!r}", fix="Use a number above 0, at most 1.")
        self.hidden_dims, self.init_scale = tuple(hidden), init_scale
        widths = [in_dim, *hidden, out_dim]
        self.layers = len(widths) - 1
        for index in range(self.layers):
            self.add_module(f"linear_{index + 1}", nn.Linear(widths[index], widths[index + 1], bias=bias))
        self.act = _ACTIVATIONS[activation]()

    @torch.no_grad()
    def reset_parameters(self) -> None:
        super().reset_parameters()
        for value in self.get_submodule(f"linear_{self.layers}").parameters():
            value.mul_(self.init_scale)

    def forward(
        self, tokens: Float[Tensor, "batch tokens in_dim"], mask: TokenMask | None = None
    ) -> Float[Tensor, "batch tokens out_dim"]:
        hidden: Tensor = self.get_submodule("linear_1")(tokens)
        for index in range(1, self.layers):
            hidden = self.get_submodule(f"linear_{index + 1}")(self.act(hidden))
        return hidden
