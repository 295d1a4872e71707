from __future__ import annotations

from dataclasses import FrozenInstanceError

import pytest
import torch
from torch import Tensor

from polysense.errors import FeatureShapeError
from polysense.outputs import EncodedTokens
from polysense.protocols import ModalityEncoder, TokenSpec, check_not_empty


class Averages:
    """The smallest encoder: one token of one number per sample."""

    def encode_tokens(self, modality: str, features: Tensor, layer: int = -1) -> EncodedTokens:
        pooled = features.flatten(1).mean(dim=1, keepdim=True)
        return EncodedTokens(tokens=pooled[:, None, None], grid=(1, 1, 1), pooled=pooled)

    def token_spec(self, modality: str) -> TokenSpec:
        return TokenSpec(dim=1, grid=(1, 1, 1), layers=0)


def test_anything_with_the_two_methods_is_an_encoder() -> None:
    encoder: ModalityEncoder = Averages()
    assert isinstance(encoder, ModalityEncoder)
    assert encoder.encode_tokens("depth", torch.ones(2, 3)).pooled is not None
    assert not isinstance(torch.nn.Identity(), ModalityEncoder)


def test_a_token_spec_is_fixed() -> None:
    with pytest.raises(FrozenInstanceError):
        TokenSpec(dim=1, grid=(1, 1, 1), layers=0).dim = 2  # type: ignore[misc]


@pytest.mark.parametrize(
    ("features", "message"),
    [
        ("photo.png", "a str came instead of a tensor"),
        (torch.zeros(0, 3), r"have shape \(0, 3\), which holds nothing"),
    ],
)
def test_features_are_tensors_with_samples(features: object, message: str) -> None:
    with pytest.raises(FeatureShapeError, match=rf"image: .*{message}"):
        check_not_empty(features, where="image")
