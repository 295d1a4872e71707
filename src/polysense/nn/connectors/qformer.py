"""The Q-Former of BLIP-2: learned queries that attend to an encoder's tokens, then one linear layer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from transformers import Blip2QFormerConfig, Blip2QFormerModel

from polysense.errors import CheckpointError, ConfigError
from polysense.nn.connectors.base import Connector, TokenMask, check_sizes, register_connector

_DEFAULTS: dict[str, int | float] = {
    "hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 12, "num_attention_heads": 12,
    "cross_attention_frequency": 2, "hidden_dropout_prob": 0.1, "attention_probs_dropout_prob": 0.1,
}  # fmt: skip
_MAX_COUNT = 1024  # queries, layers, heads
_STD = 0.02

_BERT_PARTS = {
    "attention.self.": "attention.attention.",
    "attention.output.": "attention.output.",
    "intermediate.": "intermediate_query.",
    "output.": "output_query.",
}


@register_connector("qformer")
class QFormerConnector(Connector):
    """transformers' own Q-Former without its text branch; ours are the queries and the output layer.

    As in BLIP-2 every second layer attends to the encoder's tokens, and the queries start from N(0, 0.02). MERA takes
    32 queries and BERT's weights for all but the cross attention (section 5.1; method-facts 4.1): see `load_bert`.

    Args:
        queries: number of queries, hence of output tokens, whatever comes in.
        **sizes: fields of `Blip2QFormerConfig`; those of bert-base by default.

    Raises:
        ConfigError: another field, or a value that it cannot have.
    """

    def __init__(self, in_dim: int, out_dim: int, *, queries: int = 32, **sizes: Any) -> None:
        super().__init__(in_dim, out_dim)
        if unknown := sorted(set(sizes) - set(_DEFAULTS)):
            raise ConfigError(f"a qformer has no options {unknown}", fix=f"Known: queries, {', '.join(_DEFAULTS)}.")
        options = {**_DEFAULTS, **sizes}
        for name in ("hidden_dropout_prob", "attention_probs_dropout_prob"):
            if not isinstance(options[name], int | float) or not 0 <= options[name] < 1:
                raise ConfigError(f"{name} of a connector is {options[name]!r}", fix="Give a share below 1.")
        check_sizes(**{name: options[name] for name in ("hidden_size", "intermediate_size")})
        counts = ("num_hidden_layers", "num_attention_heads", "cross_attention_frequency")
        check_sizes(limit=_MAX_COUNT, queries=queries, **{name: options[name] for name in counts})
        config = Blip2QFormerConfig(encoder_hidden_size=in_dim, initializer_range=_STD, **options)
        self.queries = nn.Parameter(torch.empty(queries, config.hidden_size))
        self.qformer = Blip2QFormerModel(config)
        self.output = nn.Linear(config.hidden_size, out_dim)
        self.reset_parameters()

    def out_tokens(self, tokens: int) -> int:
        """The number of queries, whatever `tokens` is."""
        return len(self.queries)

    @torch.no_grad()
    def reset_parameters(self) -> None:
        """BERT's own start: weights and queries from N(0, 0.02), biases zero, norms one."""
        nn.init.normal_(self.queries, std=_STD)
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.normal_(module.weight, std=_STD)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)

    def forward(
        self, tokens: Float[Tensor, "batch tokens in_dim"], mask: TokenMask | None = None
    ) -> Float[Tensor, "batch queries out_dim"]:
        queries = self.queries.expand(len(tokens), -1, -1)
        attended = self.qformer(
            query_embeds=queries, encoder_hidden_states=tokens, encoder_attention_mask=mask
        ).last_hidden_state
        return cast(Tensor, self.output(attended))

    @torch.no_grad()
    def load_bert(self, state: Mapping[str, Tensor]) -> None:
        """Take self-attention, feed-forward layers and norms from BERT; queries and cross attention stay as they are.

        Args:
            state: weights of a `BertModel` or of one with a head, such as bert-base-uncased's (with the names `gamma`
                and `beta` that its file still has).

        Raises:
            CheckpointError: a weight is missing or of another shape; nothing has been changed then.
        """
        converted = bert_to_qformer(state)
        own = dict(self.qformer.named_parameters())
        wanted = {name for name in own if ".crossattention." not in name}
        if missing := sorted(wanted - set(converted)):
            raise CheckpointError(f"BERT's weights lack {len(missing)} of the Q-Former's", where=missing[0],
                                  fix="Use as many layers as that BERT has.")  # fmt: skip
        for name in sorted(wanted):
            if converted[name].shape != own[name].shape:
                shapes = f"{tuple(converted[name].shape)}, not {tuple(own[name].shape)}"
                raise CheckpointError(f"the weight has shape {shapes}", where=name, fix="Use that BERT's sizes.")
        for name in wanted:
            own[name].copy_(converted[name])


def bert_to_qformer(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """BERT's weights under the names that the query branch of `Blip2QFormerModel` has for them, and no others."""
    converted = {}
    for key, value in state.items():
        name = key.removeprefix("bert.").replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if name.startswith("embeddings.LayerNorm."):
            converted[name.replace("embeddings.LayerNorm", "layernorm")] = value
        elif name.startswith("encoder.layer."):
            layer, part = name.removeprefix("encoder.layer.").split(".", 1)
            old = next((prefix for prefix in _BERT_PARTS if part.startswith(prefix)), None)
            if old is not None:
                converted[f"encoder.layer.{layer}.{_BERT_PARTS[old]}{part.removeprefix(old)}"] = value
    return converted
