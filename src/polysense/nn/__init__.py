"""Building blocks: tokenizers, experts, and the loop over a frozen tower's blocks."""

from polysense.nn.experts import ExpertSite, GroupExperts, add_experts, routing_weights, svd_experts
from polysense.nn.patch_embed import Tokenizer, build_tokenizer, register_tokenizer, tokenizer_kinds
from polysense.nn.transformer import BlockExperts, ExpertTransformer

__all__ = [
    "BlockExperts",
    "ExpertSite",
    "ExpertTransformer",
    "GroupExperts",
    "Tokenizer",
    "add_experts",
    "build_tokenizer",
    "register_tokenizer",
    "routing_weights",
    "svd_experts",
    "tokenizer_kinds",
]
