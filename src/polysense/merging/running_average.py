"""Cumulative moving average: the merge of MERA (section 4.1, its first equation)."""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

from polysense.merging.registry import Block, register_merge_method


@register_merge_method("running_average", counts=lambda stage: 1 / stage)
def running_average(block: Block) -> Float[Tensor, " numbers"]:
    """CMA(theta_{i-1}, theta_i; i) = (i-1)/i theta_{i-1} + 1/i theta_i, written as theta_{i-1} + update / i.

    The second form is the same sum with one rounding less, and equal models give exactly that model. It also shows
    what the merge does to a LoRA: the stage's delta counts 1/i (see `polysense.merging.lora_delta`).
    """
    return block.update.div_(block.stage).add_(block.previous)
