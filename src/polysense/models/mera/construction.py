"""How a MERA model comes to be: from a LLaVA, from parts, and one sense after another."""

import copy
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import reduce
from pathlib import Path
from typing import Any, Self, cast

import torch
from transformers import AutoModel, LlavaForConditionalGeneration, PreTrainedModel

from polysense.errors import CheckpointError, ConfigError
from polysense.modality import Modality, get_modality
from polysense.models.base import load_encoder, load_foreign
from polysense.models.mera.adapters import MeraAdapters
from polysense.models.mera.building import LanguageModelParts, load_language_model, placeholder_id
from polysense.models.mera.configuration_mera import MeraConfig, MeraSense
from polysense.models.mera.layout import token_layout
from polysense.models.mera.llava import llava_of, parts_of_llava
from polysense.models.mera.tokens import pad_token_id
from polysense.nn.adapter_in_adapter import AdapterOptions, add_path
from polysense.nn.connectors import Connector, QFormerConnector, connector_options
from polysense.nn.starts import named_draws
from polysense.protocols import check_layer

_UNSHAPED = ("num_attention_heads", "hidden_act", "layer_norm_eps")
"""Settings of a BERT that no shape of a weight tells."""


class MeraConstruction:
    """The part of `MeraForConditionalGeneration` that builds and extends it."""

    config: MeraConfig
    model: Any
    lm_head: Any
    generation_config: Any
    named_parameters: Any
    _keep_in_fp32_modules_strict: Any

    @property
    def dtype(self) -> torch.dtype:
        """The widest dtype of the parts that were put together: a checkpoint loads in one, which rounds none of them.

        Parts that are in float32 whatever the rest is do not count.
        """
        masters = set(self._keep_in_fp32_modules_strict)
        own: list[torch.dtype] = [
            each.dtype for name, each in self.named_parameters() if masters.isdisjoint(name.split("."))
        ]
        return reduce(torch.promote_types, own)

    @classmethod
    def from_llava(cls, llava: str | Path | PreTrainedModel) -> Self:
        """Take over a Hugging Face LLaVA as stage 1: the same logits to the last bit.

        Args:
            llava: a `LlavaForConditionalGeneration`, which is copied, or a folder or Hub name (safetensors only).

        Raises:
            UnsafeFileError, CheckpointError: a folder that is unsafe or incomplete.
            ConfigError: features of several layers, a tower of pictures of any size, or another projector than
                LLaVA-1.5's.
        """
        parts = parts_of_llava(llava)
        model = cls._assembled(parts.llm)
        model._learn(parts.sense, parts.connector, parts.encoder)
        return model

    def to_llava(self) -> LlavaForConditionalGeneration:
        """A copy as Hugging Face's LLaVA, with the same logits.

        Raises:
            ConfigError: the model has other senses than images, or an image path that LLaVA does not have.
        """
        return llava_of(self)

    @classmethod
    def from_parts(
        cls,
        llm: str | Path | PreTrainedModel,
        encoders: Mapping[str, Any] | None = None,
        connectors: Mapping[str, Any] | None = None,
        *,
        tokenizer: Any = None,
        layers: Mapping[str, int] | None = None,
        pools: Mapping[str, int] | None = None,
        seed: int = 0,
    ) -> Self:
        """Build on a causal language model.

        Args:
            llm: a model, which is copied, or a folder or Hub name.
            encoders: sense to its encoder, as `add_modality` takes it; the same model or folder serves several senses.
            connectors: sense to its connector; "mlp" where nothing is said.
            tokenizer: gives placeholders their ids and names the padding token.
            layers, pools: sense to the hidden layer (-1 by default) and the pooling (1) of its tokens.
            seed: each connector starts from this seed and its sense's name.

        Raises:
            ConfigError: a head that is more than a matrix, a tokenizer without any token to pad with, or what
                `add_modality` refuses.
        """
        encoders, connectors = dict(encoders or {}), dict(connectors or {})
        layers, pools = dict(layers or {}), dict(pools or {})
        if stray := sorted({*connectors, *layers, *pools} - set(encoders)):
            raise ConfigError(f"the senses {stray} have no encoder", fix="Name one for each under encoders.")
        pad = None if tokenizer is None else pad_token_id(tokenizer)
        model = cls._assembled(load_language_model(llm), pad)
        keys: dict[Any, str] = {}
        for name, encoder in encoders.items():
            same = str(encoder) if isinstance(encoder, str | Path) else id(encoder)
            model.add_modality(
                name, keys.get(same, encoder), connectors.get(name, "mlp"), layer=layers.get(name, -1),
                pool=pools.get(name, 1), seed=seed, tokenizer=tokenizer,
            )  # fmt: skip
            keys.setdefault(same, name)
        return model

    def add_modality(
        self,
        modality: str | Modality,
        encoder: Any,
        connector: str | Mapping[str, Any] = "mlp",
        *,
        layer: int = -1,
        pool: int = 1,
        seed: int = 0,
        token_id: int | None = None,
        tokenizer: Any = None,
    ) -> None:
        """Give the model one more sense: new keys only, so that every older output stays the same to the last bit.

        Args:
            modality: name of a sense that the encoder knows or that is registered, or a spec.
            encoder: the key of an encoder that the model has (the name of the sense it was added with); or a model,
                which is copied, or a folder or Hub name. What is no `ModalityEncoder` is wrapped as an `hf_encoder`.
            connector: kind, or `{"kind": ..., **options}`.
            layer: hidden layer of the encoder whose tokens are used.
            pool: side of the squares of tokens that are averaged before the connector.
            seed: the connector starts from this seed and the sense's name.
            token_id: id of the placeholder `<name>`; by default the tokenizer's, or else the next free one.
            tokenizer: looks up the placeholder's id, or says which ids are taken.

        Raises:
            UnregisteredModalityError: a name that no one registered and the encoder does not know.
            UnknownModalityError: an encoder of several senses lacks this one.
            ConfigError: the model has the sense already, or a part does not fit; nothing has been changed then.
        """
        name = modality.name if isinstance(modality, Modality) else modality
        if name in {*self.config.modalities, "text"}:
            raise ConfigError(f"the model already has the modality {name!r}", fix="Choose another name.")
        known = isinstance(encoder, str) and encoder in self.model.encoders
        if not known and name in self.model.encoders:
            raise ConfigError(f"the model already has an encoder {name!r}", fix="Give that key to use it again.")
        part = self.model.encoders[encoder] if known else load_encoder(encoder)
        if token_id is None:
            senses, vocabulary = self.config.senses.values(), self.config.llm.vocab_size
            token_id = placeholder_id(f"<{name}>", senses, vocabulary, tokenizer)
        sense = MeraSense(
            spec=_spec_of(modality, part).to_dict(), encoder=encoder if known else name,
            connector=connector_options(connector), token=f"<{name}>", token_id=token_id, layer=layer, pool=pool,
        )  # fmt: skip
        with named_draws(f"{seed}/connectors.{name}"):
            built = self.model.new_connector(sense, part)
            built.reset_parameters()
        self._learn(sense, built, part)

    def start_from_bert(self, name: str, bert: str | Path) -> None:
        """Start a sense's Q-Former from BERT's weights, as MERA does (section 5.1); see `QFormerConnector.load_bert`.

        Args:
            bert: folder or Hub name, such as "google-bert/bert-base-uncased".

        Raises:
            UnknownModalityError: the model has not learned the sense.
            ConfigError: its connector is no Q-Former.
            UnsafeFileError, CheckpointError: a folder that is unsafe, or a BERT that does not fit, be it that its
                weights would and what it computes with them is something else; nothing has been changed then.
        """
        self.model.sense(name)
        connector = self.model.connectors[name]
        if not isinstance(connector, QFormerConnector):
            raise ConfigError(
                "only a Q-Former can start from BERT", where=name, fix="Use a connector of kind qformer."
            )
        given = load_foreign(AutoModel, bert, may_lack=r"pooler\..*")
        for setting in _UNSHAPED:
            own, its = (getattr(config, setting, None) for config in (connector.qformer.config, given.config))
            if own != its:
                raise CheckpointError(f"the BERT has {setting} {its}, and the Q-Former {own}", where=str(bert),
                                      fix="Use a BERT that computes as the Q-Former does.")  # fmt: skip
        connector.load_bert(given.state_dict())

    def add_adapters(self, linears: Sequence[str], options: AdapterOptions) -> None:
        """Put PathWeave's adapters beside linears of the language model; the model's outputs stay what they are.

        Args:
            linears: their names within the language model, such as "layers.0.mlp.up_proj".

        Raises:
            ConfigError: there is no such linear, or the model has adapters already; nothing has been changed then.
        """
        adapters = MeraAdapters(linears=tuple(linears), options=options)
        adapters.inject(self.model.language_model)
        self.config.adapters = adapters.to_dict()

    def add_path(self, modality: str, *, seed: int = 0) -> None:
        """Give every adapter the path of one more sense, which trains and is used from now on; older ones freeze.

        Args:
            seed: the path starts from this seed and the sense's name.

        Raises:
            ConfigError: the model has no adapters, or they have this path; nothing has been changed then.
        """
        with named_draws(f"{seed}/paths.{modality}"):
            add_path(self.model.language_model, modality)
        adapters = MeraAdapters.from_dict(self.config.adapters)
        self.config.adapters = replace(adapters, paths=(*adapters.paths, modality)).to_dict()

    def _learn(self, sense: MeraSense, connector: Connector, encoder: PreTrainedModel) -> None:
        """Add a sense whose parts are built, after a last look at whether they fit together."""
        name, spec = sense.modality.name, encoder.token_spec(sense.modality.name)
        check_layer(sense.layer, spec.layers, where=name)
        token_layout(spec, connector, sense.pool, where=name)
        self.config.check_sense(name, sense.to_dict(), {*self.config.encoder_configs, sense.encoder})
        self.config.modalities = {**self.config.modalities, name: sense.to_dict()}
        self.config.encoder_configs = {**self.config.encoder_configs, sense.encoder: encoder.config}
        if sense.encoder not in self.model.encoders:
            self.model.encoders[sense.encoder] = encoder.to(self.model.device).requires_grad_(False).eval()
        self.model.connectors[name] = connector.float().to(self.model.device).train(self.model.training)

    @classmethod
    def _assembled(cls, llm: LanguageModelParts, pad: int | None = None) -> Self:
        """A model without senses around a language model that it may keep."""
        text_config = cast(Any, llm.base.config)
        if pad is not None and text_config.pad_token_id is None:
            if pad >= text_config.vocab_size:
                raise ConfigError(f"the language model has no row for the padding token {pad}", where="tokenizer",
                                  fix="Use a tokenizer whose padding token is in the model's vocabulary.")  # fmt: skip
            text_config.pad_token_id = pad
        attention = text_config._attn_implementation  # which a config around this one would set anew
        with torch.device("meta"):
            model: Any = cls(MeraConfig(text_config=text_config, attn_implementation=attention))  # type: ignore[call-arg]
        model.model.language_model, model.lm_head = llm.base, llm.head
        model.generation_config = copy.deepcopy(llm.generation_config)
        if model.generation_config.pad_token_id is None:
            model.generation_config.pad_token_id = text_config.pad_token_id
        return cast(Self, model.requires_grad_(True).eval())


def _spec_of(modality: str | Modality, encoder: Any) -> Modality:
    """The spec as given, as the encoder knows it, or as it is registered, in that order."""
    if isinstance(modality, Modality):
        return modality
    own = getattr(encoder.config, "senses", {}).get(modality)
    return own if isinstance(own, Modality) else get_modality(modality)
