"""Settings of the training loop."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, replace
from typing import Any

from polysense.errors import ConfigError
from polysense.safety import check_keys

_TYPES: dict[str, tuple[type, ...]] = {"int": (int,), "float": (int, float), "str": (str,), "bool": (bool,)}


@dataclass(frozen=True, kw_only=True)
class LoopConfig:
    """How long, how fast and how carefully to train. Values that cannot be used raise `ConfigError`.

    Attributes:
        steps: optimiser steps of the whole run.
        epochs: passes through the longest source of the mixture (its repeats counted), in place of `steps`.
        seed: keys every random draw of the model (dropout ...); data are keyed by the feed's own seed.
        accumulation: micro-batches of every slot per optimiser step; their gradients are averaged.
        optimizer: "adamw" or "sgd" (plain, for tests of equality).
        learning_rate: peak learning rate.
        lr_multipliers: pattern of parameter names (`fnmatch`) to a factor on the learning rate; first match counts.
        weight_decay: decoupled decay of parameters with two or more axes; vectors and scalars are not decayed.
        beta1: decay of AdamW's mean of gradients.
        beta2: decay of AdamW's mean of squared gradients.
        epsilon: AdamW's denominator offset.
        warmup_steps: steps of linear warm-up; a cosine to `final_lr_ratio` follows.
        final_lr_ratio: learning rate at the last step as a share of the peak.
        max_grad_norm: gradients are scaled down to this norm; 0 turns clipping off.
        mixed_precision: "no" or "bf16" (autocast; parameters stay as they are).
        activation_checkpointing: compute what blocks of layers keep for the backward pass again there, which takes a
            third more time and far less memory and gives the same gradients.
        max_nonfinite_steps: consecutive steps with a non-finite loss or gradient after which the run stops.
        save_every: steps between checkpoints; the last step is always saved.
        keep_checkpoints: how many to keep, at least 2, so that a damaged newest one can be done without.
        strict_resume: refuse to resume when the newest checkpoint is damaged, in place of using the one before.
        log_every: steps between lines of `log.jsonl`.
        eval_every: steps between calls of `on_evaluate`, which also runs after the last step; 0 means only then.
        loader_workers: threads that build batches ahead; 0 builds them in the loop.
        prefetch: micro-steps to be ahead.
    """

    steps: int = 0
    epochs: int = 0
    seed: int = 0
    accumulation: int = 1
    optimizer: str = "adamw"
    learning_rate: float = 2e-4
    lr_multipliers: Mapping[str, float] = field(default_factory=dict)
    weight_decay: float = 0.05
    beta1: float = 0.9
    beta2: float = 0.98
    epsilon: float = 1e-6
    warmup_steps: int = 0
    final_lr_ratio: float = 0.0
    max_grad_norm: float = 1.0
    mixed_precision: str = "no"
    activation_checkpointing: bool = False
    max_nonfinite_steps: int = 10
    save_every: int = 500
    keep_checkpoints: int = 2
    strict_resume: bool = False
    log_every: int = 10
    eval_every: int = 0
    loader_workers: int = 2
    prefetch: int = 2

    def __post_init__(self) -> None:
        positive = ("accumulation", "max_nonfinite_steps", "save_every", "log_every")
        not_negative = ("steps", "epochs", "warmup_steps", "eval_every", "learning_rate", "final_lr_ratio",
                        "max_grad_norm", "weight_decay", "epsilon", "loader_workers", "prefetch")  # fmt: skip
        self._check_choice("optimizer", ("adamw", "sgd"))
        self._check_choice("mixed_precision", ("no", "bf16"))
        for names, least in ((positive, 1), (not_negative, 0), (("keep_checkpoints",), 2)):
            for name in names:
                if not least <= getattr(self, name) < math.inf:
                    raise ConfigError(f"{name} is {getattr(self, name)}", where="loop", fix=f"Give at least {least}.")
        for name in ("beta1", "beta2"):
            if not 0 <= getattr(self, name) < 1:
                raise ConfigError(f"{name} is {getattr(self, name)}", where="loop", fix="Give 0 or more, below 1.")
        if bool(self.steps) == bool(self.epochs):
            raise ConfigError(f"steps is {self.steps} and epochs is {self.epochs}", where="loop",
                              fix="Give one of them, at least 1.")  # fmt: skip

    def _check_choice(self, name: str, choices: tuple[str, ...]) -> None:
        if getattr(self, name) not in choices:
            raise ConfigError(
                f"{name} is {getattr(self, name)!r}", where="loop", fix=f"Choose one of {', '.join(choices)}."
            )

    @classmethod
    def from_dict(cls, settings: Mapping[str, Any]) -> LoopConfig:
        """The config as it stands in YAML; unknown keys and mistyped values raise `ConfigError`."""
        check_keys(settings, [item.name for item in fields(cls)], "loop")
        if not {"steps", "epochs"} & set(settings):
            raise ConfigError("the number of steps is missing", where="loop", fix="Give `steps` or `epochs`.")
        for item in (item for item in fields(cls) if item.name in settings):
            value, kinds = settings[item.name], _TYPES.get(str(item.type), (Mapping,))
            if not isinstance(value, kinds) or (isinstance(value, bool) and bool not in kinds):
                raise ConfigError(
                    f"{item.name} is {value!r}, not of type {item.type}",
                    where="loop",
                    fix="YAML reads 2e-4 as text: write 2.0e-4." if isinstance(value, str) else "Correct the value.",
                )
        return cls(**settings)

    def lasting(self, steps: int = 0, epochs: int = 0) -> LoopConfig:
        """The config with a length of its own, if one is given."""
        return replace(self, steps=steps, epochs=epochs) if steps or epochs else self

    def in_steps(self, steps_per_epoch: int) -> LoopConfig:
        """The config with its epochs as steps.

        Args:
            steps_per_epoch: micro-steps of an epoch, as `Mixture.steps_per_epoch` gives them.
        """
        if not self.epochs:
            return self
        return replace(self, steps=math.ceil(self.epochs * steps_per_epoch / self.accumulation), epochs=0)

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    def learning_rate_at(self, step: int) -> float:
        """Learning rate of step 0, 1, ...: linear warm-up, then a cosine. Pure, so resume needs no state of it."""
        if step < self.warmup_steps:
            return self.learning_rate * (step + 1) / self.warmup_steps
        progress = (step - self.warmup_steps) / max(1, self.steps - self.warmup_steps)
        cosine = 0.5 * (1 + math.cos(math.pi * min(1.0, progress)))
        return self.learning_rate * (self.final_lr_ratio + (1 - self.final_lr_ratio) * cosine)
