"""Training objectives as pure functions over tensors; trainers weigh and add them. One loss, one file."""

from polysense.losses.commitment import commitment
from polysense.losses.contrastive import info_nce
from polysense.losses.cross_cpc import cross_cpc
from polysense.losses.cross_modal_code import code_distribution, cross_modal_code
from polysense.losses.exp_log import LocalisationLoss, exp_log
from polysense.losses.gate_balance import gate_balance
from polysense.losses.mask import dice, mask_loss
from polysense.losses.mutual_information import negative_log_likelihood, vclub
from polysense.losses.reconstruction import step_error
from polysense.losses.soft_binding import label_similarity, soft_binding

__all__ = [
    "LocalisationLoss",
    "code_distribution",
    "commitment",
    "cross_cpc",
    "cross_modal_code",
    "dice",
    "exp_log",
    "gate_balance",
    "info_nce",
    "label_similarity",
    "mask_loss",
    "negative_log_likelihood",
    "soft_binding",
    "step_error",
    "vclub",
]
