"""MERA's training objective (section 4.1): the language model's loss on answers about one sense at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from polysense.data.conversations import Conversations, messages
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.trainer.language import IGNORED, fair_divisor
from polysense.trainer.objective import zero_touch

CONNECTORS = "*model.connectors.*"
"""Pattern of the connectors' parameters for `LoopConfig.lr_multipliers`, whatever adapters wrap the model."""


class MeraObjective:
    """Next-token cross entropy on the answers of drawn conversations, prompts and placeholders left out.

    What trains is decided by the model's `requires_grad`: connectors in the first step and in realigning, connectors
    and adapters of the language model in the second (method-facts 4.2).

    Args:
        model: the model, or a peft model around it.
        processor: tokenizes conversations.
        conversations: what samples are asked.
        modalities: senses that the sources train, in order.
        seed: keys the drawn conversations, with epoch and sample id.
    """

    weights: Mapping[str, float] = {"answers": 1.0}
    whole = ("model.encoders",)  # they encode every process's own samples, outside the model's forward

    def __init__(
        self,
        model: MeraForConditionalGeneration,
        processor: MeraProcessor,
        conversations: Conversations,
        *,
        modalities: Sequence[str],
        seed: int,
    ) -> None:
        self.module, self.processor, self.conversations, self.seed = model, processor, conversations, seed
        self.modalities = tuple(dict.fromkeys(modalities))

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """The mean over the answers' tokens of all processes' samples.

        Raises:
            ManifestError: a sample has nothing to answer.
            FeatureShapeError: placeholders and features do not agree.
        """
        inputs = {name: value.to(self.module.device) for name, value in self.inputs(modality, batch).items()}
        return {"answers": self.module(**inputs, num_items_in_batch=fair_divisor(inputs["labels"])).loss}

    def sample_losses(self, modality: str, batch: Any) -> Float[Tensor, " samples"]:
        """Every sample's own loss, the mean over the tokens of its answer; for the Fisher information.

        Raises: see `losses`.
        """
        inputs = {name: value.to(self.module.device) for name, value in self.inputs(modality, batch).items()}
        targets = inputs.pop("labels")[:, 1:]
        answered = (targets != IGNORED).any(dim=0).nonzero().flatten()  # the head is wide: it runs nowhere else
        logits, targets = self.module(**inputs, logits_to_keep=answered).logits, targets[:, answered]
        by_token = functional.cross_entropy(
            logits.float().transpose(1, 2), targets, ignore_index=IGNORED, reduction="none"
        )
        return by_token.sum(dim=1) / (targets != IGNORED).sum(dim=1)

    def inputs(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """Inputs and labels of a batch: its features, and a conversation about every sample."""
        features = batch.features[modality]
        chats = []
        for sample, epoch in zip(batch.samples, batch.epochs, strict=True):
            turns = self.conversations.draw(sample, modality, seed=self.seed, epoch=epoch)
            chats.append(messages(turns, modality, answered=True))
        counts = feature_counts(self.processor, modality, features)
        return {**self.processor.training_inputs(chats, counts={modality: counts}), **features}

    def dummy(self, modality: str) -> Tensor:
        """Touches what trains: the sense's own connector, and what all senses share."""
        others = [f"connectors.{name}." for name in self.modalities if name != modality]
        named = self.module.named_parameters()
        own = [each for name, each in named if not any(other in name for other in others)]
        return zero_touch(torch.nn.ParameterList(own))


def feature_counts(processor: MeraProcessor, modality: str, features: Mapping[str, Tensor]) -> list[int]:
    """Language-model tokens of every item of a batch of features, or of frozen tokens (`{sense}_tokens`)."""
    tokens = features.get(f"{modality}_tokens")
    if tokens is None:
        return processor.counts(modality, features)
    layout, mask = processor.layout(modality), features.get(f"{modality}_mask")
    steps = [tokens.shape[1]] * len(tokens) if mask is None else mask.sum(dim=1).tolist()
    return [layout.count(each * layout.frames_per_step) for each in steps]
