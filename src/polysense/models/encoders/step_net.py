"""A small convolutional net over the steps of a sense: what VGG19 and VGGish are to features on the embedded world."""

from typing import cast

from jaxtyping import Float
from torch import Tensor, nn

from polysense.errors import FeatureShapeError
from polysense.models.base import PolysenseModel
from polysense.models.encoders.configuration_step_net import StepNetConfig
from polysense.nn.masks import Mask, masked_mean, real_steps
from polysense.nn.time_pooling import TimePooling
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec, check_layer


class StepNet(PolysenseModel):
    """Every step by itself to a raster of tokens or to one vector; implements `ModalityEncoder`.

    It takes every modality name: what it encodes is whatever has its pictures' sizes. A step is a picture, several
    pictures stacked (`frames_per_step`), or a window of a spectrogram. Stages are strided convolutions with group
    norms, so that samples never meet; tokens end in a layer norm, so that all senses have features of one scale.
    """

    config: StepNetConfig
    base_model_prefix = ""
    main_input_name = "features"

    def __init__(self, config: StepNetConfig) -> None:
        super().__init__(config)
        stages: list[nn.Module] = []
        before = config.channels * config.frames_per_step
        for width, stride in zip(config.widths, config.strides, strict=True):
            convolution = nn.Conv2d(before, width, 3, stride=stride, padding=1)
            stages += [convolution, nn.GroupNorm(config.groups, width), nn.GELU()]
            before = width
        self.stages = nn.Sequential(*stages)
        height, width = config.raster
        pooling = TimePooling(config.parts, config.frequencies) if config.parts else None
        self.pool = pooling or nn.Flatten()
        size = pooling.size(before, height) if pooling else before * height * width
        self.head = nn.Linear(size, before) if config.vector else nn.Identity()
        self.norm = nn.LayerNorm(before, config.layer_norm_eps)
        self.post_init()

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens, the same for every modality."""
        height, width = (1, 1) if self.config.vector else self.config.raster
        return TokenSpec(
            dim=self.config.widths[-1], grid=(1, height, width), layers=0,
            frames_per_step=self.config.frames_per_step,
        )  # fmt: skip

    def encode_tokens(
        self, modality: str, features: Tensor, layer: int = -1, mask: Mask | None = None
    ) -> EncodedTokens:
        """Tokens of every step.

        Args:
            features: `batch channels height width`, or `batch frames channels height width` with a whole number of
                `frames_per_step`.
            layer: -1 or 0, there is one alone.
            mask: which frames are real; all of them if `None`.

        Raises:
            ConfigError: there is no such layer.
            FeatureShapeError: features of another rank or size.
        """
        spec = self.token_spec(modality)
        check_layer(layer, spec.layers, where=modality)
        pictures = self._steps(modality, features)
        batch, steps = pictures.shape[:2]
        maps = self.stages(pictures.flatten(0, 1).to(self.norm.weight.dtype))
        rows = self.head(self.pool(maps)).unsqueeze(1) if self.config.vector else maps.flatten(2).transpose(1, 2)
        tokens = self.norm(rows).unflatten(0, (batch, steps))
        real = real_steps(mask, batch, steps, tokens.device)
        return EncodedTokens(
            tokens=tokens, mask=real, grid=(steps, *spec.grid[1:]), pooled=masked_mean(tokens.mean(dim=2), real)
        )

    def forward(self, features: Tensor, modality: str = "", mask: Mask | None = None) -> EncodedTokens:
        """`encode_tokens`."""
        return self.encode_tokens(modality, features, mask=mask)

    def _steps(self, modality: str, features: Tensor) -> Float[Tensor, "batch steps planes height width"]:
        """Features with the pictures of a step stacked along their channels."""
        config = self.config
        pictures = features.unsqueeze(1) if features.ndim == 4 else features
        wanted = (config.channels, config.height, config.width)
        if pictures.ndim != 5 or tuple(pictures.shape[2:]) != wanted or pictures.shape[1] % config.frames_per_step:
            raise FeatureShapeError(
                f"{modality} features have shape {tuple(features.shape)}, where a frame is {wanted} and a step has "
                f"{config.frames_per_step}", fix="Prepare them with the processor that belongs to this net.",
            )  # fmt: skip
        return cast(Tensor, pictures.unflatten(1, (-1, config.frames_per_step)).flatten(2, 3))


__all__ = ["StepNet"]
