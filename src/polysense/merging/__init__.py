"""Merging what a stage has learned into what was known before: MERA's running average, and others beside it.

A merge method is one file with one formula; all are called alike, on state dicts in memory or on folders larger than
memory. LoRA updates are merged exactly, on the weights they stand for.
"""

from polysense.merging.dare import dare
from polysense.merging.lora_delta import (
    concatenate_factors,
    effective_weight,
    lora_delta,
    merge_coefficients,
)
from polysense.merging.registry import (
    Block,
    MergeMethod,
    chosen_method,
    get_merge_method,
    merge_methods,
    register_merge_method,
)
from polysense.merging.running_average import running_average
from polysense.merging.slerp import slerp
from polysense.merging.streaming import add_deltas, merge_folders
from polysense.merging.task_arithmetic import task_arithmetic
from polysense.merging.ties import ties

__all__ = [
    "Block",
    "MergeMethod",
    "add_deltas",
    "chosen_method",
    "concatenate_factors",
    "dare",
    "effective_weight",
    "get_merge_method",
    "lora_delta",
    "merge_coefficients",
    "merge_folders",
    "merge_methods",
    "register_merge_method",
    "running_average",
    "slerp",
    "task_arithmetic",
    "ties",
]
