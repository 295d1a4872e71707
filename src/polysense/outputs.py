"""Named outputs of the models. The shape of every field is documented here, once."""

from __future__ import annotations

from dataclasses import dataclass

from jaxtyping import Bool, Float, Int
from torch import Tensor
from transformers.utils import ModelOutput


@dataclass
class EncodedTokens(ModelOutput):
    """Tokens of one modality, in the one shape that COMET, MERA and the alignment losses all read.

    Attributes:
        tokens: `batch time space dim`, class token excluded. A still picture has time 1.
        mask: `batch time`, true where the time step is real and not padding.
        grid: (time, height, width) with height * width == space; sets without a raster have height 1.
        pooled: `batch dim`, the class token after the final norm, averaged over real time steps; not projected.
    """

    tokens: Float[Tensor, "batch time space dim"] | None = None
    mask: Bool[Tensor, "batch time"] | None = None
    grid: tuple[int, int, int] | None = None
    pooled: Float[Tensor, "batch dim"] | None = None


@dataclass
class UniAlignOutput(ModelOutput):
    """What `UniAlignModel.forward` returns.

    Attributes:
        embeddings: modality name to `batch embed`, unit norm; batch sizes may differ between modalities.
        logit_scale: scalar, already exponentiated, by which cosines are multiplied before a softmax.
    """

    embeddings: dict[str, Float[Tensor, "batch embed"]] | None = None
    logit_scale: Float[Tensor, ""] | None = None


@dataclass(frozen=True)
class CometEncoding:
    """One sense as codes: what `CometModel.encode` returns and everything downstream reads.

    Attributes:
        indices: `batch time`, the code of every step.
        quantized: `batch time dim`, the codes' vectors.
        continuous: `batch time dim`, the semantic features before they were quantised.
        mask: `batch time`, true where the step is real.
    """

    indices: Int[Tensor, "batch time"]
    quantized: Float[Tensor, "batch time dim"]
    continuous: Float[Tensor, "batch time dim"]
    mask: Bool[Tensor, "batch time"]
