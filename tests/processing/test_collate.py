from __future__ import annotations

import pytest
import torch

from polysense.errors import FeatureShapeError, UnknownModalityError
from polysense.modality import get_modality
from polysense.processing import collate, processor_for

PROCESSORS = {name: processor_for(get_modality(name), 4) for name in ("image", "audio", "depth")}


def test_a_mixed_batch_is_grouped_padded_and_undone() -> None:
    samples = [
        ("audio", torch.full((2, 1, 4, 4), 1.0)),
        ("image", torch.full((3, 4, 4), 2.0)),
        ("audio", torch.full((3, 1, 4, 4), 3.0)),
    ]
    batch = collate(samples, PROCESSORS)
    assert list(batch.inputs) == ["audio", "image"]
    assert batch.merged()["audio_mask"].tolist() == [[True, True, False], [True, True, True]]
    assert set(batch.merged()) == {"audio_values", "audio_mask", "pixel_values"}
    assert {name: rows.tolist() for name, rows in batch.index.items()} == {"audio": [0, 2], "image": [1]}
    outputs = {
        "audio": batch.inputs["audio"]["audio_values"].amax(dim=(1, 2, 3, 4)),
        "image": batch.inputs["image"]["pixel_values"].amax(dim=(1, 2, 3)),
    }
    assert [float(row) for row in batch.undo(outputs)] == [1, 2, 3]


def test_unknown_modalities_and_shapes_are_refused() -> None:
    with pytest.raises(UnknownModalityError, match="unknown modality 'touch'"):
        collate([("touch", torch.zeros(1))], PROCESSORS)
    with pytest.raises(FeatureShapeError, match="samples of depth have different shapes"):
        collate([("depth", torch.zeros(1, 4, 4)), ("depth", torch.zeros(2, 4, 4))], PROCESSORS)
    with pytest.raises(FeatureShapeError, match="has no samples"):
        collate([], PROCESSORS)


def test_outputs_of_another_number_cannot_be_undone() -> None:
    batch = collate([("image", torch.zeros(3, 4, 4))], PROCESSORS)
    with pytest.raises(FeatureShapeError, match="0 outputs came back for 1 samples of image"):
        batch.undo({})
