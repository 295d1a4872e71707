"""Tiny configurations and samples for tests, benchmarks and documentation. Nothing in the library imports this."""

from polysense.testing.anchors import tiny_anchor
from polysense.testing.comet_recipe import tiny_comet_recipe
from polysense.testing.recipe import tiny_recipe
from polysense.testing.tiny import (
    tiny_clip,
    tiny_features,
    tiny_llama,
    tiny_llava,
    tiny_mera,
    tiny_senses,
    tiny_tokenizer,
)

__all__ = [
    "tiny_anchor",
    "tiny_clip",
    "tiny_comet_recipe",
    "tiny_features",
    "tiny_llama",
    "tiny_llava",
    "tiny_mera",
    "tiny_recipe",
    "tiny_senses",
    "tiny_tokenizer",
]
