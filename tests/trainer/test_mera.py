"""MERA's objective."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor
from transformers import CLIPImageProcessorPil

from polysense.continual import apply_freezing
from polysense.data import Batch, MediaRef, Mixture, Sample, Source
from polysense.data.conversations import Conversations
from polysense.models.mera import MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.testing import tiny_mera, tiny_tokenizer
from polysense.trainer import LoopConfig, Objective
from polysense.trainer.mera import CONNECTORS, MeraObjective, feature_counts
from polysense.trainer.optimizer import build_optimizer, trainable_parameters

PICTURES = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
CONVERSATIONS = Conversations(instructions=("what is this",), suffix="")


class Pictures:
    """Random pictures and depth maps, with captions of one word and of three."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, index: int) -> Sample:
        rng = np.random.default_rng(index)
        media = {"image": MediaRef(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)),
                 "depth": MediaRef(rng.uniform(0.5, 3.0, (32, 32)).astype(np.float32),
                                   {"intrinsics": [30.0, 30.0], "baseline": 0.075})}  # fmt: skip
        captions = ("ball",) if index % 2 else ("a red cup",)
        return Sample(f"p{index}", media, captions=dict.fromkeys(media, captions))

    def labels(self, modality: str) -> list[str | None]:
        return [None] * len(self)


def parts(*, frozen: bool = False) -> tuple[MeraObjective, Mixture]:
    model = tiny_mera("depth")
    processor = MeraProcessor.from_model(model, tiny_tokenizer(), PICTURES)
    sources = [Source(name=name, modality=name, dataset=Pictures(), batch_size=4) for name in ("image", "depth")]
    features = FrozenTokens(model, processor, 1 << 20) if frozen else processor.features
    objective = MeraObjective(model, processor, CONVERSATIONS, modalities=["image", "depth"], seed=0)
    return objective, Mixture(sources, features, seed=0, augment=False)


def loss(objective: MeraObjective, batch: Batch) -> Tensor:
    return objective.losses(batch.modality, batch)["answers"]


def test_it_is_an_objective_whose_labels_are_the_answers_with_their_ends() -> None:
    objective, mixture = parts()
    assert isinstance(objective, Objective) and objective.modalities == ("image", "depth")
    batch = mixture.build(0)[0]
    inputs, tokenizer = objective.inputs("image", batch), objective.processor.tokenizer
    for row, sample in zip(inputs["labels"], batch.samples, strict=True):
        answer = tokenizer.decode(row[row != -100])
        assert answer.replace("</s>", "").strip() == sample.captions["image"][0] and answer.endswith("</s>")
    token = objective.processor.token_id("image")
    assert (inputs["input_ids"] == token).sum(dim=1).tolist() == [16] * 4


def test_every_token_of_an_answer_counts_alike() -> None:
    objective, mixture = parts()
    batch = mixture.build(0)[0]
    inputs: Any = objective.inputs("image", batch)
    logits = objective.module(**{name: value for name, value in inputs.items() if name != "labels"}).logits
    wanted = torch.nn.functional.cross_entropy(logits[:, :-1].flatten(0, 1), inputs["labels"][:, 1:].flatten())
    assert torch.allclose(loss(objective, batch), wanted, atol=1e-5)


def test_a_samples_own_loss_is_that_of_a_batch_of_it_alone() -> None:
    objective, mixture = parts()
    batch = mixture.build(0)[0]
    alone = []
    for row in range(len(batch)):
        features = {name: value[row : row + 1] for name, value in batch.features["image"].items()}
        single = Batch(**{**batch.__dict__, "samples": batch.samples[row : row + 1],
                          "epochs": batch.epochs[row : row + 1], "features": {"image": features}})  # fmt: skip
        alone.append(loss(objective, single))
    found = objective.sample_losses("image", batch)
    assert found.shape == (4,) and found.requires_grad and len({len(each.captions) for each in batch.samples}) == 1
    torch.testing.assert_close(found, torch.stack(alone), atol=1e-5, rtol=1e-5)


def test_frozen_tokens_give_the_loss_of_the_features() -> None:
    (plain, features), (frozen, tokens) = parts(), parts(frozen=True)
    for from_features, from_tokens in zip(features.build(0), tokens.build(0), strict=True):
        assert from_features.ids == from_tokens.ids
        assert torch.allclose(loss(plain, from_features), loss(frozen, from_tokens), atol=1e-5)


def test_tokens_are_counted_by_their_own_steps() -> None:
    processor = parts()[0].processor
    assert feature_counts(processor, "image", {"image_tokens": torch.zeros(2, 1, 16, 32)}) == [16, 16]
    tokens, mask = torch.zeros(2, 3, 16, 32), torch.tensor([[True, True, False], [True] * 3])
    assert feature_counts(processor, "depth", {"depth_tokens": tokens, "depth_mask": mask}) == [32, 48]


def test_only_the_connector_of_the_batch_gets_a_gradient() -> None:
    objective, mixture = parts()
    apply_freezing(objective.module, objective.module.freezing(["image", "depth"]))
    for run in (lambda: loss(objective, mixture.build(0)[0]), lambda: objective.dummy("image")):
        objective.module.zero_grad()
        run().backward()
        touched = {name for name, each in objective.module.named_parameters() if each.grad is not None}
        assert touched and all(".connectors.image." in name for name in touched)
    assert float(objective.dummy("depth").detach()) == 0


def test_connectors_have_a_learning_rate_of_their_own() -> None:
    objective, _ = parts()
    apply_freezing(objective.module, objective.module.freezing(["image"], language_model=True))
    parameters = trainable_parameters(objective.module)
    optimizer = build_optimizer(parameters, LoopConfig(steps=1, lr_multipliers={CONNECTORS: 0.1}))
    factors = {id(each): group["factor"] for group in optimizer.param_groups for each in group["params"]}
    for name, parameter in parameters.items():
        assert factors[id(parameter)] == (0.1 if ".connectors." in name else 1.0), name
        assert parameter.dtype == torch.float32


@pytest.mark.parametrize("epoch", [0, 1])
def test_conversations_follow_the_epoch_of_a_sample(epoch: int) -> None:
    objective, mixture = parts()
    objective.conversations = Conversations(instructions=("what is this", "red cup", "blue ball"), suffix="")
    batch = mixture.build(0)[0]
    again = Batch(**{**batch.__dict__, "epochs": (epoch,) * 4})
    ids = [objective.inputs("image", each)["input_ids"] for each in (batch, again)]
    assert torch.equal(*ids) == (epoch == 0) if ids[0].shape == ids[1].shape else epoch == 1
