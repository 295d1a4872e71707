"""Classes by the model's own text path."""

from __future__ import annotations

from pathlib import Path

import torch

from polysense.metrics import class_embeddings
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes.class_texts import class_table, text_encoder, trains_text
from polysense.testing import tiny_anchor, tiny_clip


def test_text_trains_only_through_experts_that_do() -> None:
    assert not trains_text(UniAlignModel.from_clip(tiny_clip()))
    model = UniAlignModel.from_clip(tiny_clip(), unified_text=True)
    assert trains_text(model) and not trains_text(model.requires_grad_(False))


def test_a_table_is_the_classifier_of_the_senses_templates(tmp_path: Path) -> None:
    anchor = tiny_anchor(tmp_path / "anchor")
    model = UniAlignModel.from_clip(anchor, ["audio"], unified_text=True).eval()
    processor = UniAlignProcessor.from_clip(anchor)
    processor.templates["audio"] = ["the sound of {}", "{}"]
    encode = text_encoder(model, processor)
    table = class_table(["a bell", "a drum"], "audio", processor, encode)
    expected = class_embeddings(["a bell", "a drum"], processor.templates["audio"], encode)
    assert table.names == ("a bell", "a drum") and torch.equal(table.embeddings, expected)
    assert table.embeddings.requires_grad
    bare = class_table(["a bell"], "depth", processor, encode)
    assert torch.equal(bare.embeddings, class_embeddings(["a bell"], ["{}"], encode))
