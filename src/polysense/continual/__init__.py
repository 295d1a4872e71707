"""What adding one modality after another needs beyond training one model."""

from polysense.continual.ewc import OnlineEwc
from polysense.continual.fisher import batch_fisher, normalised, sample_fisher
from polysense.continual.freeze import apply_freezing

__all__ = ["OnlineEwc", "apply_freezing", "batch_fisher", "normalised", "sample_fisher"]
