"""Building blocks: tokenizers, experts, codebooks, and the loop over a frozen tower's blocks."""

from polysense.nn.codebook import Codebook, CodebookOptions, CodebookOutput, CodeStatistics
from polysense.nn.codebook_growth import FrozenCodes, grow
from polysense.nn.common_specific import CommonSpecificExperts
from polysense.nn.experts import ExpertOptions, ExpertSite, GroupExperts
from polysense.nn.low_rank import Gate, add_experts, linear_with_experts, routing_weights, svd_experts
from polysense.nn.patch_embed import Tokenizer, build_tokenizer, register_tokenizer, tokenizer_kinds
from polysense.nn.transformer import BlockExperts, ExpertTransformer

__all__ = [
    "BlockExperts",
    "CodeStatistics",
    "Codebook",
    "CodebookOptions",
    "CodebookOutput",
    "CommonSpecificExperts",
    "ExpertOptions",
    "ExpertSite",
    "ExpertTransformer",
    "FrozenCodes",
    "Gate",
    "GroupExperts",
    "Tokenizer",
    "add_experts",
    "build_tokenizer",
    "grow",
    "linear_with_experts",
    "register_tokenizer",
    "routing_weights",
    "svd_experts",
    "tokenizer_kinds",
]
