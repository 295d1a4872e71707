"""CLIP's own objective, for anchors that are trained here: image against text, everything trains."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor
from torch.nn import functional as F
from transformers import CLIPModel

from polysense.data import Paraphrases
from polysense.data.rng import keyed_int
from polysense.errors import ManifestError
from polysense.losses import info_nce
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.objective import zero_touch


def text_identities(texts: Sequence[str]) -> Int[Tensor, " texts"]:
    """A number per text that is the same for the same text, on every process."""
    return torch.tensor([keyed_int(text, bits=56) for text in texts])


class ClipObjective:
    """InfoNCE between images and one caption each (Radford et al. 2021), and between sentences that mean the same.

    A small anchor has not read the web: without the second term its text tower cannot tell words apart that no image
    shows, such as materials and events, and no sense could be aligned with them later.

    Args:
        model: the CLIP that trains.
        tokenize: captions to `input_ids` and `attention_mask`.
        paraphrases: sentences for the second term; without them there is only the first.
    """

    modalities = ("image",)
    weights: Mapping[str, float] = {"nce": 1.0, "nce_paraphrase": 1.0}

    def __init__(
        self,
        model: CLIPModel,
        tokenize: Callable[[Sequence[str]], Mapping[str, Tensor]],
        paraphrases: Paraphrases | None = None,
    ) -> None:
        self.module, self.tokenize, self.paraphrases = model, tokenize, paraphrases

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """Captions that are equal word for word are no negatives of one another.

        Raises:
            ManifestError: a sample without a caption.
        """
        if None in batch.captions:
            raise ManifestError("a sample has no caption", where=batch.ids[batch.captions.index(None)],
                                fix="Train anchors on captioned images.")  # fmt: skip
        pixels = batch.features["image"]["pixel_values"]
        images = F.normalize(self.module.get_image_features(pixel_values=pixels).pooler_output, dim=-1)
        terms = {"nce": self._nce(images, self._texts(batch.captions), batch.captions)}
        if self.paraphrases is not None:
            first, second, meanings = self.paraphrases.pairs(len(batch), *batch.ids)
            terms["nce_paraphrase"] = self._nce(self._texts(first), self._texts(second), meanings)
        return terms

    def _nce(self, rows: Tensor, others: Tensor, meanings: Sequence[str]) -> Tensor:
        identities = text_identities(meanings).to(rows.device)
        return info_nce(rows, others, self.module.logit_scale.exp().clamp(max=100.0), identities, gather_with_grad)

    def _texts(self, texts: Sequence[str]) -> Float[Tensor, "texts embed"]:
        inputs = {name: tensor.to(self.module.device) for name, tensor in self.tokenize(list(texts)).items()}
        return F.normalize(self.module.get_text_features(**inputs).pooler_output, dim=-1)

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)
