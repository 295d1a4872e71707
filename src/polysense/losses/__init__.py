"""Alignment objectives as pure functions over tensors; trainers weigh and add them. One loss, one file."""

from polysense.losses.contrastive import info_nce
from polysense.losses.exp_log import LocalisationLoss, exp_log
from polysense.losses.mask import dice, mask_loss
from polysense.losses.soft_binding import label_similarity, soft_binding

__all__ = ["LocalisationLoss", "dice", "exp_log", "info_nce", "label_similarity", "mask_loss", "soft_binding"]
