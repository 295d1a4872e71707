"""CLIP's objective."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import pytest
import torch
from torch import Tensor

from polysense.data import Batch, Paraphrases, Sample
from polysense.errors import ManifestError
from polysense.testing import tiny_clip, tiny_features
from polysense.trainer.clip import ClipObjective, text_identities

FEATURES = tiny_features(2)


def tokenize(texts: Sequence[str]) -> Mapping[str, Tensor]:
    return {name: FEATURES[name][: len(texts)] for name in ("input_ids", "attention_mask")}


def batch(captions: Sequence[str | None]) -> Batch:
    samples = tuple(Sample(f"s{number}", {}) for number in range(len(captions)))
    return Batch(source="web", modality="image", samples=samples, captions=tuple(captions),
                 features={"image": {"pixel_values": FEATURES["pixel_values"][: len(captions)]}})  # fmt: skip


def test_the_loss_is_that_of_the_hugging_face_model() -> None:
    clip = tiny_clip()
    ours = ClipObjective(clip, tokenize).losses("image", batch(["one thing", "two things"]))["nce"]
    out = clip(input_ids=FEATURES["input_ids"], attention_mask=FEATURES["attention_mask"],
               pixel_values=FEATURES["pixel_values"], return_loss=True)  # fmt: skip
    assert torch.allclose(ours, out.loss, atol=1e-6)


def test_equal_captions_are_no_negatives() -> None:
    assert ClipObjective(tiny_clip(), tokenize).losses("image", batch(["a thing", "a thing"]))["nce"].item() == 0.0


def test_identities_are_equal_for_equal_texts_only() -> None:
    first, second, third = text_identities(["a cup", "a cup", "a box"]).tolist()
    assert first == second != third and text_identities(["a cup"]).tolist() == [first]


def test_a_missing_caption_is_named() -> None:
    with pytest.raises(ManifestError, match="web/s1: a sample has no caption"):
        ClipObjective(tiny_clip(), tokenize).losses("image", batch(["a cup", None]))


def test_every_parameter_trains() -> None:
    objective = ClipObjective(tiny_clip().requires_grad_(True), tokenize)
    objective.losses("image", batch(["one thing", "two things"]))["nce"].backward()
    idle = [name for name, parameter in objective.module.named_parameters() if parameter.grad is None]
    assert idle == [] and float(objective.dummy("image").detach()) == 0


def test_sentences_that_mean_the_same_are_drawn_together_whatever_their_words() -> None:
    corpus = Paraphrases(("cup", "box"), (("a cup", "one cup"), ("a box", "one box")))
    objective = ClipObjective(tiny_clip(), tokenize, corpus)
    terms = objective.losses("image", batch(["one thing", "two things"]))
    assert set(terms) == {"nce", "nce_paraphrase"} and torch.isfinite(terms["nce_paraphrase"])
