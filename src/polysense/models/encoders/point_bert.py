"""Point-BERT as PointLLM publishes it: a transformer over groups of neighbouring points."""

from collections.abc import Mapping
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.modality import Modality
from polysense.models.base import PolysenseModel
from polysense.models.encoders.configuration_point_bert import PointBertConfig
from polysense.models.encoders.published import load_strictly, renamed
from polysense.nn.masks import Mask, real_steps
from polysense.nn.patch_embed import PointTokenizer
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec, check_layer

_PREFIX = "module.point_encoder."
_RULES = (
    (r"encoder\.first_conv\.(\w+\.\w+)", r"tokenizer.local.\1"),
    (r"encoder\.second_conv\.(\w+\.\w+)", r"tokenizer.joint.\1"),
    (r"reduce_dim\.(\w+)", r"tokenizer.projection.\1"),
    (r"pos_embed\.(\w+\.\w+)", r"tokenizer.position.\1"),
    (r"cls_token", r"class_token"),
    (r"cls_pos", r"class_position"),
    (r"blocks\.(blocks\.\d+)\.(norm[12]\.\w+)", r"\1.\2"),
    (r"blocks\.(blocks\.\d+)\.attn\.((?:qkv|proj)\.\w+)", r"\1.\2"),
    (r"blocks\.(blocks\.\d+)\.mlp\.(fc[12]\.\w+)", r"\1.\2"),
    (r"(norm\.\w+)", r"\1"),
)


class PointBertBlock(nn.Module):
    """A pre-norm transformer block."""

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.heads = config.num_attention_heads
        self.norm1, self.norm2 = nn.LayerNorm(width, eps), nn.LayerNorm(width, eps)
        self.qkv = nn.Linear(width, 3 * width, bias=False)
        self.proj = nn.Linear(width, width)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)

    def forward(self, hidden: Float[Tensor, "batch tokens dim"]) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = self.qkv(self.norm1(hidden)).unflatten(-1, (3, self.heads, -1)).permute(2, 0, 3, 1, 4)
        attended = F.scaled_dot_product_attention(query, key, value)
        hidden = hidden + self.proj(attended.transpose(1, 2).flatten(2))
        return cast(Tensor, hidden + self.fc2(F.gelu(self.fc1(self.norm2(hidden)))))


class PointBertEncoder(PolysenseModel):
    """Point-BERT without its heads; implements `ModalityEncoder` for any modality of points.

    Positions of the groups' centres are added before every block, not only the first.
    """

    config: PointBertConfig
    base_model_prefix = ""
    main_input_name = "features"
    _no_split_modules = ("PointBertBlock",)

    def __init__(self, config: PointBertConfig) -> None:
        super().__init__(config)
        width = config.hidden_size
        points = Modality(name="point_cloud", kind="points", channels=config.channels)
        sizes = {"groups": config.num_groups, "width": config.point_width}
        self.tokenizer = PointTokenizer(points, width, 1, 1, norm="batch", **sizes)
        self.class_token = nn.Parameter(torch.zeros(1, 1, width))
        self.class_position = nn.Parameter(torch.zeros(1, 1, width))
        self.blocks = nn.ModuleList([PointBertBlock(config) for _ in range(config.num_hidden_layers)])
        self.norm = nn.LayerNorm(width, config.layer_norm_eps)
        self.post_init()

    @classmethod
    def from_published(cls, state: Mapping[str, Any], config: PointBertConfig | None = None) -> Self:
        """From a published checkpoint's `state_dict`, read from its pickle in a sandbox.

        Raises:
            CheckpointError: weights that are missing, unknown or of another shape.
        """
        model = cls(config or PointBertConfig())
        load_strictly(model, convert_point_bert(state))
        return cast(Self, model.eval())

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens, the same for every modality: one row, the class token first where it is kept."""
        tokens = self.config.num_groups + self.config.keep_class
        return TokenSpec(dim=self.config.hidden_size, grid=(1, 1, tokens), layers=len(self.blocks))

    def encode_tokens(
        self, modality: str, features: Tensor, layer: int = -1, mask: Mask | None = None
    ) -> EncodedTokens:
        """Tokens after block `layer` (0: before the first); those of the last (-1) after the final norm.

        Args:
            features: `batch groups neighbours channels` on the unit sphere, neighbour 0 the centre, colours 0 to 1.
            mask: `batch 1`, for the protocol's sake.

        Raises:
            ConfigError: there is no such layer.
            FeatureShapeError: features of another rank or size.
        """
        check_layer(layer, len(self.blocks), where=modality)
        self.tokenizer.check(features, self.config.num_groups, None, self.config.channels)
        tokens, places = self.tokenizer.parts(features)
        batch = len(tokens)
        hidden = torch.cat([self.class_token.expand(batch, -1, -1), tokens], dim=1)
        positions = torch.cat([self.class_position.expand(batch, -1, -1), places], dim=1)
        states = [hidden]
        for block in self.blocks:
            states.append(block(states[-1] + positions))
        states[-1] = self.norm(states[-1])
        kept = states[layer] if self.config.keep_class else states[layer][:, 1:]
        return EncodedTokens(
            tokens=kept.unsqueeze(1), mask=real_steps(mask, batch, 1, kept.device), grid=(1, 1, kept.shape[1]),
            pooled=states[-1][:, 0],
        )  # fmt: skip

    def forward(self, features: Tensor, mask: Mask | None = None) -> EncodedTokens:
        """`encode_tokens` of the last layer."""
        return self.encode_tokens("point_cloud", features, mask=mask)

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, PointBertEncoder):
            nn.init.zeros_(module.class_token)
            nn.init.normal_(module.class_position)


def convert_point_bert(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A published checkpoint's weights under the names of `PointBertEncoder`, its convolutions as linear layers.

    Args:
        state: of the encoder alone, or of PointLLM's file, whose other parts are left out.

    Raises:
        CheckpointError: a name that no published Point-BERT has, or a value that is no tensor.
    """
    inner = {key.removeprefix(_PREFIX): value for key, value in state.items() if key.startswith(_PREFIX)}
    converted = renamed(inner or state, _RULES, left_out=r"(?!)", where="Point-BERT")
    return {key: value.squeeze(-1) if value.ndim == 3 and "tokenizer" in key else value
            for key, value in converted.items()}  # fmt: skip


__all__ = ["PointBertEncoder", "convert_point_bert"]
