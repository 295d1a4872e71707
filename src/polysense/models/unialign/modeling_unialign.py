"""UniAlign: one frozen CLIP vision tower that encodes every sense through experts of the sense's own (section 3.1)."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Self, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import CLIPModel

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.modality import Modality, get_modality
from polysense.models.base import PolysenseModel, local_folder
from polysense.models.unialign.configuration_unialign import UniAlignConfig
from polysense.nn.experts import ExpertSite
from polysense.nn.patch_embed import Tokenizer, build_tokenizer
from polysense.nn.transformer import BlockExperts, ExpertTransformer
from polysense.outputs import EncodedTokens, UniAlignOutput
from polysense.protocols import TokenSpec


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
        vision = config.clip_config.vision_config
        self.clip = CLIPModel._from_config(config.clip_config)
        self.tokenizers = nn.ModuleDict()
        self.experts = ExpertTransformer(
            vision.num_hidden_layers, vision.hidden_size, vision.intermediate_size,
            place=config.expert_site, experts=config.num_experts, rank=config.expert_rank, alpha=config.expert_alpha,
            top_k=config.top_k, routing=config.routing, frozen_start=config.expert_init == "svd",
        )  # fmt: skip
        if config.image_experts:
            self._add_group("image")
        if config.unified_text:
            text = config.clip_config.text_config
            options = {"length": text.max_position_embeddings, "width": text.hidden_size}
            self._add_parts(Modality(name="text", kind="text", tokenizer=options))
        for modality in config.senses.values():
            self._add_parts(modality)
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
        **config: Any,
    ) -> Self:
        """Build on a CLIP model.

        Args:
            clip: a `CLIPModel`, or the folder or Hub name of one (safetensors only).
            modalities: names of registered senses, or specs; image and text are always there and need not be named.
            seed: each sense starts from this seed and its own name, so that its start does not depend on the others.
            **config: further fields of `UniAlignConfig`.

        Raises:
            UnregisteredModalityError: a name that no one registered.
        """
        specs = [each if isinstance(each, Modality) else get_modality(each) for each in modalities]
        specs = [spec for spec in specs if spec.name not in {"image", "text"}]
        if not isinstance(clip, CLIPModel):
            clip = CLIPModel.from_pretrained(local_folder(clip, {}), use_safetensors=True)
        model = cls(UniAlignConfig(clip_config=clip.config, **config))
        model.clip.load_state_dict(clip.state_dict())
        for group in model._groups():
            model._start_group(group, seed)
        for spec in specs:
            model.add_modality(spec, seed=seed)
        if model.config.routing == "global":
            model.unmask_experts()
        return cast(Self, model.to(clip.dtype).eval())

    def add_modality(self, modality: str | Modality, *, seed: int = 0) -> None:
        """Give the model one more sense: new keys only, so that every older output stays the same to the last bit.

        (With `routing="global"` older senses do not see the new experts until `unmask_experts`; their outputs stay
        the same up to the order of additions.)

        Raises:
            UnregisteredModalityError: a name that no one registered.
            ConfigError: the model has this sense already, or its spec does not fit this encoder.
        """
        spec = modality if isinstance(modality, Modality) else get_modality(modality)
        if spec.name in self.modalities:
            raise ConfigError(f"the model already has the modality {spec.name!r}", fix="Give the new sense a new name.")
        group, known = spec.expert_group, self._groups()
        self._add_parts(spec)
        self.config.modalities[spec.name] = spec.to_dict()
        if group not in known:
            self._start_group(group, seed)
            if self.config.routing == "global":
                self.config.visible_groups[group] = sorted([*known, group])
        self._start_tokenizer(spec.name, seed)
        self._freeze_base()
        self.to(device=self.device, dtype=self.dtype)

    def unmask_experts(self) -> None:
        """Global routing: let every router choose among the experts of every group, later ones included."""
        self.config.visible_groups = {group: sorted(self._groups()) for group in self._groups()}

    def _add_parts(self, modality: Modality) -> None:
        vision = self.config.clip_config.vision_config
        self.tokenizers[modality.name] = build_tokenizer(
            modality, vision.hidden_size, vision.image_size, vision.patch_size
        )
        self._add_group(modality.expert_group)

    def _add_group(self, group: str) -> None:
        if group not in self._groups():
            self.experts.add_group(group)

    def _groups(self) -> list[str]:
        first = cast(BlockExperts, self.experts.blocks[0])
        return list(cast(ExpertSite, next(iter(first.sites.values()))).groups)

    def _start_group(self, group: str, seed: int) -> None:
        """Draw the initial values of one group's experts and routers from the group's own name."""
        own = re.compile(rf".*\.(groups|routers)(\.\w+)?\.{group}")
        _reset((part for path, part in self.experts.named_modules() if own.fullmatch(path)), f"{seed}/experts/{group}")
        if self.config.expert_init == "svd":
            for block, experts in zip(self.clip.vision_model.encoder.layers, self.experts.blocks, strict=True):
                cast(BlockExperts, experts).start_from(block.mlp, group)

    def _start_tokenizer(self, name: str, seed: int) -> None:
        """Draw the initial values of one sense's tokenizer from its own name, or take CLIP's where the kind says so."""
        tokenizer, embeddings = cast(Tokenizer, self.tokenizers[name]), self.clip.vision_model.embeddings
        _reset([tokenizer], f"{seed}/tokenizer/{name}")
        if tokenizer.starts_from_image:
            tokenizer.adopt(embeddings.patch_embedding.weight, embeddings.position_embedding.weight[1:])

    def _init_weights(self, module: nn.Module) -> None:
        """Every part of ours starts as torch (or its own `reset_parameters`) starts it; the base has its own rule."""
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()

    def _freeze_base(self) -> None:
        self.clip.requires_grad_(False)
        self.clip.logit_scale.requires_grad_(self.config.train_logit_scale)

    # ---- what there is ------------------------------------------------------------------------------------------

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses, image and text first, then in order of addition."""
        return ("image", "text", *self.config.modalities)

    def _group_of(self, modality: str) -> str | None:
        """Expert group of a sense; `None` where the frozen base encodes it alone."""
        if modality not in self.modalities:
            raise UnknownModalityError(modality, self.modalities)
        if modality in {"image", "text"}:
            own = self.config.image_experts if modality == "image" else self.config.unified_text
            return modality if own else None
        return self.config.senses[modality].expert_group

    def parameter_table(self) -> dict[str, tuple[int, int]]:
        """(all, trainable) parameters of every part: the base, and tokenizer and experts of each sense."""
        table: dict[str, tuple[int, int]] = {}
        for name, parameter in self.named_parameters():
            pieces = name.split(".")
            if pieces[0] == "clip":
                part = "base"
            elif pieces[0] == "tokenizers":
                part = f"tokenizer {pieces[1]}"
            else:
                part = f"experts {pieces[pieces.index('groups' if 'groups' in pieces else 'routers') + 1]}"
            total, trainable = table.get(part, (0, 0))
            size = parameter.numel()
            table[part] = (total + size, trainable + size * parameter.requires_grad)
        return table

    def freezing(self, trained: Sequence[str]) -> dict[str, bool]:
        """The freezing table (pattern to trainable) of a stage that trains the senses `trained` and nothing else."""
        table = {r".*": False}
        for name in trained:
            group = self._group_of(name)
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
        """Shape of the tokens of `modality`."""
        self._group_of(modality)
        vision = self.config.clip_config.vision_config
        side = vision.image_size // vision.patch_size
        if modality in self.tokenizers:
            grid = cast(Tokenizer, self.tokenizers[modality]).grid
        elif modality == "text":
            raise ConfigError("text has no tokens of the shared encoder", where="token_spec",
                              fix="Build the model with unified_text=True, or use embed('text', ...).")  # fmt: skip
        else:
            grid = (1, side, side)
        return TokenSpec(dim=vision.hidden_size, grid=grid, layers=vision.num_hidden_layers)

    def _image_sequence(self, pixels: Float[Tensor, "batch 3 height width"]) -> Float[Tensor, "batch tokens dim"]:
        try:
            return cast(Tensor, self.clip.vision_model.embeddings(pixels))
        except (ValueError, RuntimeError) as error:
            raise FeatureShapeError(
                f"image features have shape {tuple(pixels.shape)}, which this encoder cannot take ({error})",
                fix="Prepare them with the processor that was saved with this model.",
            ) from error

    def _sequence(self, modality: str, features: Tensor) -> tuple[Float[Tensor, "rows tokens dim"], int]:
        """Class token and tokens of every time step as a row of its own, and the number of time steps."""
        if modality == "image":
            return self._image_sequence(features), 1
        if modality == "text":
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
        mask: Bool[Tensor, "batch steps"] | None = None,
    ) -> EncodedTokens:
        """Tokens of one sense after block `layer` (-1: the last, 0: before the first).

        Args:
            features: as the processor gives them; see the layout of the sense's tokenizer.
            mask: which time steps are real (which tokens, for text); all of them if `None`.

        Raises:
            UnknownModalityError: the model lacks this sense.
            FeatureShapeError: features of another rank or size.
        """
        group, depth = self._group_of(modality), self.config.clip_config.vision_config.num_hidden_layers
        if not -depth - 1 <= layer <= depth:
            raise ConfigError(f"there is no layer {layer}", where=modality, fix=f"Use -1, or 0 to {depth}.")
        grid = self.token_spec(modality).grid
        rows, steps = self._sequence(modality, features)
        attention = _key_mask(mask, rows) if modality == "text" and mask is not None else None
        hidden = self._run(rows, group, layers=layer % (depth + 1), attention_mask=attention)
        real = _real_steps(None if modality == "text" else mask, len(features), steps, hidden.device)
        pooled = _masked_mean(self.clip.vision_model.post_layernorm(hidden[:, 0]).unflatten(0, (-1, steps)), real)
        tokens = hidden[:, 1:].unflatten(0, (-1, steps))
        return EncodedTokens(tokens=tokens, mask=real, grid=(steps, *grid[1:]), pooled=pooled)

    def embed(
        self, modality: str, features: Tensor | Mapping[str, Tensor], mask: Tensor | None = None
    ) -> Float[Tensor, "batch embed"]:
        """Unit vectors of one sense in the shared space.

        Args:
            features: a tensor, or what the processor returned, of which this sense's entries are used.

        Raises:
            UnknownModalityError: the model lacks this sense, or the mapping has no features of it.
        """
        self._group_of(modality)
        if isinstance(features, Mapping):
            names = _names(modality, self.config.senses)
            if names[0] not in features:
                raise UnknownModalityError(modality, features.keys(), where="features")
            features, mask = features[names[0]], features.get(names[1], mask)
        if modality == "text" and not self.config.unified_text:
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

    def forward(self, **features: Tensor) -> UniAlignOutput:
        """Embed whatever is given: `pixel_values`, `input_ids` with `attention_mask`, `{modality}_values` with `_mask`.

        Raises:
            UnknownModalityError: a key of no sense of this model.
        """
        names = {modality: _names(modality, self.config.senses) for modality in self.modalities}
        known = {key for pair in names.values() for key in pair}
        if unknown := sorted(set(features) - known - {"return_dict"}):
            raise UnknownModalityError(unknown[0], sorted(known), where="forward")
        given = {name: keys for name, keys in names.items() if keys[0] in features}
        embeddings = {
            name: self.embed(name, features[values], features.get(mask)) for name, (values, mask) in given.items()
        }
        return UniAlignOutput(embeddings=embeddings, logit_scale=self.logit_scale)


@torch.no_grad()
def _reset(parts: Iterable[nn.Module], key: str) -> None:
    """Start `parts` anew from random numbers that depend on `key` alone."""
    seed = int.from_bytes(hashlib.sha256(key.encode()).digest()[:8], "little") >> 1
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        for part in parts:
            for module in part.modules():
                if hasattr(module, "reset_parameters"):
                    module.reset_parameters()


def _names(modality: str, senses: Mapping[str, Modality]) -> tuple[str, str]:
    """Keys of a sense's features and mask."""
    spec = senses.get(modality) or Modality(name=modality, kind="grid")
    return spec.values_key, spec.mask_key


def _key_mask(mask: Tensor, rows: Tensor) -> Float[Tensor, "batch 1 tokens tokens"]:
    """Additive mask that hides padding tokens; the class token is always seen."""
    seen = F.pad(mask.bool(), (1, 0), value=True)[:, None, None, :].expand(-1, 1, rows.shape[1], -1)
    return torch.zeros(seen.shape, dtype=rows.dtype, device=rows.device).masked_fill(
        ~seen, torch.finfo(rows.dtype).min
    )


def _real_steps(mask: Tensor | None, batch: int, steps: int, device: torch.device) -> Bool[Tensor, "batch steps"]:
    if mask is None:
        return torch.ones(batch, steps, dtype=torch.bool, device=device)
    if mask.shape[0] != batch or mask.shape[1] % steps:
        raise FeatureShapeError(f"a mask of shape {tuple(mask.shape)} does not fit {batch} samples of {steps} steps",
                                fix="Use the mask that the processor returned with the features.")  # fmt: skip
    return mask.bool().unflatten(1, (steps, -1)).any(dim=-1)  # a tubelet is real if any of its frames is


def _masked_mean(
    values: Float[Tensor, "batch steps dim"], mask: Bool[Tensor, "batch steps"]
) -> Float[Tensor, "batch dim"]:
    if values.shape[1] == 1:
        return values[:, 0]
    weights = mask.to(values.dtype)
    return (values * weights.unsqueeze(-1)).sum(dim=1) / weights.sum(dim=1, keepdim=True).clamp(min=1)


__all__ = ["UniAlignModel"]
