"""BEATs: a transformer over patches of a spectrogram, as a frozen encoder of sound (Chen et al. 2022)."""

import math
from collections.abc import Mapping
from typing import Any, Self, cast

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn import functional as F

from polysense.errors import CheckpointError, FeatureShapeError
from polysense.models.base import PolysenseModel
from polysense.models.encoders.configuration_beats import BeatsConfig
from polysense.models.encoders.published import check_tensor, load_strictly, renamed
from polysense.nn.masks import Mask, masked_mean, real_steps
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec, check_layer

_RULES = (
    (r"(patch_embedding\.weight)", r"\1"),
    (r"layer_norm\.(\w+)", r"patch_norm.\1"),
    (r"post_extract_proj\.(\w+)", r"patch_projection.\1"),
    (r"encoder\.pos_conv\.0\.(weight|bias)", r"position_conv.\1"),
    (r"encoder\.layer_norm\.(\w+)", r"embedding_norm.\1"),
    (r"encoder\.layers\.0\.self_attn\.relative_attention_bias\.weight", r"relative_bias.weight"),
    (r"encoder\.(layers\.\d+)\.self_attn\.((?:[qkv]|out)_proj\.\w+)", r"\1.attention.\2"),
    (r"encoder\.(layers\.\d+)\.self_attn\.grep_linear\.(\w+)", r"\1.attention.gate.\2"),
    (r"encoder\.(layers\.\d+)\.self_attn\.grep_a", r"\1.attention.gate_scale"),
    (r"encoder\.(layers\.\d+)\.self_attn_layer_norm\.(\w+)", r"\1.attention_norm.\2"),
    (r"encoder\.(layers\.\d+\.(?:fc1|fc2|final_layer_norm)\.\w+)", r"\1"),
)
# the label predictor of fine-tuned ones, and the bias of distances, which all layers share with the first
_LEFT_OUT = r"predictor\..*|encoder\.layers\.\d+\.self_attn\.relative_attention_bias\.weight"
_LENGTH, _DIRECTION = "encoder.pos_conv.0.weight_g", "encoder.pos_conv.0.weight_v"


class BeatsAttention(nn.Module):
    """Self-attention whose relative position bias every query weighs by two gates of its own."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        self.heads, width = config.num_attention_heads, config.hidden_size
        for name in ("q_proj", "k_proj", "v_proj", "out_proj"):
            self.add_module(name, nn.Linear(width, width))
        self.gate = nn.Linear(width // self.heads, 8)
        self.gate_scale = nn.Parameter(torch.ones(1, self.heads, 1, 1))

    def forward(
        self, hidden: Float[Tensor, "batch tokens dim"], bias: Float[Tensor, "heads tokens tokens"]
    ) -> Float[Tensor, "batch tokens dim"]:
        query, key, value = (
            self.get_submodule(name)(hidden).unflatten(-1, (self.heads, -1)).transpose(1, 2)
            for name in ("q_proj", "k_proj", "v_proj")
        )
        first, second = self.gate(query).unflatten(-1, (2, 4)).sum(dim=-1).sigmoid().chunk(2, dim=-1)
        gated = (first * (second * self.gate_scale - 1.0) + 2.0) * bias
        attended = F.scaled_dot_product_attention(query, key, value, attn_mask=gated)
        return cast(Tensor, self.get_submodule("out_proj")(attended.transpose(1, 2).flatten(2)))


class BeatsLayer(nn.Module):
    """Attention and feed-forward part, each normed after a residual that deep norm scales up."""

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__()
        width, eps = config.hidden_size, config.layer_norm_eps
        self.residual_scale = (2 * config.num_hidden_layers) ** 0.25
        self.attention = BeatsAttention(config)
        self.attention_norm = nn.LayerNorm(width, eps)
        self.fc1 = nn.Linear(width, config.intermediate_size)
        self.fc2 = nn.Linear(config.intermediate_size, width)
        self.final_layer_norm = nn.LayerNorm(width, eps)

    def forward(
        self, hidden: Float[Tensor, "batch tokens dim"], bias: Float[Tensor, "heads tokens tokens"]
    ) -> Float[Tensor, "batch tokens dim"]:
        hidden = self.attention_norm(hidden * self.residual_scale + self.attention(hidden, bias))
        forwarded = self.fc2(F.gelu(self.fc1(hidden)))
        return cast(Tensor, self.final_layer_norm(hidden * self.residual_scale + forwarded))


class BeatsEncoder(PolysenseModel):
    """BEATs without its label predictor; implements `ModalityEncoder` for any modality of spectrograms.

    Every window of a clip is encoded alone; its tokens are a raster of time by frequency.
    """

    config: BeatsConfig
    base_model_prefix = ""
    main_input_name = "features"
    _no_split_modules = ("BeatsLayer",)

    def __init__(self, config: BeatsConfig) -> None:
        super().__init__(config)
        width, eps, kernel = config.hidden_size, config.layer_norm_eps, config.conv_kernel
        self.patch_embedding = nn.Conv2d(1, config.patch_dim, config.patch_size, config.patch_size, bias=False)
        self.patch_norm = nn.LayerNorm(config.patch_dim, eps)
        projected = config.patch_dim != width
        self.patch_projection = nn.Linear(config.patch_dim, width) if projected else nn.Identity()
        self.position_conv = nn.Conv1d(width, width, kernel, padding=kernel // 2, groups=config.conv_groups)
        self.embedding_norm = nn.LayerNorm(width, eps)
        self.relative_bias = nn.Embedding(config.num_buckets, config.num_attention_heads)
        self.layers = nn.ModuleList([BeatsLayer(config) for _ in range(config.num_hidden_layers)])
        self.post_init()

    @classmethod
    def from_published(cls, state: Mapping[str, Any], cfg: Mapping[str, Any] | None = None) -> Self:
        """From a published checkpoint's `model` and `cfg`, read from its pickle in a sandbox.

        Raises:
            ConfigError, CheckpointError: another variant, or weights that are missing, unknown or of another shape.
        """
        model = cls(BeatsConfig.from_published(cfg or {}))
        load_strictly(model, convert_beats(state))
        return cast(Self, model.eval())

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens of a window, the same for every modality."""
        config = self.config
        return TokenSpec(dim=config.hidden_size, grid=(1, *config.token_grid), layers=config.num_hidden_layers)

    def encode_tokens(
        self, modality: str, features: Tensor, layer: int = -1, mask: Mask | None = None
    ) -> EncodedTokens:
        """Tokens after layer `layer` (-1: the last, 0: the normed embeddings with their positions).

        Args:
            features: `batch windows 1 mel frames`, normalised as `BEATS_PROCESSOR` says.
            mask: which windows are real; all of them if `None`.

        Raises:
            ConfigError: there is no such layer.
            FeatureShapeError: features of another rank or height, or shorter than a patch.
        """
        config = self.config
        check_layer(layer, len(self.layers), where=modality)
        if (
            features.ndim != 5
            or features.shape[2:4] != (1, config.num_mel_bins)
            or features.shape[4] < config.patch_size
        ):
            raise FeatureShapeError(
                f"{modality} features have shape {tuple(features.shape)}, expected "
                f"(batch, windows, 1, {config.num_mel_bins}, frames)",
                fix="Process sound with the options BEATS_PROCESSOR.",
            )
        batch, windows = features.shape[:2]
        patches = self.patch_embedding(features.flatten(0, 1).transpose(2, 3).to(self.dtype))
        grid = (windows, *patches.shape[2:])
        hidden = self._embedded(patches.flatten(2).transpose(1, 2))
        states = [hidden]
        bias = self._bias(hidden.shape[1])
        for each in self.layers:
            states.append(each(states[-1], bias))
        real = real_steps(mask, batch, windows, hidden.device)
        pooled = masked_mean(states[-1].mean(dim=1).unflatten(0, (batch, windows)), real)
        tokens = states[layer].unflatten(0, (batch, windows))
        return EncodedTokens(tokens=tokens, mask=real, grid=grid, pooled=pooled)

    def forward(self, features: Tensor, mask: Mask | None = None) -> EncodedTokens:
        """`encode_tokens` of the last layer."""
        return self.encode_tokens("audio", features, mask=mask)

    def _embedded(self, patches: Float[Tensor, "rows tokens patch"]) -> Float[Tensor, "rows tokens dim"]:
        hidden = self.patch_projection(self.patch_norm(patches))
        # an even kernel gives one position too many
        positions = F.gelu(self.position_conv(hidden.transpose(1, 2))[..., : hidden.shape[1]]).transpose(1, 2)
        return cast(Tensor, self.embedding_norm(hidden + positions))

    def _bias(self, tokens: int) -> Float[Tensor, "heads tokens tokens"]:
        """Bias of every query and key by the bucket of their distance, the same in all layers."""
        places = torch.arange(tokens, device=self.relative_bias.weight.device)
        found = buckets(places[None] - places[:, None], self.config.num_buckets, self.config.max_distance)
        return cast(Tensor, self.relative_bias(found).permute(2, 0, 1))

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, BeatsAttention):
            nn.init.ones_(module.gate_scale)


def buckets(distance: Int[Tensor, "queries keys"], number: int, farthest: int) -> Int[Tensor, "queries keys"]:
    """Bucket of a signed distance (T5): half of them for either sign, one each for near ones, then logarithmic."""
    half = number // 2
    near = half // 2
    size = distance.abs()
    logarithm = torch.log(size.clamp(min=1).float() / near) / math.log(farthest / near)
    far = (near + (logarithm * (half - near)).long()).clamp(max=half - 1)
    return (distance > 0).long() * half + torch.where(size < near, size, far)


def convert_beats(state: Mapping[str, Any]) -> dict[str, Tensor]:
    """A published checkpoint's weights under the names of `BeatsEncoder`, the normed convolution as one weight.

    Raises:
        CheckpointError: a name that no published BEATs has, a value that is no tensor, or half of the normed
            convolution.
    """
    plain = {key: value for key, value in state.items() if key not in {_LENGTH, _DIRECTION}}
    if len(plain) < len(state):
        for key in {_LENGTH, _DIRECTION} & set(state):
            check_tensor(key, state[key])
        length, direction = state.get(_LENGTH), state.get(_DIRECTION)  # the latter: out in kernel
        if length is None or direction is None or length.shape != (1, 1, *direction.shape[2:]):
            raise CheckpointError("the normed convolution is no direction with a length per place of its kernel",
                                  where=_LENGTH, fix="Give all weights, as they were published.")  # fmt: skip
        plain["encoder.pos_conv.0.weight"] = direction * (length / direction.norm(dim=(0, 1), keepdim=True))
    return renamed(plain, _RULES, left_out=_LEFT_OUT, where="BEATs")


__all__ = ["BeatsEncoder", "convert_beats"]
