"""The supervised bound's classifier and objective."""

from __future__ import annotations

import torch
from torch.nn import functional as F

from polysense.trainer.supervised import SupervisedClassifier, SupervisedObjective
from tests.trainer import pairs

CLASSES = ("box", "cup", "jar")


def test_the_loss_is_the_cross_entropy_of_the_classes() -> None:
    classifier, batch = SupervisedClassifier(pairs.model(), CLASSES, torch.eye(3, 16)), pairs.batch("depth")
    logits = classifier("depth", batch.features["depth"])
    assert logits.shape == (4, 3)
    loss = SupervisedObjective(classifier, "depth").losses("depth", batch)["cross_entropy"]
    assert torch.allclose(loss, F.cross_entropy(logits, torch.tensor([1, 0, 1, 2])))


def test_every_parameter_on_the_way_of_the_sense_trains() -> None:
    classifier = SupervisedClassifier(pairs.model(), CLASSES, torch.eye(3, 16)).requires_grad_(True)
    SupervisedObjective(classifier, "depth").losses("depth", pairs.batch("depth"))["cross_entropy"].backward()
    touched = {name for name, parameter in classifier.named_parameters() if parameter.grad is not None}
    assert {"head", "encoder.tokenizers.depth.position"} <= touched
    assert any(name.startswith("encoder.clip.vision_model.encoder") for name in touched)


def test_a_picture_is_classified_by_its_own_features() -> None:
    classifier, batch = SupervisedClassifier(pairs.model(), CLASSES, torch.eye(3, 16)), pairs.batch("depth")
    assert classifier("image", batch.features["image"]).shape == (4, 3)


def test_it_begins_as_the_zero_shot_classifier() -> None:
    model, batch = pairs.model(), pairs.batch("depth")
    head = F.normalize(torch.randn(3, 16), dim=-1)
    cosines = model.embed("depth", batch.features["depth"]) @ head.t()
    logits = SupervisedClassifier(model, CLASSES, head)("depth", batch.features["depth"])
    assert torch.allclose(logits, model.logit_scale * cosines, atol=1e-5)
