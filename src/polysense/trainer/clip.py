"""CLIP's own objective, for anchors that are trained here: image against text, everything trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Int
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from polysense.data.rng import keyed_int
from polysense.errors import ManifestError
from polysense.losses import info_nce
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.objective import zero_touch


def text_identities(texts: Sequence[str]) -> Int[Tensor, " texts"]:
    """A number per text that is the same for the same text, on every process."""
    return torch.tensor([keyed_int(text, bits=56) for text in texts])


class ClipObjective:
    """InfoNCE between images and one caption each (Radford et al. 2021).

    Args:
        model: the CLIP that trains.
        tokenize: captions to `input_ids` and `attention_mask`.
    """

    modalities = ("image",)
    weights: Mapping[str, float] = {"nce": 1.0}

    def __init__(self, model: CLIPModel, tokenize: Callable[[Sequence[str]], Mapping[str, Tensor]]) -> None:
        self.module, self.tokenize = model, tokenize

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """Captions that are equal word for word are no negatives of one another."""
        if None in batch.captions:
            raise ManifestError("a sample has no caption", where=batch.ids[batch.captions.index(None)],
                                fix="Train anchors on captioned images.")  # fmt: skip
        device = self.module.device
        inputs = {name: tensor.to(device) for name, tensor in self.tokenize(list(batch.captions)).items()}
        texts = F.normalize(self.module.get_text_features(**inputs).pooler_output, dim=-1)
        pixels = batch.features["image"]["pixel_values"]
        images = F.normalize(self.module.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        identities = text_identities(batch.captions).to(device)
        scale = self.module.logit_scale.exp().clamp(max=100.0)
        return {"nce": info_nce(images, texts, scale, identities, gather_with_grad)}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)
