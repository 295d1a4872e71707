from __future__ import annotations

import torch

from polysense.outputs import EncodedTokens, UniAlignOutput


def test_outputs_are_named_and_leave_out_what_is_not_there() -> None:
    output = EncodedTokens(tokens=torch.zeros(1, 2, 3, 4), pooled=torch.zeros(1, 4))
    assert list(output.keys()) == ["tokens", "pooled"]
    assert output.mask is None
    assert output["pooled"] is output.pooled


def test_embeddings_are_keyed_by_modality() -> None:
    output = UniAlignOutput(embeddings={"depth": torch.zeros(2, 3)}, logit_scale=torch.tensor(100.0))
    assert output.embeddings is not None
    assert list(output.embeddings) == ["depth"]
