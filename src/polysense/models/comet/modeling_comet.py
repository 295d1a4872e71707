"""COMET: one discrete codebook for all senses, which grows as they are added (CMG, section 3; COMET, section 3)."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Self, cast

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from transformers import AutoModel

from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.modality import listed
from polysense.models.base import PolysenseModel, Source, checked_encoder, load_encoder
from polysense.models.comet.configuration_comet import CometConfig, CometSense, sense_values
from polysense.nn.alignment import cross_attention
from polysense.nn.codebook import Codebook, CodebookOutput, Masks, real_masks
from polysense.nn.codebook_growth import grow
from polysense.nn.common_specific import CommonSpecificExperts
from polysense.nn.gaussian import GaussianApproximation
from polysense.nn.masks import MaskLike, step_mask, zero_padding
from polysense.nn.prediction import ContextPredictor
from polysense.nn.sequence_encoder import Decoder, MapDecoder, MapSpecificEncoder, SemanticEncoder, SpecificEncoder
from polysense.nn.snapshot import Snapshot
from polysense.nn.starts import named_draws, reset_own, start_anew
from polysense.outputs import CometEncoding

_PARTS = ("semantic", "specific", "decoders", "contexts", "approximations")


@dataclass(frozen=True)
class CometOutput:
    """Everything that the training objectives need of one batch of aligned sequences; all dictionaries by sense.

    Attributes:
        continuous: `batch time dim`, semantic features after the adapter.
        gates: `batch time experts`; empty without an adapter.
        codebook: what the codebook made of `continuous`.
        quantized: `batch time dim`, what the decoders got: codes straight-through, or mixtures of all codes.
        summaries: `batch time width`, specific features, one vector per step.
        reconstructions, targets: what the decoders gave and what they ought to give.
        masks: `batch time`, real steps.
    """

    continuous: dict[str, Tensor]
    gates: dict[str, Tensor]
    codebook: CodebookOutput
    quantized: dict[str, Tensor]
    summaries: dict[str, Tensor]
    reconstructions: dict[str, Tensor]
    targets: dict[str, Tensor]
    masks: dict[str, Tensor]


class CometModel(PolysenseModel):
    """Per sense a semantic and a specific encoder and a decoder; for all of them one adapter and one codebook.

    Sequences come from the caller (cached features of any kind) or from a frozen `ModalityEncoder` inside.
    """

    config: CometConfig
    base_model_prefix = ""
    main_input_name = "features"
    _supports_sdpa = True

    def __init__(self, config: CometConfig) -> None:
        super().__init__(config)
        self.encoder: Any = None
        if config.encoder_config is not None:
            self.encoder = checked_encoder(AutoModel.from_config(config.encoder_config), "encoder")
            self.encoder.requires_grad_(False)
        for part in _PARTS:
            setattr(self, part, nn.ModuleDict())
        adapter: dict[str, Any] = {"combine": config.expert_combine, "specific": config.expert_specific,
                                   "residual": config.expert_residual}  # fmt: skip
        self.adapter = (
            CommonSpecificExperts(config.hidden_size, config.num_experts, **adapter) if config.num_experts else None
        )
        self.codebook = Codebook(
            sum(config.codebook_sizes), config.hidden_size, config.codebook, protected=config.protected_codes
        )
        for name, sense in config.senses.items():
            self._build(name, sense)
        self.post_init()

    # ---- construction -------------------------------------------------------------------------------------------

    @classmethod
    def from_features(cls, senses: Mapping[str, Mapping[str, Any]], *, seed: int = 0, **config: Any) -> Self:
        """A model over sequences that the caller brings.

        Args:
            senses: name to values of a `CometSense`, such as `{"video": {"feature_dim": 512, "grid": (7, 7)}}`.
            seed: every part starts from this seed and its own name.
            **config: further fields of `CometConfig`.

        Raises:
            ConfigError: senses or fields that cannot be used.
        """
        return cls._started(CometConfig(modalities=sense_values(senses), **config), seed)

    @classmethod
    def from_encoder(
        cls, encoder: Source, modalities: Iterable[str], *, features: Mapping[str, Mapping[str, Any]] | None = None,
        seed: int = 0, **config: Any,
    ) -> Self:  # fmt: skip
        """A model whose senses `modalities` are read through a frozen encoder, copied into it.

        Args:
            encoder: a `ModalityEncoder`, or the folder or Hub name of one or of any `AutoModel`.
            features: further senses, fed with sequences, as in `from_features`: text, where the encoder has no
                tokens of it.
            seed, **config: see `from_features`.

        Raises:
            UnsafeFileError, CheckpointError: a folder that cannot be used, before anything of it is read.
            ConfigError, UnknownModalityError: a sense of which the encoder has no tokens.
        """
        loaded: Any = load_encoder(encoder)
        encoded = {name: {"feature_dim": loaded.token_spec(name).dim, "encoded": True} for name in listed(modalities)}
        senses = sense_values({**encoded, **(features or {})})
        model = cls._started(CometConfig(modalities=senses, encoder_config=loaded.config, **config), seed)
        model.encoder.load_state_dict(loaded.state_dict())
        return model

    @classmethod
    def _started(cls, config: CometConfig, seed: int) -> Self:
        model = cls(config)
        if model.adapter is not None:
            start_anew(model.adapter.gate, f"{seed}/adapter.gate")
            start_anew(model.adapter.common, f"{seed}/adapter.common")
        start_anew(model.codebook, f"{seed}/codebook")
        for name in config.modalities:
            model._start(name, seed)
        return cast(Self, model.eval())

    def add_modality(self, name: str, *, seed: int = 0, **sense: Any) -> None:
        """Give the model one more sense: new keys only, so that every older output stays the same to the last bit.

        Args:
            **sense: values of a `CometSense`; without any, the model's encoder gives the tokens.

        Raises:
            ConfigError: the model has this sense already, or its values do not fit. Nothing is changed.
            UnknownModalityError: the encoder lacks the sense.
        """
        if name in self.config.modalities:
            raise ConfigError(f"the model already has the modality {name!r}", fix="Choose another name.")
        if not sense:
            if self.encoder is None:
                raise ConfigError("the model has no encoder, so a sense needs feature_dim", where=name,
                                  fix="Give the width of its features.")  # fmt: skip
            sense = {"feature_dim": self.encoder.token_spec(name).dim, "encoded": True}
        values = sense_values({name: sense})[name]
        self.config.check_sense(name, values)
        self.config.modalities[name] = values
        self._build(name, CometSense(**values))
        self._start(name, seed)
        self.train(self.training)

    def start_codebook(self, vectors: Float[Tensor, "vectors dim"], *, seed: int = 0) -> None:
        """Begin with codes at continuous features of the first batches; errors: see `Codebook.start_from`."""
        self.codebook.start_from(vectors, key=f"{seed}/codebook")

    def grow_codebook(self, rows: int, vectors: Float[Tensor, "vectors dim"] | None = None, *, seed: int = 0) -> None:
        """Add a stage's codes and protect those there are; arguments and errors: see
        `polysense.nn.codebook_growth.grow`."""
        grow(self.codebook, rows, vectors, key=f"{seed}/codebook.{len(self.config.codebook_sizes)}")
        self._begin_codes(rows)

    def protect_codebook(self) -> None:
        """Begin a stage that adds no codes: those there are will not be restarted."""
        self._begin_codes(0)

    def _begin_codes(self, rows: int) -> None:
        self.config.codebook_sizes = [*self.config.codebook_sizes, rows]
        self.codebook.protected = self.config.protected_codes

    def _build(self, name: str, sense: CometSense) -> None:
        """The modules of a sense; one that shares a branch has none."""
        if sense.branch is not None:
            return
        config, dim = self.config, self.config.hidden_size
        maps, target = sense.grid is not None, dim if sense.recurrent else sense.feature_dim
        with named_draws("replaced by the start of every part"):
            self.semantic[name] = SemanticEncoder(
                sense.feature_dim, dim, layers=config.num_hidden_layers, heads=config.num_attention_heads,
                hidden=config.intermediate_size, dropout=float(config.dropout), maps=maps, recurrent=sense.recurrent,
            )  # fmt: skip
            if sense.grid is not None:
                self.specific[name] = MapSpecificEncoder(sense.feature_dim, sense.grid)
                self.decoders[name] = MapDecoder(dim, sense.feature_dim, sense.grid)
            else:
                self.specific[name] = SpecificEncoder(target, dim)
                self.decoders[name] = Decoder(dim, target)
            self.contexts[name] = ContextPredictor(dim, config.context_layers, config.horizon)
            if config.information:
                summary = cast(SpecificEncoder, self.specific[name]).summary_dim
                self.approximations[name] = GaussianApproximation(dim, summary)
            if self.adapter is not None:
                self.adapter.add_sense(name)

    def _start(self, name: str, seed: int) -> None:
        """Draw the initial values of a sense's parts, each from its own name."""
        places = {part: getattr(self, part) for part in _PARTS}
        if self.adapter is not None:
            places["adapter.specific"] = self.adapter.specific
        for part, modules in places.items():
            if name in modules:
                start_anew(modules[name], f"{seed}/{part}.{name}")
                modules[name].to(device=self.device, dtype=self.dtype)

    def _init_weights(self, module: nn.Module) -> None:
        """Every part of ours starts as torch (or its own `reset_parameters`) starts it."""
        if not any(getattr(each, "_is_hf_initialized", False) for each in module.buffers(recurse=False)):
            reset_own(module)

    def train(self, mode: bool = True) -> Self:
        """The frozen encoder stays in eval mode."""
        super().train(mode)
        if self.encoder is not None:
            self.encoder.eval()
        return self

    # ---- what there is ------------------------------------------------------------------------------------------

    @property
    def dtype(self) -> torch.dtype:
        """Of everything but the encoder, which may have another."""
        return self.codebook.embedding.dtype

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of all senses, in order of addition (of name, once saved and loaded)."""
        return tuple(self.config.modalities)

    def branch(self, modality: str) -> str:
        """Name of the sense whose encoders serve `modality`: mostly its own. Raises `UnknownModalityError`."""
        if modality not in self.config.modalities:
            raise UnknownModalityError(modality, self.modalities)
        return str(self.config.modalities[modality].get("branch") or modality)

    def context(self, modality: str) -> ContextPredictor:
        """The predictor of Cross-CPC of a sense."""
        return cast(ContextPredictor, self.contexts[self.branch(modality)])

    def approximation(self, modality: str) -> GaussianApproximation:
        """vCLUB's q(specific | quantised) of a sense."""
        return cast(GaussianApproximation, self.approximations[self.branch(modality)])

    def snapshot(self, modality: str) -> Snapshot:
        """A frozen copy of what makes the continuous features of a sense."""
        branch = self.branch(modality)
        return Snapshot(cast(SemanticEncoder, self.semantic[branch]), self.adapter, branch)

    def freezing(self, trained: Sequence[str]) -> dict[str, bool]:
        """The freezing table (pattern to trainable) of a stage that trains the senses `trained`: their parts, and the
        common layers and the gate of the adapter."""
        table = {r".*": False}
        for name in dict.fromkeys(self.branch(each) for each in trained):
            table[rf"({'|'.join(_PARTS)})\.{name}\..*"] = True
            if self.adapter is not None and self.adapter.with_specific:
                table[rf"adapter\.specific\.{name}\..*"] = True
        if self.adapter is not None:
            table[r"adapter\.(gate|common)\..*"] = True
        return table

    # ---- encoding -----------------------------------------------------------------------------------------------

    @torch.no_grad()
    def extract(
        self, modality: str, features: Tensor, mask: MaskLike | None = None
    ) -> tuple[Float[Tensor, "batch time dim"], Bool[Tensor, "batch time"]]:
        """Raw features through the frozen encoder: the mean token of every time step; a still is repeated.

        Raises:
            UnknownModalityError: the model lacks this sense.
            ConfigError: the sense is not one that the encoder reads.
            FeatureShapeError: see the encoder.
        """
        self.branch(modality)
        if not self.config.modalities[modality].get("encoded"):
            raise ConfigError("the sense is fed with sequences", where=modality, fix="Use encode_sequence.")
        keywords = {} if mask is None else {"mask": step_mask(mask, features.device, where=modality)}
        out = self.encoder.encode_tokens(modality, features, **keywords)
        sequence, real = out.tokens.mean(dim=2), out.mask
        if sequence.shape[1] == 1:
            sequence, real = (each.repeat_interleave(self.config.steps, dim=1) for each in (sequence, real))
        return sequence, real

    def encode(self, modality: str, features: Tensor, mask: MaskLike | None = None) -> CometEncoding:
        """Codes of one sense, from what its processor gives (senses of the model's encoder) or from sequences.

        Args:
            features: raw features, or `batch time dim`, `batch time height width dim`; without a time axis,
                `batch dim`, there is one step.
            mask: which steps are real; all of them if `None`.

        Raises:
            UnknownModalityError: the model lacks this sense.
            FeatureShapeError: features of another rank or size, or that are not finite.
        """
        self.branch(modality)
        if self.config.modalities[modality].get("encoded"):
            features, mask = self.extract(modality, features, mask)
        return self.encode_sequence(modality, features, mask)

    def encode_sequence(self, modality: str, sequence: Tensor, mask: MaskLike | None = None) -> CometEncoding:
        """`encode` of sequences, also for senses of the encoder (of what `extract` gave); errors: see there."""
        sequence = self.as_sequence(modality, sequence)
        masks = real_masks({modality: sequence}, {modality: mask})
        z, _, _ = self._continuous(modality, sequence, masks[modality])
        if not all(zero_padding(each, masks[modality]).isfinite().all() for each in (sequence, z)):
            raise FeatureShapeError("the features are not finite, or too large", where=modality,
                                    fix="Leave such samples out.")  # fmt: skip
        indices = self.codebook.assign(z)
        quantized = self.codebook.lookup(indices).to(z.dtype) if self._hard else self._mixed(z)
        return CometEncoding(indices=indices, quantized=quantized, continuous=z, mask=masks[modality])

    def specifics(
        self, modality: str, sequence: Tensor, mask: MaskLike | None = None
    ) -> tuple[Float[Tensor, "batch time ..."], Float[Tensor, "batch time width"]]:
        """What the codes leave out: the content that `decode` needs, and a summary per step; errors: see `encode`."""
        sequence, branch = self.as_sequence(modality, sequence), self.branch(modality)
        real = real_masks({modality: sequence}, {modality: mask})
        front = cast(SemanticEncoder, self.semantic[branch]).front(sequence, real[modality])
        return cast(tuple[Tensor, Tensor], self.specific[branch](front))

    def decode(
        self, modality: str, quantized: Float[Tensor, "batch time dim"], content: Float[Tensor, "_batch _time ..."]
    ) -> Float[Tensor, "batch time ..."]:
        """Features of a sense from codes (of any sense) and the sense's specific content (`specifics`);
        `FeatureShapeError` where they do not fit."""
        return cast(Tensor, self.decoders[self.branch(modality)](quantized, content))

    def forward(
        self, features: Mapping[str, Tensor], masks: Masks | None = None, *, update: bool = True
    ) -> CometOutput:
        """All of it for sequences that belong together. In training mode the codebook moves, unless `update` is false.

        Raises:
            UnknownModalityError: a sense that the model lacks.
            FeatureShapeError: sequences of other sizes, or that cannot be paired.
        """
        sequences = {name: self.as_sequence(name, each) for name, each in features.items()}
        real = real_masks(sequences, masks)
        ways = {name: self._continuous(name, each, real[name]) for name, each in sequences.items()}
        continuous = {name: z for name, (z, _, _) in ways.items()}
        targets = {name: front for name, (_, _, front) in ways.items()}
        coded = self.codebook(continuous, real, update=update)
        quantized = dict(coded.quantized) if self._hard else {name: self._mixed(z) for name, z in continuous.items()}
        specific = {name: self.specific[self.branch(name)](front) for name, front in targets.items()}
        return CometOutput(
            continuous=continuous,
            gates={name: gates for name, (_, gates, _) in ways.items() if gates is not None},
            codebook=coded,
            quantized=quantized,
            summaries={name: summary for name, (_, summary) in specific.items()},
            reconstructions={
                name: self.decode(name, quantized[name], content) for name, (content, _) in specific.items()
            },
            targets=targets,
            masks=real,
        )

    @property
    def _hard(self) -> bool:
        return self.config.assignment == "nearest"

    def _mixed(self, z: Float[Tensor, "batch time dim"]) -> Float[Tensor, "batch time dim"]:
        """Every step as a mixture of all codes by attention to them: TURN's prototypes."""
        table = self.codebook.embedding.to(z.dtype).expand(len(z), -1, -1)
        return cross_attention(z, table, table, torch.ones(table.shape[:2], dtype=torch.bool, device=z.device))[0]

    def _continuous(self, modality: str, sequence: Tensor, mask: Tensor) -> tuple[Tensor, Tensor | None, Tensor]:
        """Semantic features after the adapter, its gates, and what the decoder is to give back."""
        branch = self.branch(modality)
        semantic = cast(SemanticEncoder, self.semantic[branch])
        front = semantic.front(sequence, mask)
        z = semantic(front, mask)
        if self.adapter is None:
            return z, None, front
        adapted, gates = self.adapter(branch, z)
        return adapted, gates, front

    def as_sequence(self, modality: str, sequence: Tensor) -> Tensor:
        """The sequence with a time axis; `FeatureShapeError` if it is not one of this sense."""
        self.branch(modality)
        sense = self.config.senses[modality]
        sizes = (*(sense.grid or ()), sense.feature_dim)
        timed = sequence.unsqueeze(1) if sequence.ndim == len(sizes) + 1 else sequence
        if tuple(timed.shape[2:]) != sizes or not timed.shape[1]:
            raise FeatureShapeError(
                f"a sequence of shape {tuple(sequence.shape)}, where a step has the sizes {sizes}", where=modality,
                fix="Give batch, time and the sizes of a step.",
            )  # fmt: skip
        return timed.to(self.dtype)


__all__ = ["CometModel", "CometOutput"]
