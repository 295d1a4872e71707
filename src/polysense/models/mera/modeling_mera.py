"""MERA: a language model that hears frozen encoders through connectors, one per sense (section 3; method-facts 4.1).

The structure is that of today's Hugging Face LLaVA: `model.language_model` and `lm_head` with the names that tied
weights, LoRA patterns and exports expect; `model.encoders` and `model.connectors` in place of its one tower.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Self, cast

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn
from transformers import AutoModel, GenerationMixin
from transformers.modeling_outputs import CausalLMOutputWithPast
from transformers.utils import ModelOutput
from transformers.utils.deprecation import deprecate_kwarg
from transformers.utils.generic import can_return_tuple

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.base import PolysenseModel, checked_encoder, count_parameters
from polysense.models.mera.adapters import MeraAdapters
from polysense.models.mera.configuration_mera import MeraConfig, MeraSense
from polysense.models.mera.construction import MeraConstruction
from polysense.models.mera.freezing import freezing_table
from polysense.models.mera.inputs import (
    IGNORED,
    SenseInputs,
    check_batch,
    check_decoding,
    check_labels,
    prompt_mask,
    split_inputs,
    within_positions,
)
from polysense.models.mera.layout import TokenLayout, pooled_grid, token_layout
from polysense.models.mera.placeholders import check_counts, exchange, known_ids
from polysense.nn.connectors import Connector, build_connector
from polysense.outputs import EncodedTokens
from polysense.protocols import ModalityEncoder


class MeraPreTrainedModel(PolysenseModel):
    """What the model with and without its head have in common."""

    config: MeraConfig
    base_model_prefix = "model"
    main_input_name = "input_ids"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_flex_attn = True
    _supports_attention_backend = True
    _skip_keys_device_placement = ("cache",)
    _keep_in_fp32_modules_strict = ("connectors", "paths")  # they train at rates that half precision rounds away

    def _init_weights(self, module: nn.Module) -> None:
        super()._init_weights(module)
        if isinstance(module, Connector):
            module.reset_parameters()


class MeraModel(MeraPreTrainedModel):
    """Encoders, connectors and a language model without its head."""

    _keys_to_ignore_on_load_unexpected = (r"^lm_head\.",)

    def __init__(self, config: MeraConfig) -> None:
        super().__init__(config)
        self.encoders = nn.ModuleDict()
        for key, encoder_config in config.encoder_configs.items():
            self.encoders[key] = checked_encoder(AutoModel.from_config(encoder_config), key)
        self.connectors = nn.ModuleDict()
        for name, sense in config.senses.items():
            self.connectors[name] = self.new_connector(sense)
        self.language_model = AutoModel.from_config(config.text_config)
        if config.adapters is not None:
            MeraAdapters.from_dict(config.adapters).inject(self.language_model)
        self.post_init()
        self.encoders.requires_grad_(False)

    def new_connector(self, sense: MeraSense, encoder: Any = None) -> Connector:
        """A connector for a sense whose encoder is `encoder`, or the one that its key names."""
        encoder = self.encoders[sense.encoder] if encoder is None else encoder
        spec = encoder.token_spec(sense.modality.name)
        options = dict(sense.connector)
        return build_connector(options.pop("kind"), spec.dim, self.config.llm.hidden_size, **options)

    def train(self, mode: bool = True) -> Self:
        """As in torch, but encoders are frozen: they never leave the mode in which they evaluate."""
        super().train(mode)
        self.encoders.eval()
        return self

    def get_input_embeddings(self) -> Any:
        return self.language_model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.language_model.set_input_embeddings(value)

    def sense(self, name: str) -> MeraSense:
        """The sense of that name.

        Raises:
            UnknownModalityError: this model has not learned it.
        """
        if name not in self.config.modalities:
            raise UnknownModalityError(name, self.config.modalities)
        return MeraSense(**self.config.modalities[name])

    def token_layout(self, name: str) -> TokenLayout:
        """How many tokens an item of a sense becomes, for processors."""
        sense, encoder = self.sense(name), cast(ModalityEncoder, self.encoders[self.sense(name).encoder])
        return token_layout(encoder.token_spec(name), cast(Connector, self.connectors[name]), sense.pool, where=name)

    # ---- features -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def encode(self, name: str, values: Tensor, mask: Tensor | None = None) -> EncodedTokens:
        """Frozen tokens of one sense, of the chosen layer and pooled: what may be cached, as `{name}_tokens`.

        Args:
            values: features as the processor makes them, one row per item.
            mask: which time steps are real; all of them if `None`.

        Raises:
            UnknownModalityError: this model has not learned the sense.
            FeatureShapeError: features that its encoder cannot take.
        """
        sense = self.sense(name)
        encoder = cast(Any, self.encoders[sense.encoder])
        return pooled_grid(encoder.encode_tokens(name, values, layer=sense.layer, mask=mask), sense.pool)

    def connect(
        self,
        name: str,
        tokens: Float[Tensor, "items time space dim"],
        mask: Bool[Tensor, "items time"] | None = None,
    ) -> list[Float[Tensor, "count width"]]:
        """Tokens of the language model for every item: those of its real time steps, which come first. Raises
        `FeatureShapeError` for tokens of another width, and for a mask without real steps or with padding before them.
        """
        connector, space = cast(Connector, self.connectors[name]), tokens.shape[2]
        if tokens.shape[3] != connector.in_dim:
            raise FeatureShapeError(f"tokens of {name} are {tokens.shape[3]} wide, and their connector takes "
                                    f"{connector.in_dim}", fix="Give what encode returned.")  # fmt: skip
        if mask is None or bool(mask.all()):
            steps, flat_mask = [tokens.shape[1]] * len(tokens), None
        else:
            steps, flat_mask = mask.sum(dim=1).tolist(), mask.repeat_interleave(space, dim=1)
            ordered = torch.arange(mask.shape[1], device=mask.device) < mask.sum(dim=1, keepdim=True)
            if 0 in steps or not torch.equal(mask, ordered):
                raise FeatureShapeError(f"the mask of {name} has an item without real steps, or padding before them",
                                        fix="Use the mask that the processor returned.")  # fmt: skip
        flat, dtype = tokens.flatten(1, 2), self.get_input_embeddings().weight.dtype
        if dtype in (torch.float16, torch.bfloat16):
            # autocast converts by itself; a copy would have another layout, hence other rounding than LLaVA's
            with torch.autocast(flat.device.type, dtype=dtype):
                out = connector(flat, flat_mask)
        else:
            out = connector(flat.to(next(connector.parameters(), flat).dtype), flat_mask)
        return [row[: connector.out_tokens(count * space)] for row, count in zip(out, steps, strict=True)]

    def features(self, name: str, given: SenseInputs) -> list[Float[Tensor, "count width"]]:
        """Tokens of the language model for every item of what was given of a sense."""
        if given.tokens is not None:
            return self.connect(name, given.tokens, given.mask)
        encoded = self.encode(name, cast(Tensor, given.values), given.mask)
        return self.connect(name, cast(Tensor, encoded.tokens), encoded.mask)

    def embed(
        self, input_ids: Int[Tensor, "batch tokens"], given: Mapping[str, SenseInputs], *, begun: bool = False
    ) -> Float[Tensor, "batch tokens width"]:
        """Word vectors, with the features of every sense in the places of its placeholders.

        Args:
            begun: these tokens continue a sequence; a placeholder among them may have been generated.

        Raises:
            FeatureShapeError: placeholders and features do not agree; the message names sample and sense.
            ConfigError: an id is neither of the vocabulary nor a placeholder.
        """
        table = self.get_input_embeddings()
        if begun and not given:
            return cast(Tensor, table(input_ids))
        senses = self.config.senses
        placeholders = [sense.token_id for sense in senses.values()]
        vectors = cast(Tensor, table(known_ids(input_ids, placeholders, table.weight.shape[0])))
        for name, sense in senses.items():
            if begun and name not in given:
                continue
            items = self.features(name, given[name]) if name in given else []
            places = (input_ids == sense.token_id).sum(dim=1).tolist()
            check_counts(places, [len(item) for item in items], modality=name, token=sense.token)
            if items:
                vectors = exchange(vectors, input_ids, sense.token_id, items)
        return vectors

    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        **arguments: Any,
    ) -> ModelOutput:
        """Hidden states of the language model; for inputs and errors see `MeraForConditionalGeneration.forward`."""
        given, options = split_inputs(self.config, arguments)
        if (input_ids is None) == (inputs_embeds is None) or (given and input_ids is None):
            raise ConfigError("give input_ids or inputs_embeds, and with features input_ids", where="MERA's inputs",
                              fix="Call the model with what MeraProcessor returned.")  # fmt: skip
        begun = 0 if cache is None else cache.get_seq_length()
        check_batch(input_ids, inputs_embeds, None if begun else attention_mask)  # which tells of earlier tokens too
        if input_ids is not None:
            inputs_embeds = self.embed(input_ids, given, begun=begun > 0)
        tokens = begun + cast(Tensor, inputs_embeds).shape[1]
        with within_positions(self.config, attention_mask, tokens):
            return cast(ModelOutput, self.language_model(
                attention_mask=attention_mask, position_ids=position_ids, cache=cache,
                inputs_embeds=inputs_embeds, **options,
            ))  # fmt: skip


class MeraForConditionalGeneration(MeraConstruction, MeraPreTrainedModel, GenerationMixin):
    """A language model that answers about everything its encoders take in.

    Encoders are frozen for good; connectors and the language model may train. For what builds and extends it see
    `MeraConstruction`.
    """

    model: MeraModel
    lm_head: nn.Linear

    def __init__(self, config: MeraConfig) -> None:
        super().__init__(config)
        self.model = MeraModel(config)
        self.lm_head = nn.Linear(config.llm.hidden_size, config.llm.vocab_size, bias=False)
        table = self.model.get_input_embeddings()
        place = next(name for name, module in self.model.named_modules() if module is table)
        self._tied_weights_keys = {"lm_head.weight": f"model.{place}.weight"}
        self.post_init()

    def get_input_embeddings(self) -> Any:
        return self.model.get_input_embeddings()

    def set_input_embeddings(self, value: nn.Module) -> None:
        self.model.set_input_embeddings(value)

    def get_output_embeddings(self) -> nn.Module:
        return self.lm_head

    # ---- what there is ------------------------------------------------------------------------------------------

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses, in order of addition (of name, once saved and loaded)."""
        return tuple(self.config.modalities)

    def token_layout(self, name: str) -> TokenLayout:
        """How many tokens an item of a sense becomes, for processors."""
        return self.model.token_layout(name)

    def parameter_table(self) -> dict[str, tuple[int, int]]:
        """(all, trainable) parameters of every part: the language model, each encoder, each connector."""

        def part_of(name: str) -> str:
            pieces = name.split(".")
            return f"{pieces[1][:-1]} {pieces[2]}" if pieces[1] in {"encoders", "connectors"} else "language model"

        return count_parameters(self, part_of)

    def freezing(self, trained: Sequence[str], *, language_model: bool = False) -> dict[str, bool]:
        """The freezing table (pattern to trainable) of a step that trains the connectors of the senses `trained`.

        Args:
            language_model: train the language model too, head included.
        """
        for name in trained:
            self.model.sense(name)
        return freezing_table(trained, language_model=language_model)

    # ---- running ------------------------------------------------------------------------------------------------

    def encode(self, name: str, values: Tensor, mask: Tensor | None = None) -> EncodedTokens:
        """Frozen tokens of one sense, which may be cached and given as `{name}_tokens`; see `MeraModel.encode`."""
        return self.model.encode(name, values, mask)

    @deprecate_kwarg("past_key_values", "5.40.0", new_name="cache")
    @can_return_tuple
    def forward(
        self,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        position_ids: Tensor | None = None,
        cache: Any = None,
        inputs_embeds: Tensor | None = None,
        labels: Tensor | None = None,
        logits_to_keep: int | Tensor = 0,
        **arguments: Any,
    ) -> CausalLMOutputWithPast:
        """Logits of the next token, or the loss of the labels.

        Args:
            input_ids: `batch tokens`, with one placeholder per feature token; see `MeraProcessor`.
            labels: `batch tokens`, -100 where nothing is to be learned. Logits are then computed where there is a
                label and nowhere else, with the loss and gradients of all of them.
            logits_to_keep: how many last positions (or which) logits are returned of; 0 is all of them, or none where
                labels are given.
            **arguments: features: `pixel_values`, `{sense}_values`, with `{sense}_mask` where items differ in length;
                or `{sense}_tokens` as `encode` gives them. Items of a sense are those of the batch in row-major
                order, any number per sample. And the language model's own arguments; `num_items_in_batch` divides
                the loss instead of the number of labels.

        Raises:
            UnknownModalityError: features of a sense that this model has not learned.
            FeatureShapeError: placeholders and features do not agree; the message names sample and sense.
            ConfigError: ids, labels or a mask of another shape, an id or label that the vocabulary lacks, or more
                tokens than the language model has positions.
        """
        items = arguments.pop("num_items_in_batch", None)
        if labels is not None:
            check_labels(labels, inputs_embeds if input_ids is None else input_ids, self.config.llm.vocab_size)
            arguments.setdefault("use_cache", False)
        out = self.model(
            input_ids=input_ids, attention_mask=attention_mask, position_ids=position_ids,
            cache=cache, inputs_embeds=inputs_embeds, **arguments,
        )  # fmt: skip
        hidden = out.last_hidden_state
        wanted = labels is None or isinstance(logits_to_keep, Tensor) or logits_to_keep != 0
        return CausalLMOutputWithPast(
            loss=None if labels is None else self._label_loss(hidden, labels, items),
            logits=self.lm_head(_kept(hidden, logits_to_keep)) if wanted else None,
            cache=out.cache, hidden_states=out.hidden_states, attentions=out.attentions,
        )  # fmt: skip

    def _label_loss(
        self, hidden: Float[Tensor, "batch tokens width"], labels: Int[Tensor, "batch tokens"], items: Any
    ) -> Float[Tensor, ""]:
        """Cross entropy at labelled positions; the head runs nowhere else. Zero where a batch has no label."""
        targets = labels[:, 1:].to(hidden.device)
        labelled = targets != IGNORED
        if not bool(labelled.any()):
            return hidden.sum() * 0.0
        logits = self.lm_head(hidden[:, :-1][labelled])
        return cast(Tensor, self.loss_function(
            logits=logits, labels=None, vocab_size=logits.shape[-1], shift_labels=targets[labelled],
            num_items_in_batch=items,
        ))  # fmt: skip

    @torch.no_grad()
    def generate(
        self,
        inputs: Tensor | None = None,
        *,
        input_ids: Tensor | None = None,
        attention_mask: Tensor | None = None,
        **arguments: Any,
    ) -> Any:
        """Prompts with their continuations, as transformers' `generate` returns them for LLaVA.

        Features are encoded once, whatever the number of beams or returned sequences.

        Args:
            input_ids: `batch tokens`, padded on the left.
            attention_mask: by default every token is real but the padding that a row begins with.
            **arguments: features, as `forward` takes them, and the options of transformers' `generate`.

        Raises:
            ConfigError: prompts padded on the right, a batch without a padding token to end it with, or features and
                a way of decoding that guesses several tokens at once.
            ConfigError, UnknownModalityError, FeatureShapeError: see `forward`.
        """
        ids = input_ids if inputs is None else inputs
        check_batch(ids, mask=attention_mask)
        if ids is None:
            return super().generate(attention_mask=attention_mask, **arguments)
        given, options = split_inputs(self.config, arguments, strict=False)
        own, cache = options.get("generation_config") or self.generation_config, options.get("cache")
        attention_mask = prompt_mask(ids, attention_mask, own, options)
        if given:
            check_decoding(own, options)
        if not given and cache is not None and cache.get_seq_length():  # which has the features of what went before
            return super().generate(ids, attention_mask=attention_mask, **options)
        vectors = self.model.embed(ids, given)
        if not given:
            return super().generate(ids, attention_mask=attention_mask, **options)
        rows = self.get_input_embeddings().weight.shape[0]
        shown = ids.masked_fill(ids >= rows, 0)  # some of generate's options look prompts up in the scores
        out = super().generate(shown, inputs_embeds=vectors, attention_mask=attention_mask, **options)
        sequences = out if isinstance(out, Tensor) else out.sequences
        sequences[:, : ids.shape[1]] = ids.repeat_interleave(len(sequences) // len(ids), dim=0)
        return out


def _kept(hidden: Float[Tensor, "batch tokens width"], keep: int | Tensor) -> Float[Tensor, "batch kept width"]:
    """The last `keep` positions (all of them for 0), or those that a tensor names."""
    return hidden[:, slice(-keep, None) if isinstance(keep, int) else keep]


__all__ = ["MeraForConditionalGeneration", "MeraModel"]
