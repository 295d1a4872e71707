from __future__ import annotations

import numpy as np
import pytest
import torch

from polysense.errors import MediaError
from polysense.testing.toy import SIZE, ToyDataset, ToyObjective, toy_mixture, toy_processor


def test_samples_are_the_same_every_time_and_broken_ones_are_refused() -> None:
    data = ToyDataset("audio", 5, broken=frozenset({2}))
    assert np.array_equal(np.asarray(data[1].ref("audio").source), np.asarray(data[1].ref("audio").source))
    with pytest.raises(MediaError, match="not finite"):
        toy_processor("audio", [data[2].ref("audio").source], facts=[{}], rngs=None)


def test_the_two_forms_of_the_loss_agree_on_one_process() -> None:
    batch = toy_mixture(4).build(0)[0]
    whole, local = ToyObjective(dropout=0.0), ToyObjective(dropout=0.0, local=True)
    first, second = whole.losses("audio", batch), local.losses("audio", batch)
    assert set(first) == {"nce", "size"} and batch.features["audio"]["audio_values"].shape == (4, SIZE)
    assert torch.allclose(first["nce"], second["nce"])


def test_a_dummy_is_zero_and_touches_one_sense_only() -> None:
    objective = ToyObjective()
    objective.dummy("audio").backward()
    grads = {name: parameter.grad for name, parameter in objective.module.named_parameters()}
    assert [name for name, grad in grads.items() if grad is not None] == [
        "encoders.audio.weight",
        "encoders.audio.bias",
    ]
    assert not any(grad.any() for grad in grads.values() if grad is not None)
