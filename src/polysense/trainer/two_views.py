"""Self-supervision of one encoder of one sense: two augmented views of a step are nearest to each other."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.data import FeatureProcessor
from polysense.errors import ConfigError
from polysense.losses import info_nce
from polysense.modality import JsonValue
from polysense.trainer.distributed import gather_with_grad, rank
from polysense.trainer.objective import zero_touch

FIRST, SECOND, MASK = "first", "second", "mask"


class TwoViews:
    """A `FeatureProcessor` that augments every sample twice.

    Args:
        processor: augments by the generators it is handed; a file should be decoded once (`CachedFeatures`).
        values_key, mask_key: names under which it returns a sense's features and mask.
    """

    def __init__(self, processor: FeatureProcessor, values_key: str, mask_key: str) -> None:
        self.processor, self.values_key, self.mask_key = processor, values_key, mask_key

    def __call__(
        self,
        modality: str,
        sources: Sequence[object],
        *,
        facts: Sequence[Mapping[str, JsonValue]],
        rngs: Sequence[np.random.Generator] | None,
    ) -> dict[str, Tensor]:
        """`first`, `second` and, where lengths differ, `mask`.

        Raises:
            ConfigError: no generators, so that the views would be the same.
            MediaError: a source cannot be used.
        """
        if rngs is None:
            raise ConfigError("views are drawn at random", where="augment", fix="Use a mixture that augments.")
        # a generator goes on where the first view left it
        one, other = (self.processor(modality, sources, facts=facts, rngs=rngs) for _ in range(2))
        views = {FIRST: one[self.values_key], SECOND: other[self.values_key]}
        return views | ({MASK: one[self.mask_key]} if self.mask_key in one else {})


class TwoViewsObjective:
    """InfoNCE between two views of every step, the other steps being negatives (SimCLR, Chen et al. 2020).

    The second view may be of a later step: what goes on for some seconds is then alike, whatever its phase. Steps of
    one sample are negatives of one another only where both views are of one step.

    Args:
        encoder: a `ModalityEncoder` that trains; the head on top of it is only needed here.
        modality: the sense.
        temperature: what cosines are divided by.
        shift: steps from the first view to the second.

    Raises:
        ConfigError: a temperature that is not positive, or a shift below 0.
    """

    weights: Mapping[str, float] = {"two_views": 1.0}

    def __init__(self, encoder: Any, modality: str, temperature: float = 0.1, shift: int = 0) -> None:
        if temperature <= 0 or shift < 0:
            raise ConfigError(f"temperature {temperature} and shift {shift} cannot be used",
                              fix="Give a positive temperature, and a shift of 0 or more steps.")  # fmt: skip
        width = encoder.token_spec(modality).dim
        head = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, width))
        self.encoder, self.head = encoder, head
        self.module = nn.ModuleDict({"encoder": encoder, "head": head})
        self.modalities, self.temperature, self.shift = (modality,), temperature, shift

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """Raises ConfigError where samples have no more steps than the shift."""
        features, shift = batch.features[modality], self.shift
        first, real = self._steps(modality, features[FIRST], features.get(MASK))
        second, _ = self._steps(modality, features[SECOND], features.get(MASK))
        samples, steps = real.shape
        if steps <= shift:
            raise ConfigError(f"samples of {modality} have {steps} steps, and views are {shift} apart",
                              where="shift", fix="Use a smaller one; stills need 0.")  # fmt: skip
        both = real[:, : steps - shift] & real[:, shift:]
        numbers = torch.arange(samples, device=real.device) + (rank() << 32)
        loss = info_nce(
            first[:, : steps - shift][both], second[:, shift:][both], 1 / self.temperature,
            labels=numbers[:, None].expand_as(both)[both] if shift else None, gather=gather_with_grad,
        )  # fmt: skip
        return {"two_views": loss}

    def dummy(self, modality: str) -> Tensor:
        return zero_touch(self.module)

    def _steps(
        self, modality: str, values: Tensor, mask: Bool[Tensor, "batch frames"] | None
    ) -> tuple[Float[Tensor, "batch steps dim"], Bool[Tensor, "batch steps"]]:
        """Unit vectors of all steps, and which are real."""
        encoded = self.encoder.encode_tokens(modality, values, mask=mask)
        return F.normalize(self.head(encoded.tokens.mean(dim=2)), dim=-1), encoded.mask
