"""Full supervision of one sense: the bound beside which zero-shot figures are read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.models.unialign import UniAlignModel
from polysense.trainer.objective import zero_touch


class SupervisedClassifier(nn.Module):
    """A UniAlign model with a linear head on one sense's pooled token; every parameter trains.

    Args:
        model: the encoder, with the sense added.
        classes: class names in the order of the head's rows.
    """

    def __init__(self, model: UniAlignModel, classes: Sequence[str]) -> None:
        super().__init__()
        self.encoder, self.classes = model, tuple(classes)
        self.head = nn.Linear(model.config.vision.hidden_size, len(self.classes))

    def forward(self, modality: str, features: Mapping[str, Tensor]) -> Tensor:
        """Logits, `batch classes`."""
        spec = self.encoder.config.senses.get(modality)
        values, mask = ("pixel_values", None) if spec is None else (spec.values_key, features.get(spec.mask_key))
        pooled = self.encoder.encode_tokens(modality, features[values], mask=mask).pooled
        return torch.as_tensor(self.head(pooled))


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
