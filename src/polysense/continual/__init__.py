"""What adding one modality after another needs beyond training one model."""

from polysense.continual.freeze import apply_freezing

__all__ = ["apply_freezing"]
