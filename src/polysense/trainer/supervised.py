"""Full supervision of one sense: the bound beside which zero-shot figures are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.models.unialign import UniAlignModel
from polysense.trainer.objective import zero_touch


class SupervisedClassifier(nn.Module):
    """A UniAlign model with a cosine classifier on one sense's embedding; every parameter trains, the base included.

    Args:
        model: the encoder, with the sense added.
        classes: class names in the order of `head`.
        head: one vector per class to begin with: the text embeddings, so that the bound starts at what the zero-shot
            model knows and is not held back by a head that has to be learned from few samples.
    """

    def __init__(self, model: UniAlignModel, classes: Sequence[str], head: Float[Tensor, "classes embed"]) -> None:
        super().__init__()
        self.encoder, self.classes = model, tuple(classes)
        self.head = nn.Parameter(head.clone())

    def forward(self, modality: str, features: Mapping[str, Tensor]) -> Float[Tensor, "batch classes"]:
        """Logits."""
        cosines = self.encoder.embed(modality, features) @ F.normalize(self.head, dim=-1).t()
        return self.encoder.logit_scale * cosines


class SupervisedObjective:
    """Cross-entropy of one sense's classes."""

    weights: Mapping[str, float] = {"cross_entropy": 1.0}

    def __init__(self, module: SupervisedClassifier, modality: str) -> None:
        self.module, self.modalities = module, (modality,)

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        rows = [self.module.classes.index(label) for label in batch.labels]
        logits = self.module(modality, batch.features[modality])
        return {"cross_entropy": F.cross_entropy(logits.float(), torch.tensor(rows, device=logits.device))}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)
