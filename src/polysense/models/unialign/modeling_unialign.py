"""UniAlign: one frozen CLIP vision tower that encodes every sense through experts of the sense's own (section 3.1)."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from jaxtyping import Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel
from transformers.utils.generic import can_return_tuple

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.modality import Modality, get_modality, specs_of
from polysense.models.base import HUB_ARGUMENTS, PolysenseModel, count_parameters, load_foreign, unknown_input
from polysense.models.unialign.configuration_unialign import OPTIONS, UniAlignConfig, config_on_clip
from polysense.nn.experts import ExpertOptions
from polysense.nn.masks import Mask, attention_mask, masked_mean, real_steps
from polysense.nn.patch_embed import Tokenizer, build_tokenizer
from polysense.nn.starts import reset_own, start_anew
from polysense.nn.transformer import BlockExperts, ExpertTransformer
from polysense.outputs import EncodedTokens, UniAlignOutput
from polysense.protocols import TokenSpec, check_layer, check_not_empty
from polysense.safety import check_keys

_GROW = "Give a CLIP's folder; a UniAlign stage is loaded with from_pretrained, and grows with add_modality."
_GIVE = "Give the processor sources of it too."
_PREPARE = "Prepare them with the processor that was saved with this model."


class UniAlignModel(PolysenseModel):
    """Any Hugging Face CLIP, given new senses.

    Per sense there is one tokenizer and one set of experts beside every block's frozen FFN; text goes through CLIP's
    own text tower unless `unified_text` is set. Only tokenizers and experts train. Implements `ModalityEncoder`.
    """

    config: UniAlignConfig
    base_model_prefix = ""
    main_input_name = "pixel_values"
    supports_gradient_checkpointing = True
    _supports_sdpa = True
    _supports_flash_attn = True
    _supports_attention_backend = True
    _no_split_modules = ("CLIPEncoderLayer",)

    def __init__(self, config: UniAlignConfig) -> None:
        super().__init__(config)
        vision = config.vision
        self.clip = CLIPModel._from_config(config.clip_config)
        self.tokenizers = nn.ModuleDict()
        options = ExpertOptions(
            experts=config.num_experts, rank=config.expert_rank, alpha=float(config.expert_alpha), top_k=config.top_k,
            routing=config.routing, frozen_start=config.expert_init == "svd",
        )  # fmt: skip
        self.experts = ExpertTransformer(
            vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size, config.expert_site, options
        )
        for group in config.groups:
            self.experts.add_group(group)
        if config.unified_text:
            sizes = {"length": config.text.max_position_embeddings, "width": config.text.hidden_size}
            self._add_tokenizer(Modality(name="text", kind="text", tokenizer=sizes))
        for modality in config.senses.values():
            self._add_tokenizer(modality)
        self.post_init()
        self._freeze_base()

    # ---- construction -------------------------------------------------------------------------------------------

    @classmethod
    def from_clip(
        cls,
        clip: str | Path | CLIPModel,
        modalities: Iterable[str | Modality] = (),
        *,
        seed: int = 0,
        **options: Any,
    ) -> Self:
        """Build on a CLIP model.

        Args:
            clip: a `CLIPModel`, or the folder or Hub name of one (safetensors only).
            modalities: names of registered senses, or specs; image and text are always there and need not be named.
            seed: each sense starts from this seed and its own name, so that its start does not depend on the others.
            **options: further fields of `UniAlignConfig`; and where `clip` is a name, `revision`, `token` and the
                other arguments of `from_pretrained` that concern the Hub.

        Raises:
            CheckpointError: the folder holds no CLIP, or one that lacks weights.
            UnregisteredModalityError: a name that no one registered.
            ConfigError: a name that appears twice, a spec that does not fit this encoder, or an option that is
                unknown or unusable.
        """
        specs = specs_of(modalities)
        senses = {spec.name: spec.to_dict() for spec in specs if spec.name not in {"image", "text"}}
        if not isinstance(clip, CLIPModel):
            check_keys(options, (*OPTIONS, *HUB_ARGUMENTS), "from_clip")
            clip = cast(CLIPModel, load_foreign(CLIPModel, clip, hub=options, fix=_GROW))
        model = cls(config_on_clip(clip.config, senses, options, where="from_clip"))
        model.clip.load_state_dict(clip.state_dict())
        for group in model.config.groups:
            model._start_group(group, seed)
        for name in model.tokenizers:
            model._start_tokenizer(name, seed)
        model.unmask_experts()
        return cast(Self, model.to(clip.dtype).eval())

    def add_modality(self, modality: str | Modality, *, seed: int = 0) -> None:
        """Give the model one more sense: new keys only, so that every older output stays the same to the last bit.

        With `routing="global"`, older senses do not see the new experts until `unmask_experts`.

        Raises:
            UnregisteredModalityError: a name that no one registered.
            ConfigError: the model has this sense already, or its spec does not fit this encoder.
        """
        spec = modality if isinstance(modality, Modality) else get_modality(modality)
        if spec.name in self.modalities:
            raise ConfigError(f"the model already has the modality {spec.name!r}", fix="Choose another name.")
        group, known = spec.expert_group, self.config.groups
        self._add_tokenizer(spec)
        self.config.modalities[spec.name] = spec.to_dict()
        if group not in known:
            self.experts.add_group(group)
            self._start_group(group, seed)
            if self.config.routing == "global":
                self.config.visible_groups[group] = sorted([*known, group])
        self._start_tokenizer(spec.name, seed)
        self._freeze_base()
        self.to(device=self.device, dtype=self.dtype)

    def unmask_experts(self, modalities: Iterable[str] | None = None) -> None:
        """Global routing (Eq. 6): let the routers of some senses choose among the experts of every group there is.

        Args:
            modalities: senses that train from now on; all if `None`. The others stay the same to the last bit.

        Raises:
            UnknownModalityError: the model lacks one of them.
        """
        groups = map(self._group_of, self.modalities if modalities is None else modalities)
        if self.config.routing == "global":
            opened = {group: sorted(self.config.groups) for group in groups if group is not None}
            self.config.visible_groups = {**self.config.visible_groups, **opened}

    def _add_tokenizer(self, modality: Modality) -> None:
        vision = self.config.vision
        sizes = (vision.hidden_size, vision.image_size, vision.patch_size)
        self.tokenizers[modality.name] = build_tokenizer(modality, *sizes).train(self.training)

    def _start_group(self, group: str, seed: int) -> None:
        """Draw the initial values of one group's experts and routers, each from its own place and name."""
        own = re.compile(rf".*\.groups\.{group}|.*\.routers\.(\w+\.{group}|{group}\.\w+)")
        for path, part in self.experts.named_modules():
            if own.fullmatch(path):
                start_anew(part, f"{seed}/experts.{path}")
        if self.config.expert_init == "svd":
            for block, experts in zip(self.clip.vision_model.encoder.layers, self.experts.blocks, strict=True):
                cast(BlockExperts, experts).start_from(block.mlp, group)

    def _start_tokenizer(self, name: str, seed: int) -> None:
        """Draw the initial values of one sense's tokenizer from its name, or take CLIP's where the kind says so."""
        tokenizer, embeddings = cast(Tokenizer, self.tokenizers[name]), self.clip.vision_model.embeddings
        start_anew(tokenizer, f"{seed}/tokenizers.{name}")
        if tokenizer.starts_from_image:
            tokenizer.adopt(embeddings.patch_embedding.weight, embeddings.position_embedding.weight[1:])

    def _init_weights(self, module: nn.Module) -> None:
        """Every part of ours starts as torch (or its own `reset_parameters`) starts it; the base has its own rule."""
        reset_own(module)

    def _freeze_base(self) -> None:
        self.clip.requires_grad_(False)
        self.clip.logit_scale.requires_grad_(self.config.train_logit_scale)

    # ---- what there is ------------------------------------------------------------------------------------------

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses: image, text, the others in order of addition (of name, once saved and loaded)."""
        return ("image", "text", *self.config.modalities)

    def _group_of(self, modality: str) -> str | None:
        """Expert group of a sense; `None` where the frozen base encodes it alone."""
        if modality not in self.modalities:
            raise UnknownModalityError(modality, self.modalities)
        if modality in {"image", "text"}:
            own = self.config.image_experts if modality == "image" else self.config.unified_text
            return modality if own else None
        return Modality.from_dict(self.config.modalities[modality]).expert_group

    def _keys(self, modality: str) -> tuple[str, str]:
        """Keys of a sense's features and mask."""
        spec = self.config.modalities.get(modality)
        sense = Modality.from_dict(spec) if spec else Modality(name=modality, kind="grid")
        return sense.values_key, sense.mask_key

    def parameter_table(self) -> dict[str, tuple[int, int]]:
        """(all, trainable) parameters of every part: the base, and tokenizer and experts of each sense."""

        def part_of(name: str) -> str:
            pieces = name.split(".")
            if pieces[0] == "clip":
                return "base"
            if pieces[0] == "tokenizers":
                return f"tokenizer {pieces[1]}"
            return f"experts {pieces[pieces.index('groups' if 'groups' in pieces else 'routers') + 1]}"

        return count_parameters(self, part_of)

    def freezing(self, trained: Sequence[str]) -> dict[str, bool]:
        """The freezing table (pattern to trainable) of a stage that trains the senses `trained` and nothing else."""
        table = {r".*": False}
        for name in trained:
            group = self._group_of(name)
            if name in self.tokenizers:
                table[rf"tokenizers\.{name}\..*"] = True
            if group is not None:
                table[rf"experts\..*\.(groups|routers)\.{group}\..*"] = True
        if self.config.train_logit_scale:
            table[r"clip\.logit_scale"] = True
        return table

    @property
    def logit_scale(self) -> Float[Tensor, ""]:
        """The factor on cosines, exponentiated and no larger than CLIP's own limit of 100."""
        return cast(Tensor, self.clip.logit_scale).exp().clamp(max=100.0)

    # ---- encoding -----------------------------------------------------------------------------------------------

    def token_spec(self, modality: str) -> TokenSpec:
        """Shape of the tokens of `modality`.

        Raises:
            UnknownModalityError: the model lacks it.
            ConfigError: text that does not go through the shared encoder.
        """
        self._group_of(modality)
        vision = self.config.vision
        side, tubelet = vision.image_size // vision.patch_size, 1
        if modality in self.tokenizers:
            tokenizer = cast(Tokenizer, self.tokenizers[modality])
            grid, tubelet = tokenizer.grid, tokenizer.tubelet
        elif modality == "text":
            raise ConfigError("text has no tokens of the shared encoder", where="token_spec",
                              fix="Build the model with unified_text=True, or use embed('text', ...).")  # fmt: skip
        else:
            grid = (1, side, side)
        return TokenSpec(dim=vision.hidden_size, grid=grid, layers=vision.num_hidden_layers, frames_per_step=tubelet)

    def _check_text(self, ids: Tensor, mask: Mask | None) -> None:
        """Refuse what CLIP's text tower would fail on, or take for other texts than were meant."""
        check_not_empty(ids, where="text")
        sizes = self.config.text
        shape, longest = tuple(ids.shape), sizes.max_position_embeddings
        what = ""
        if ids.ndim != 2 or shape[1] > longest:
            what = f"have shape {shape}, expected (batch, length) of at most {longest} tokens"
        elif (
            ids.dtype not in (torch.int64, torch.int32) or not 0 <= int(ids.min()) <= int(ids.max()) < sizes.vocab_size
        ):
            what = f"are no whole numbers from 0 to {sizes.vocab_size - 1}"
        elif mask is not None and mask.shape != ids.shape:
            what = f"have shape {shape}, and their mask {tuple(mask.shape)}"
        if what:
            raise FeatureShapeError(f"text features {what}", fix=_PREPARE)

    def _image_sequence(self, pixels: Tensor) -> Float[Tensor, "batch tokens dim"]:
        if not pixels.is_floating_point():  # which CLIP would take, raw and unscaled
            raise FeatureShapeError(f"image features are {pixels.dtype}, not floating point", fix=_PREPARE)
        try:
            return cast(Tensor, self.clip.vision_model.embeddings(pixels))
        except (ValueError, RuntimeError) as error:
            raise FeatureShapeError(
                f"image features have shape {tuple(pixels.shape)}, which this encoder cannot take ({error})",
                fix=_PREPARE,
            ) from error

    def _sequence(
        self, modality: str, features: Tensor, mask: Mask | None = None
    ) -> tuple[Float[Tensor, "rows tokens dim"], int]:
        """Class token and tokens of every time step as a row of its own, and the number of time steps."""
        if modality == "image":
            return self._image_sequence(features), 1
        if modality == "text":
            self._check_text(features, mask)
            vectors = self.clip.text_model.embeddings.token_embedding.weight
            tokens = self.tokenizers["text"](features, vectors)
        else:
            tokens = self.tokenizers[modality](features)
        embeddings = self.clip.vision_model.embeddings
        first = embeddings.class_embedding + embeddings.position_embedding.weight[0]
        rows = tokens.flatten(0, 1)
        return torch.cat([first.expand(len(rows), 1, -1), rows], dim=1), tokens.shape[1]

    def _run(
        self, rows: Tensor, group: str | None, *, layers: int | None = None, attention_mask: Tensor | None = None
    ) -> Float[Tensor, "rows tokens dim"]:
        vision = self.clip.vision_model
        visible = self.config.visible_groups.get(group) if group is not None else None
        return cast(Tensor, self.experts(
            vision.encoder, vision.pre_layrnorm(rows), group, visible=visible, attention_mask=attention_mask,
            layers=layers,
        ))  # fmt: skip

    def encode_tokens(
        self,
        modality: str,
        features: Tensor,
        layer: int = -1,
        mask: Mask | None = None,
    ) -> EncodedTokens:
        """Tokens of one sense after block `layer` (-1: the last, 0: before the first).

        Args:
            features: as the processor gives them; see the layout of the sense's tokenizer.
            mask: which time steps are real (which tokens, for text); all of them if `None`.

        Raises:
            UnknownModalityError: the model lacks this sense.
            ConfigError: text that does not go through the shared encoder, or a layer that there is not.
            FeatureShapeError: features of another rank or size, or of no sample.
        """
        check_not_empty(features, where=modality)
        group, depth = self._group_of(modality), self.config.vision.num_hidden_layers
        check_layer(layer, depth, where=modality)
        grid = self.token_spec(modality).grid
        rows, steps = self._sequence(modality, features, mask)
        attention = attention_mask(mask, rows) if modality == "text" and mask is not None else None
        hidden = self._run(rows, group, layers=layer % (depth + 1), attention_mask=attention)
        real = real_steps(None if modality == "text" else mask, len(features), steps, hidden.device)
        pooled = masked_mean(self.clip.vision_model.post_layernorm(hidden[:, 0]).unflatten(0, (-1, steps)), real)
        tokens = hidden[:, 1:].unflatten(0, (-1, steps))
        height, width = grid[1:] if modality != "text" else (1, tokens.shape[2])  # texts end where the batch's do
        return EncodedTokens(tokens=tokens, mask=real, grid=(steps, height, width), pooled=pooled)

    def embed(
        self, modality: str, features: Tensor | Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Float[Tensor, "batch embed"]:
        """Unit vectors of one sense in the shared space.

        Args:
            features: a tensor, or what the processor returned, of which this sense's entries are used.

        Raises:
            UnknownModalityError: the model lacks this sense, or the mapping has no features of it.
            FeatureShapeError: see `encode_tokens`.
        """
        self._group_of(modality)
        if isinstance(features, Mapping):
            values_key, mask_key = self._keys(modality)
            if values_key not in features:
                raise UnknownModalityError(modality, features, where="features", fix=_GIVE)
            mask = features.get(mask_key, mask)
            features = features[values_key]
        if modality == "text" and not self.config.unified_text:
            self._check_text(features, mask)
            return F.normalize(self.clip.get_text_features(features, attention_mask=mask).pooler_output, dim=-1)
        pooled = self.encode_tokens(modality, features, mask=mask).pooled
        embedding = F.normalize(self.clip.visual_projection(pooled), dim=-1)
        if modality in self.config.image_tokenized:
            embedding = F.normalize(embedding + self._embed_as_image(modality, features), dim=-1)
        return embedding

    def _embed_as_image(self, modality: str, values: Tensor) -> Float[Tensor, "batch embed"]:
        """The sense's picture through the image tokenizer, its channel repeated three times (Table 3, starred row)."""
        if values.ndim != 4 or values.shape[1] not in {1, 3}:
            raise FeatureShapeError(
                f"{modality} features of shape {tuple(values.shape)} cannot pass for an image",
                fix="image_tokenized takes senses of kind grid with one or three channels.",
            )
        rows = self._image_sequence(values.expand(-1, 3, -1, -1))
        pooled = self.clip.vision_model.post_layernorm(self._run(rows, self._group_of(modality))[:, 0])
        return F.normalize(self.clip.visual_projection(pooled), dim=-1)

    @can_return_tuple
    def forward(self, **features: Tensor) -> UniAlignOutput:
        """Embed what is given: `pixel_values`, `input_ids` with `attention_mask`, `{modality}_values` with `_mask`.

        Raises:
            UnknownModalityError: features of a sense that this model lacks.
            ConfigError: a key that is no input.
            FeatureShapeError: see `encode_tokens`.
        """
        names = {modality: self._keys(modality) for modality in self.modalities}
        known = {key for pair in names.values() for key in pair}
        if unknown := sorted(set(features) - known):
            raise unknown_input(unknown[0], known, self.modalities, where="forward")
        given = {name: keys for name, keys in names.items() if keys[0] in features}
        embeddings = {
            name: self.embed(name, features[values], features.get(mask)) for name, (values, mask) in given.items()
        }
        return UniAlignOutput(embeddings=embeddings, logit_scale=self.logit_scale)


__all__ = ["UniAlignModel"]
