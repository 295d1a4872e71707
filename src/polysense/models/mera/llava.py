"""MERA's first stage and Hugging Face's LLaVA: the same weights under other names, in both directions."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from transformers import CONFIG_MAPPING, MODEL_MAPPING, LlavaConfig, LlavaForConditionalGeneration, PreTrainedModel

from polysense.errors import ConfigError
from polysense.modality import get_modality
from polysense.models.base import load_foreign
from polysense.models.mera.building import LanguageModelParts
from polysense.models.mera.configuration_mera import MeraSense
from polysense.nn.connectors import Connector, MLPConnector, build_connector

_PACKING = ("pixtral",)


@dataclass(frozen=True)
class LlavaParts:
    """A LLaVA taken apart: language model, wrapped vision tower, projector as connector, and how they belong."""

    llm: LanguageModelParts
    encoder: PreTrainedModel
    connector: Connector
    sense: MeraSense


def parts_of_llava(llava: str | Path | PreTrainedModel) -> LlavaParts:
    """The parts of a LLaVA; one at hand is copied. For errors see `MeraForConditionalGeneration.from_llava`."""
    copied = isinstance(llava, PreTrainedModel)
    model: Any = copy.deepcopy(llava) if copied else load_foreign(LlavaForConditionalGeneration, cast(Any, llava))
    if not isinstance(model, LlavaForConditionalGeneration):
        raise ConfigError(f"a {type(model).__name__} is no LlavaForConditionalGeneration",
                          fix="Give a LLaVA 1.5, or build with from_parts.")  # fmt: skip
    config = model.config
    layers = [each] if isinstance(each := config.vision_feature_layer, int) else list(each)
    if len(layers) != 1:
        raise ConfigError(f"this LLaVA joins the features of layers {layers}",
                          where="vision_feature_layer", fix="Use a LLaVA that takes one layer.")  # fmt: skip
    if (tower := config.vision_config.model_type) in _PACKING:
        raise ConfigError(f"the tower of this LLaVA ({tower}) takes pictures of any size as one sequence",
                          where="vision_config", fix="Use one of pictures of one size, such as CLIP.")  # fmt: skip
    wrapper: Any = MODEL_MAPPING[CONFIG_MAPPING["hf_encoder"]]
    whole = config.vision_feature_select_strategy == "full"
    encoder = wrapper.adopt(model.model.vision_tower, prefix_tokens=0 if whole else 1)
    options = {"activation": config.projector_hidden_act, "bias": config.multimodal_projector_bias}
    projector = model.model.multi_modal_projector
    with torch.device("meta"):
        connector = build_connector("mlp", projector.linear_1.in_features, projector.linear_1.out_features, **options)
    connector.load_state_dict(projector.state_dict(), assign=True)
    sense = MeraSense(
        spec=get_modality("image").to_dict(), encoder="image", connector={"kind": "mlp", **options}, token="<image>",
        token_id=config.image_token_index, layer=layers[0],
    )  # fmt: skip
    base = model.model.language_model
    base.config.tie_word_embeddings = config.tie_word_embeddings
    return LlavaParts(LanguageModelParts(base, model.lm_head, model.generation_config), encoder, connector, sense)


def llava_of(mera: Any) -> LlavaForConditionalGeneration:
    """A LLaVA with copies of a MERA model's weights; for errors see `MeraForConditionalGeneration.to_llava`."""
    senses = mera.config.senses
    if set(senses) != {"image"}:
        raise ConfigError(f"a LLaVA has images only, this model has {sorted(senses)}", where="to_llava",
                          fix="Convert the first stage, before other senses were added.")  # fmt: skip
    if mera.config.adapters is not None:
        raise ConfigError("a LLaVA has no adapters in its language model", where="to_llava",
                          fix="Convert a model that was merged.")  # fmt: skip
    sense, connector = senses["image"], mera.model.connectors["image"]
    encoder = mera.model.encoders[sense.encoder]
    plain = isinstance(connector, MLPConnector) and connector.hidden_dims == (connector.out_dim,)
    kept = getattr(encoder.config, "prefix_tokens", None)
    if not plain or kept not in (0, 1) or encoder.config.model_type != "hf_encoder" or sense.pool != 1:
        raise ConfigError("LLaVA has no such path for images", where="to_llava",
                          fix="Use an hf_encoder, a two-layer mlp as wide as the model, and no pooling.")  # fmt: skip
    options = {"activation": "gelu", "bias": True, **sense.connector}
    config = LlavaConfig(
        vision_config=copy.deepcopy(encoder.base.config), text_config=copy.deepcopy(mera.config.text_config),
        image_token_index=sense.token_id, image_seq_length=mera.token_layout("image").per_step,
        projector_hidden_act=options["activation"], multimodal_projector_bias=options["bias"],
        vision_feature_layer=sense.layer, vision_feature_select_strategy="default" if kept else "full",
        tie_word_embeddings=mera.config.tie_word_embeddings,
    )  # fmt: skip
    with torch.device("meta"):
        llava = LlavaForConditionalGeneration(config)
    copied = copy.deepcopy(
        {"tower": encoder.base, "projector": connector, "body": mera.model.language_model, "head": mera.lm_head}
    )
    llava.model.multi_modal_projector.load_state_dict(copied["projector"].state_dict(), assign=True)
    llava.model.multi_modal_projector.to(mera.device, mera.lm_head.weight.dtype)
    llava.model.vision_tower, llava.model.language_model = copied["tower"], copied["body"]
    llava.lm_head, llava.generation_config = copied["head"], copy.deepcopy(mera.generation_config)
    if sense.token_id >= config.text_config.vocab_size:  # LLaVA looks its placeholder up before it replaces it
        llava.resize_token_embeddings(sense.token_id + 1, mean_resizing=False)
    return cast(LlavaForConditionalGeneration, llava.requires_grad_(True).eval())
