"""Alignment objectives as pure functions over tensors; trainers weigh and add them. One loss, one file."""

from polysense.losses.contrastive import info_nce
from polysense.losses.soft_binding import label_similarity, soft_binding

__all__ = ["info_nce", "label_similarity", "soft_binding"]
