"""Building blocks: tokenizers, experts, and the loop over a frozen tower's blocks."""

from polysense.nn.experts import ExpertOptions, ExpertSite, GroupExperts
from polysense.nn.low_rank import Gate, add_experts, linear_with_experts, routing_weights, svd_experts
from polysense.nn.patch_embed import Tokenizer, build_tokenizer, register_tokenizer, tokenizer_kinds
from polysense.nn.transformer import BlockExperts, ExpertTransformer

__all__ = [
    "BlockExperts",
    "ExpertOptions",
    "ExpertSite",
    "ExpertTransformer",
    "Gate",
    "GroupExperts",
    "Tokenizer",
    "add_experts",
    "build_tokenizer",
    "linear_with_experts",
    "register_tokenizer",
    "routing_weights",
    "svd_experts",
    "tokenizer_kinds",
]
