"""Cross-CPC in a training step: the moment, the predictions, and the pairs of senses that they are compared in."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from polysense.continual.pseudo_modality import PseudoModality, PseudoSequence
from polysense.data.rng import Key, keyed_int
from polysense.errors import ConfigError
from polysense.losses import cross_cpc
from polysense.losses.cross_cpc import Axis
from polysense.models.comet import CometModel
from polysense.models.comet.modeling_comet import CometOutput
from polysense.nn.prediction import ContextPredictor
from polysense.trainer.distributed import gather_with_grad

_PSEUDO = "pseudo"


@dataclass(frozen=True)
class Predictions:
    """What every sense expects, and what comes.

    Attributes:
        moment: last step of the past; -1 where sequences have a single step and there is no time.
        rows: samples in which no step concerned is padding in any sense; the others are no negatives either.
        ahead, true: for each step ahead, sense to `rows dim`. Without time both are the steps there are, and Cross-CPC
            becomes plain InfoNCE.
    """

    moment: int
    rows: Int[Tensor, " rows"]
    ahead: Sequence[dict[str, Tensor]]
    true: Sequence[dict[str, Tensor]]

    @property
    def timed(self) -> bool:
        return self.moment >= 0

    def place(self, step: int) -> int:
        """Index in time of what is `step` steps ahead."""
        return self.moment + 1 + step


def predict(model: CometModel, out: CometOutput, *, earliest: int, key: Sequence[Key]) -> Predictions:
    """Let every sense predict from its past up to a moment drawn by `key`, the same on all processes.

    Args:
        earliest: first moment that may be drawn (CMG: 1, so that a past has two steps).

    Raises:
        ConfigError: the sequences are too short to predict as far ahead as the model does.
    """
    steps, horizon = min(z.shape[1] for z in out.continuous.values()), model.config.horizon
    if steps == 1:
        rows = _real_rows(out, 0, 1)
        only = {name: z[rows, 0] for name, z in out.continuous.items()}
        return Predictions(-1, rows, [only], [only])
    last = last_moment(steps, horizon)
    first = min(earliest, last)
    moment = first + keyed_int("moment", *key) % (last - first + 1)
    rows = _real_rows(out, moment, moment + 1 + horizon)
    chosen = {name: z[rows] for name, z in out.continuous.items()}
    told = {name: _ahead(model.context(name), z[:, : moment + 1]) for name, z in chosen.items()}
    ahead = [{name: each[step] for name, each in told.items()} for step in range(horizon)]
    true = [{name: z[:, moment + 1 + step] for name, z in chosen.items()} for step in range(horizon)]
    return Predictions(moment, rows, ahead, true)


def last_moment(steps: int, horizon: int) -> int:
    """The last step after which so many more are there to be predicted.

    Raises:
        ConfigError: there is none.
    """
    if steps <= horizon:
        raise ConfigError(f"sequences of {steps} steps cannot be predicted {horizon} ahead", where="horizon",
                          fix="Use longer sequences or a smaller horizon.")  # fmt: skip
    return steps - 1 - horizon


def contrast(predictions: Predictions, *, axis: Axis, self_weight: float) -> Tensor:
    """Cross-CPC between the senses, averaged over the steps ahead and over all processes' samples."""
    own = self_weight if predictions.timed else 0.0
    pairs = zip(predictions.ahead, predictions.true, strict=True)
    losses = [cross_cpc(*pair, axis=axis, self_weight=own, gather=gather_with_grad) for pair in pairs]
    return torch.stack(losses).mean()


def replay_contrast(
    predictions: Predictions, replay: PseudoModality, pseudo: PseudoSequence, *, axis: Axis, self_weight: float
) -> Tensor:
    """The pairs that the pseudo-modality adds to Cross-CPC: every sense predicts it, it predicts all and itself.

    Its weights scale the vectors that its predictor reads, and the loss of samples whose pseudo step is to be found
    (method-facts 3.5).
    """
    vectors, weights = pseudo.vectors[predictions.rows], pseudo.weights[predictions.rows]
    if predictions.timed:
        told = _ahead(replay.context, (vectors * weights[..., None])[:, : predictions.moment + 1])
    else:
        told = vectors.transpose(0, 1)
    total = []
    for step, (ahead, true) in enumerate(zip(predictions.ahead, predictions.true, strict=True)):
        own = {_PSEUDO: vectors[:, predictions.place(step)]}
        scale = {_PSEUDO: weights[:, predictions.place(step)]}
        pairs = [(ahead, own), ({_PSEUDO: told[step]}, true)]
        if predictions.timed:
            pairs.append(({_PSEUDO: told[step]}, own))
        for pair in pairs:
            weighed = scale if pair[1] is own else None
            total.append(
                cross_cpc(*pair, axis=axis, self_weight=self_weight, weights=weighed, gather=gather_with_grad)
            )
    return torch.stack(total).sum() / len(predictions.ahead)


def _ahead(predictor: ContextPredictor, past: Tensor) -> Tensor:
    """Predictions, `horizon rows dim`; an LSTM takes no batch of none, though another process may have samples."""
    if len(past):
        told: Tensor = predictor(past)
        return told
    return past.new_zeros(len(predictor.ahead), 0, past.shape[-1]) + past.sum()


def _real_rows(out: CometOutput, start: int, stop: int) -> Int[Tensor, " rows"]:
    real = [mask[:, start:stop].all(dim=1) for mask in out.masks.values()]
    return torch.stack(real).all(dim=0).nonzero().flatten()
