"""Any Hugging Face encoder as a `ModalityEncoder`."""

import copy
from pathlib import Path
from typing import Any, Self, cast

import torch
from torch import Tensor
from transformers import AutoModel, PreTrainedModel

from polysense.errors import ConfigError, FeatureShapeError
from polysense.models.base import PolysenseModel, load_foreign
from polysense.models.encoders.configuration_hf_encoder import HFEncoderConfig, prefix_tokens_of
from polysense.nn.masks import Mask, masked_mean, real_steps
from polysense.outputs import EncodedTokens
from polysense.protocols import TokenSpec, check_layer

_PREPARE = "Prepare them with the processor that belongs to this encoder."


class HFEncoder(PolysenseModel):
    """Adapter of an `AutoModel`: hidden states as tokens, prefix tokens dropped, a time axis folded into the batch.

    It takes every modality name: what it encodes is whatever its base takes. Implements `ModalityEncoder`.
    """

    config: HFEncoderConfig
    base_model_prefix = ""
    main_input_name = "features"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True

    def __init__(self, config: HFEncoderConfig) -> None:
        super().__init__(config)
        self.base = AutoModel.from_config(config.base_config)
        self.post_init()

    @classmethod
    def from_model(cls, model: PreTrainedModel, **options: Any) -> Self:
        """Wrap a copy of a model; of one with a vision tower (CLIP, SigLIP), that tower.

        Args:
            options: fields of `HFEncoderConfig`; the number of prefix tokens is known for the common types.

        Raises:
            ConfigError: a raster that the config does not tell, options that do not fit, or a model that is not what
                `AutoModel` builds from its config, so that it could not be loaded again.
        """
        return cls.adopt(copy.deepcopy(_tower(model)), **options)

    @classmethod
    def from_base(cls, folder: str | Path, **options: Any) -> Self:
        """Wrap a model from a folder or the Hub (safetensors only); for `options` see `from_model`.

        Raises:
            UnsafeFileError: a pickle, code or an escaping path, before anything is read.
            CheckpointError: weights that the model needs are missing.
        """
        return cls.adopt(_tower(load_foreign(AutoModel, folder, may_lack=r"pooler\..*")), **options)

    @classmethod
    def adopt(cls, model: PreTrainedModel, **options: Any) -> Self:
        """Wrap a model that is the caller's to give away, without copying it; for `options` see `from_model`."""
        known: dict[str, Any] = {"prefix_tokens": prefix_tokens_of(model.config)}
        if model.config.model_type == "audio-spectrogram-transformer":
            known["layout"] = "spectrogram"
        attention = model.config._attn_implementation  # which a config around this one would set anew
        with torch.device("meta"):
            encoder = cls(
                HFEncoderConfig(base_config=model.config, attn_implementation=attention, **{**known, **options})
            )
        if differing := set(encoder.base.state_dict()) ^ set(model.state_dict()):
            raise ConfigError(
                f"this {type(model).__name__} is not what AutoModel builds from its config: {len(differing)} weights "
                f"differ, such as {min(differing)}", where=model.config.model_type,
                fix="Give a whole model, as AutoModel builds it.",
            )  # fmt: skip
        encoder.base = model
        return cast(Self, encoder.eval())

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens, the same for every modality."""
        base, (height, width) = self.config.base, self.config.token_grid
        return TokenSpec(dim=base.hidden_size, grid=(1, height, width), layers=base.num_hidden_layers)

    def encode_tokens(
        self, modality: str, features: Tensor, layer: int = -1, mask: Mask | None = None
    ) -> EncodedTokens:
        """Tokens after hidden layer `layer` (-1: the last, 0: the embeddings), as transformers counts hidden states.

        Args:
            features: `batch *sample`, or `batch time *sample`.
            mask: which time steps are real; all of them if `None`.

        Raises:
            ConfigError: there is no such layer.
            FeatureShapeError: features of another rank or size.
        """
        spec = self.token_spec(modality)
        check_layer(layer, spec.layers, where=modality)
        rows, steps = self._rows(modality, features)
        try:
            out = self.base(**{self.base.main_input_name: rows}, output_hidden_states=True)
        except (ValueError, RuntimeError, IndexError) as error:
            raise _misfit(modality, features, f"which this encoder cannot take ({error})") from error
        tokens = out.hidden_states[layer][:, self.config.prefix_tokens :]
        if tokens.ndim != 3 or tokens.shape[1] != spec.grid[1] * spec.grid[2]:
            raise _misfit(modality, features, f"which give tokens of shape {tuple(tokens.shape[1:])}, not {spec.grid}",
                          _PREPARE.removesuffix(".") + ", or tell prefix_tokens and grid of it.")  # fmt: skip
        real = real_steps(mask, len(features), steps, tokens.device)
        pooled = masked_mean(self._pooled(out, spec.dim).unflatten(0, (-1, steps)), real)
        return EncodedTokens(
            tokens=tokens.unflatten(0, (-1, steps)), mask=real, grid=(steps, *spec.grid[1:]), pooled=pooled
        )

    def forward(self, features: Tensor, modality: str = "image", mask: Mask | None = None) -> EncodedTokens:
        """`encode_tokens` of the last layer."""
        return self.encode_tokens(modality, features, mask=mask)

    def _rows(self, modality: str, features: Tensor) -> tuple[Tensor, int]:
        """Samples as the base takes them, time folded into the batch, and the number of time steps."""
        rank = self.config.feature_rank
        if features.ndim not in (rank + 1, rank + 2):
            raise _misfit(modality, features, f"where a sample has {rank} axes, or one more for time")
        steps = features.shape[1] if features.ndim == rank + 2 else 1
        rows = features.flatten(0, 1) if features.ndim == rank + 2 else features
        if self.config.layout == "spectrogram":
            if rows.shape[1] != 1:
                raise _misfit(modality, features, "where a spectrogram has one channel")
            rows = rows.squeeze(1).transpose(1, 2)
        return rows.to(self.base.dtype), steps

    def _pooled(self, out: Any, dim: int) -> Tensor:
        """The base's own pooled vector; its first token, or the mean of all, where it has none."""
        pooled = out.get("pooler_output")
        if pooled is not None and pooled.shape[-1] == dim:
            return cast(Tensor, pooled)
        last = out.last_hidden_state
        return cast(Tensor, last[:, 0] if prefix_tokens_of(self.config.base) else last.mean(dim=1))


def _tower(model: PreTrainedModel) -> PreTrainedModel:
    tower = getattr(model, "vision_model", None)
    return tower if isinstance(tower, PreTrainedModel) else model


def _misfit(modality: str, features: Tensor, why: str, fix: str = _PREPARE) -> FeatureShapeError:
    return FeatureShapeError(f"{modality} features have shape {tuple(features.shape)}, {why}", fix=fix)


__all__ = ["HFEncoder"]
