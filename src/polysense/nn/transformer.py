"""The loop over the blocks of a frozen Hugging Face CLIP vision tower, with experts beside their FFNs.

The group travels as an argument from the top to the bottom. Nothing is remembered in a module or a context variable:
activation checkpointing runs a block again during the backward pass, and a remembered group would by then be another
modality's.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Literal, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from polysense.nn.experts import ExpertOptions, ExpertSite

ExpertPlace = Literal["linear", "block"]


class BlockExperts(nn.Module):
    """The expert sites of one transformer block.

    `place="linear"` puts experts on fc1 and fc2, each with its own router, as the LoRAMoE code that UniAlign builds on
    does (method-facts 1.1); `place="block"` is Eq. 7 read literally: one bypass beside the whole FFN.
    """

    def __init__(self, dim: int, hidden_dim: int, place: ExpertPlace, options: ExpertOptions) -> None:
        super().__init__()
        widths = {"fc1": (dim, hidden_dim), "fc2": (hidden_dim, dim)} if place == "linear" else {"ffn": (dim, dim)}
        self.sites = nn.ModuleDict({name: ExpertSite(*width, options) for name, width in widths.items()})

    def add_group(self, group: str) -> None:
        for site in self.sites.values():
            cast(ExpertSite, site).add_group(group)

    def start_from(self, mlp: Any, group: str) -> None:
        """SVD initialisation of `group` from the frozen `fc1` and `fc2` of an HF CLIP MLP."""
        for name, site in self.sites.items():
            site = cast(ExpertSite, site)
            cast(Any, site.groups[group]).start_from(getattr(mlp, name).weight, site.scale)

    def forward(
        self, mlp: Any, inputs: Float[Tensor, "batch tokens dim"], group: str, visible: Sequence[str] | None
    ) -> Float[Tensor, "batch tokens dim"]:
        """FFN(inputs) + MoE(inputs), the second and third term of Eq. 7."""
        if "ffn" in self.sites:
            return cast(Tensor, self.sites["ffn"](mlp, inputs, group, visible))
        hidden = mlp.activation_fn(self.sites["fc1"](mlp.fc1, inputs, group, visible))
        return cast(Tensor, self.sites["fc2"](mlp.fc2, hidden, group, visible))


def block_with_experts(
    block: Any,
    experts: BlockExperts,
    hidden: Float[Tensor, "batch tokens dim"],
    group: str,
    visible: Sequence[str] | None,
    attention_mask: Float[Tensor, "batch 1 tokens tokens"] | None,
) -> Float[Tensor, "batch tokens dim"]:
    """One pre-norm block (Eqs. 1 and 7) of an HF CLIP vision tower, with the experts of `group` beside its FFN."""
    attended, _ = block.self_attn(hidden_states=block.layer_norm1(hidden), attention_mask=attention_mask)
    hidden = hidden + attended
    return hidden + cast(Tensor, experts(block.mlp, block.layer_norm2(hidden), group, visible))


class ExpertTransformer(nn.Module):
    """Experts for every block of a CLIP vision tower, and the loop that runs the blocks with or without them.

    The tower's blocks are handed to `forward`, not owned: the frozen base keeps its own place and key names.
    """

    def __init__(self, layers: int, dim: int, hidden_dim: int, place: ExpertPlace, options: ExpertOptions) -> None:
        super().__init__()
        self.blocks = nn.ModuleList([BlockExperts(dim, hidden_dim, place, options) for _ in range(layers)])
        self.gradient_checkpointing = False  # the name by which transformers switches activation checkpointing

    def add_group(self, group: str) -> None:
        for experts in self.blocks:
            cast(BlockExperts, experts).add_group(group)

    def forward(
        self,
        tower: Any,
        hidden: Float[Tensor, "batch tokens dim"],
        group: str | None,
        *,
        visible: Sequence[str] | None = None,
        attention_mask: Float[Tensor, "batch 1 tokens tokens"] | None = None,
        layers: int | None = None,
    ) -> Float[Tensor, "batch tokens dim"]:
        """Run the first `layers` blocks (all if `None`).

        Args:
            tower: the HF `CLIPEncoder` whose blocks are run.
            group: expert group of these tokens; `None` runs the frozen blocks exactly as CLIP does.
            visible: groups whose experts the group's router may choose (global routing).
            attention_mask: additive: 0 where a token may be seen, the dtype's minimum where not.
        """
        for block, experts in zip(tower.layers[:layers], self.blocks, strict=False):
            if group is None:
                hidden = block(hidden, attention_mask)
            elif self.gradient_checkpointing and self.training and torch.is_grad_enabled():
                arguments = (block, experts, hidden, group, visible, attention_mask)
                hidden = cast(Tensor, checkpoint(block_with_experts, *arguments, use_reentrant=False))
            else:
                hidden = block_with_experts(block, cast(BlockExperts, experts), hidden, group, visible, attention_mask)
        return hidden
