from __future__ import annotations

import math

import pytest
import torch

from polysense.continual.pseudo_modality import PseudoSequence
from polysense.errors import ConfigError
from polysense.losses import cross_cpc
from polysense.trainer.comet_prediction import contrast, predict, replay_contrast
from tests.models.comet.tiny import tiny_sequences
from tests.trainer.comet_pairs import PAIR, objective, second_stage


def test_moments_are_drawn_alike_from_the_earliest_to_the_last_but_one() -> None:
    model = objective().module.model
    out = model(tiny_sequences(*PAIR, steps=6), update=False)
    moments = [predict(model, out, earliest=1, key=(0, step)).moment for step in range(300)]
    assert set(moments) == {1, 2, 3, 4} and min(moments.count(each) for each in (1, 2, 3, 4)) > 40
    assert predict(model, out, earliest=1, key=(0, 7)).moment == moments[7]


def test_samples_whose_steps_are_padding_are_left_out() -> None:
    model, sequences = objective().module.model, tiny_sequences(*PAIR, steps=2)
    mask = torch.tensor([[True, True], [True, False], [True, True]])
    out = model(sequences, {"text": mask}, update=False)
    found = predict(model, out, earliest=1, key=())
    assert found.moment == 0 and found.rows.tolist() == [0, 2]
    assert torch.equal(found.true[0]["audio"], out.continuous["audio"][[0, 2], 1])
    expected = model.context("text")(out.continuous["text"][[0, 2], :1])[0]
    torch.testing.assert_close(found.ahead[0]["text"], expected)


def test_without_time_it_is_plain_info_nce() -> None:
    model = objective().module.model
    out = model(tiny_sequences(*PAIR, steps=1), update=False)
    found = predict(model, out, earliest=1, key=())
    steps = {name: z[:, 0] for name, z in out.continuous.items()}
    expected = cross_cpc(steps, steps, self_weight=0.0)
    torch.testing.assert_close(contrast(found, axis="both", self_weight=0.1), expected)


def test_contrast_and_replay_together_are_tri_modal_cross_cpc() -> None:
    made = second_stage()
    model, replay = made.module.model, made.module.replay
    assert replay is not None
    out = model(tiny_sequences("video", "text"), update=False)
    weights = torch.rand(3, 4)
    pseudo = PseudoSequence(torch.randn(3, 4, 8), weights)
    found = predict(model, out, earliest=1, key=())
    told = replay.context((pseudo.vectors * weights[..., None])[:, : found.moment + 1])[0]
    ahead = {**found.ahead[0], "pseudo": told}
    true = {**found.true[0], "pseudo": pseudo.vectors[:, found.moment + 1]}
    expected = cross_cpc(ahead, true, weights={"pseudo": weights[:, found.moment + 1]})
    options = {"axis": "both", "self_weight": 0.1}
    parts = contrast(found, **options), replay_contrast(found, replay, pseudo, **options)  # type: ignore[arg-type]
    torch.testing.assert_close(parts[0] + parts[1], expected)


def test_a_batch_in_which_nothing_can_be_predicted_costs_nothing() -> None:
    model, sequences = objective().module.model, tiny_sequences(*PAIR, steps=3)
    mask = torch.tensor([[True, False, False]] * 3)
    out = model(sequences, {"text": mask}, update=False)
    loss = contrast(predict(model, out, earliest=1, key=()), axis="both", self_weight=0.1)
    assert loss.item() == 0 and not math.isnan(loss.item())


def test_sequences_shorter_than_the_horizon_are_refused() -> None:
    model = objective(horizon=3).module.model
    out = model(tiny_sequences(*PAIR, steps=3), update=False)
    with pytest.raises(ConfigError, match="3 steps cannot be predicted 3 ahead"):
        predict(model, out, earliest=1, key=())
