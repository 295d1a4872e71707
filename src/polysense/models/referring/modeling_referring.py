"""A CLIPSeg that is told what to segment by a code sequence, of text or of speech alike (COMET, Table 5).

COMET puts its codes into ReferFormer in place of word features; ReferFormer lives outside transformers and trains for
72 hours. Here every frame goes through CLIPSeg's vision tower and decoder, and the mean of the codes, normalised and
projected, takes the place of the text embedding that conditions the decoder (method-facts 3.7: a linear map, and the
mean as the sentence's feature).
"""

from pathlib import Path
from typing import Self, cast

from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import CLIPSegForImageSegmentation, CLIPSegVisionModel
from transformers.models.clipseg.modeling_clipseg import CLIPSegDecoder

from polysense.errors import FeatureShapeError
from polysense.models.base import PolysenseModel, load_foreign
from polysense.models.referring.configuration_referring import ReferringSegmenterConfig
from polysense.nn.masks import masked_mean


class ReferringSegmenter(PolysenseModel):
    """Frames and a code sequence to a mask per frame."""

    config: ReferringSegmenterConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"

    def __init__(self, config: ReferringSegmenterConfig) -> None:
        super().__init__(config)
        clipseg = config.clipseg
        self.vision = CLIPSegVisionModel(clipseg.vision_config)
        self.decoder = CLIPSegDecoder(clipseg)
        self.norm = nn.LayerNorm(config.code_dim)  # codebooks differ in scale by orders of magnitude
        self.project = nn.Linear(config.code_dim, clipseg.projection_dim)
        self.vision.requires_grad_(config.train_vision)
        self.vision.post_layernorm.requires_grad_(False)  # of the class token, which the decoder does not see
        self.post_init()
        self._begin_conditioned()

    @classmethod
    def from_clipseg(cls, source: str | Path, code_dim: int) -> Self:
        """A published CLIPSeg with a new projection; its vision tower stays as it is.

        Args:
            source: folder or Hub name of a `CLIPSegForImageSegmentation`.
            code_dim: width of the code sequences.

        Raises:
            UnsafeFileError, CheckpointError: see `load_foreign`.
        """
        base = cast(CLIPSegForImageSegmentation, load_foreign(CLIPSegForImageSegmentation, source))
        model = cls(
            ReferringSegmenterConfig(clipseg_config=base.config.to_dict(), code_dim=code_dim, train_vision=False)
        )
        model.vision.load_state_dict(base.clip.vision_model.state_dict())
        model.decoder.load_state_dict(base.decoder.state_dict())
        return model

    def _begin_conditioned(self) -> None:
        """Let the condition matter from the first step: transformers begins with a modulation of nearly zero."""
        for layer in (self.decoder.film_mul, self.decoder.film_add, *self.decoder.reduces, self.project):
            layer.reset_parameters()
        nn.init.ones_(self.decoder.film_mul.bias)

    def forward(
        self,
        pixel_values: Float[Tensor, "batch 3 height width"],
        codes: Float[Tensor, "batch time dim"],
        mask: Bool[Tensor, "batch time"] | None = None,
    ) -> Float[Tensor, "batch height width"]:
        """Logits of every pixel.

        Args:
            pixel_values: one frame each, of the config's image size.
            codes: quantised vectors of what is said, a sequence per frame.
            mask: false where a step of the sequence is padding.

        Raises:
            FeatureShapeError: frames or codes of another size.
        """
        side, dim = self.config.clipseg.vision_config.image_size, self.config.code_dim
        if pixel_values.shape[-2:] != (side, side) or codes.shape[-1] != dim:
            raise FeatureShapeError(
                f"frames of {tuple(pixel_values.shape[-2:])} pixels and codes of width {codes.shape[-1]}",
                fix=f"This head takes {side} x {side} pixels and codes of width {dim}.",
            )
        condition = self.project(self.norm(codes.mean(dim=1) if mask is None else masked_mean(codes, mask)))
        hidden = self.vision(pixel_values, output_hidden_states=True).hidden_states
        layers = tuple(hidden[layer + 1] for layer in self.config.clipseg.extract_layers)
        return cast(Tensor, self.decoder(layers, condition).logits)


__all__ = ["ReferringSegmenter"]
