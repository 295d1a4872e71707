"""How the systems use one another without importing one another."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

from jaxtyping import Float
from torch import Tensor

from polysense.errors import ConfigError, FeatureShapeError
from polysense.outputs import EncodedTokens


@dataclass(frozen=True, kw_only=True)
class TokenSpec:
    """What a consumer has to know of an encoder's tokens before it sees one.

    Attributes:
        dim: width of a token.
        grid: (time, height, width) of one sample; time is the default number of steps and may differ per batch.
        layers: number of hidden layers that `encode_tokens(layer=...)` can return.
        frames_per_step: time steps of the features that share one of the tokens' time steps (tubelets).
    """

    dim: int
    grid: tuple[int, int, int]
    layers: int
    frames_per_step: int = 1


@runtime_checkable
class ModalityEncoder(Protocol):
    """Anything that turns features of a modality into tokens: a `UniAlignModel`, or an adapter of any `AutoModel`."""

    def encode_tokens(self, modality: str, features: Float[Tensor, "batch ..."], layer: int = -1) -> EncodedTokens:
        """Tokens after hidden layer `layer` (-1: the last; 0: the embeddings), before the output projection."""

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens of `modality`, known without running the encoder."""


def check_layer(layer: int, layers: int, *, where: str) -> None:
    """Refuse what is no index of the hidden states of an encoder with `layers` layers.

    Raises:
        ConfigError: naming `where`, the sense that was to be encoded.
    """
    if not -layers - 1 <= layer <= layers:
        raise ConfigError(f"there is no layer {layer}", where=where, fix=f"Use -1, or 0 to {layers}.")


def check_not_empty(features: Any, *, where: str) -> None:
    """Refuse what is no tensor, and a batch without samples, or of empty ones, whose sense no layer could name.

    Raises:
        FeatureShapeError: naming `where`, the sense that was to be encoded.
    """
    if not isinstance(features, Tensor):
        raise FeatureShapeError(f"a {type(features).__name__} came instead of a tensor of features", where=where,
                                fix="Prepare features with the model's processor.")  # fmt: skip
    if not features.numel():
        raise FeatureShapeError(f"the features have shape {tuple(features.shape)}, which holds nothing", where=where,
                                fix="Leave the sense out where there is no sample of it.")  # fmt: skip
