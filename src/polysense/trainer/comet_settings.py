"""Weights of COMET's objective, and what belongs to single terms of it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from polysense.errors import ConfigError
from polysense.trainer.terms import TermSettings

TERMS = ("reconstruction", "commitment", "contrast", "replay", "code", "information", "gate", "sequence")
_NUMBERS = ("beta", "self_weight", "earliest", "scale", "inner_steps", "inner_learning_rate")


@dataclass(frozen=True, kw_only=True)
class CometSettings(TermSettings):
    """Weights of the terms, all 1 in CMG's release (`code`: 0.5) and in COMET, and what belongs to single terms.

    Attributes:
        reconstruction, commitment, information, gate: weights; terms of weight zero are not computed.
        contrast: Cross-CPC between the senses.
        replay: Cross-CPC between the senses and the pseudo-modality, where a stage has one; with its full weight a
            frozen teacher leaves new pairs little room.
        code: code matching (L_cmcm), per pair of senses.
        sequence: InfoNCE of whole sequences (the baselines CMCM and TURN).
        beta: of the commitment terms.
        cross_commitment: commitment to the other senses' codes as well.
        axis, self_weight: see `cross_cpc`.
        earliest: first step after which Cross-CPC may predict; the later ones are drawn alike.
        scale: factor on the cosines of `sequence`.
        inner_steps, inner_learning_rate: vCLUB's own optimisation in every step. With a single inner step and a weight
            of 0.1 a model was seen to collapse; five are CMG's.
        masked: leave padding out (vCLUB meets it as zeros). Otherwise padded steps count like any other, as in CMG's
            release.
        seed: keys the draws of the objective.
        terms: weights of further terms, by the names they are registered under in `CODE_TERMS`.

    Raises:
        ConfigError: a number that is negative or infinite, a term that is weighed twice, or an unknown axis.
    """

    OWN: ClassVar[tuple[str, ...]] = TERMS
    reconstruction: float = 1.0
    commitment: float = 1.0
    contrast: float = 1.0
    replay: float = 0.15
    code: float = 0.5
    information: float = 1.0
    gate: float = 1.0
    sequence: float = 0.0
    beta: float = 0.25
    cross_commitment: bool = True
    axis: str = "both"
    self_weight: float = 0.1
    earliest: int = 1
    scale: float = 1 / 0.07
    inner_steps: int = 5
    inner_learning_rate: float = 1e-3
    masked: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_not_negative({name: getattr(self, name) for name in _NUMBERS})
        if self.axis not in ("both", "predictions", "targets"):
            raise ConfigError(f"axis is {self.axis!r}", where="objective",
                              fix="Choose one of both, predictions, targets.")  # fmt: skip
