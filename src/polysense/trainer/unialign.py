"""UniAlign's training objective: which losses, between which embeddings, with which weights.

Eq. 16 of section 3.2 without its distillation terms (Eq. 12-15): they need teachers that polysense does not load.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Literal

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from polysense.errors import ConfigError, ManifestError
from polysense.losses import info_nce, soft_binding
from polysense.models.unialign import UniAlignModel
from polysense.trainer.clip import text_identities
from polysense.trainer.distributed import gather_with_grad
from polysense.trainer.objective import zero_touch
from polysense.trainer.terms import Terms, TermSettings

_CONTRASTS = ("nce_text", "nce_image")  # they look at the classes of the batch's own source alone

TextEncoder = Callable[[Sequence[str]], Float[Tensor, "texts embed"]]


@dataclass(frozen=True)
class ClassTable:
    """The classes of one data set and their text embeddings: all that others need of it (Eq. 10).

    Attributes:
        names: class names.
        embeddings: `classes embed`, unit norm.
    """

    names: tuple[str, ...]
    embeddings: Float[Tensor, "classes embed"]

    def indices(self, labels: Sequence[str | None], *, where: str) -> Tensor:
        """Row of every label. Raises `ManifestError` for a sample without a known class."""
        rows = {name: row for row, name in enumerate(self.names)}
        if unknown := [label for label in labels if label not in rows]:
            raise ManifestError(f"a sample has the class {unknown[0]!r}, which its data set lacks", where=where,
                                fix="Label every sample, or train on captions with text: caption.")  # fmt: skip
        return torch.tensor([rows[str(label)] for label in labels], device=self.embeddings.device)

    def to(self, device: torch.device) -> ClassTable:
        """The table with its embeddings on `device`."""
        return replace(self, embeddings=self.embeddings.to(device))


@dataclass(frozen=True, kw_only=True)
class ObjectiveSettings(TermSettings):
    """Weights of the terms; the paper gives every objective weight 1 (Eq. 16).

    Attributes:
        nce_text: InfoNCE between a sense and the text of its sample.
        nce_image: InfoNCE between a sense and the image of its sample, where the data set has one.
        soft_bind: soft modality binding to the classes of the other data sets.
        binding_scale: factor on the dot products of the binding; `None` takes the model's logit scale, 1 is Eq. 10 as
            printed.
        terms: weights of further terms, by the names they are registered under in `ALIGNMENT_TERMS`.

    Raises:
        ConfigError: see `TermSettings`; nothing that is weighed at all, or a scale that is not positive.
    """

    OWN: ClassVar[tuple[str, ...]] = (*_CONTRASTS, "soft_bind")
    nce_text: float = 1.0
    nce_image: float = 1.0
    soft_bind: float = 1.0
    binding_scale: float | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if not any(self.weights.values()):
            raise ConfigError("all terms weigh nothing", where="objective", fix="Give one of them a weight.")
        if self.binding_scale is not None and not 0 < self.binding_scale < math.inf:
            raise ConfigError(f"binding_scale is {self.binding_scale}", where="objective",
                              fix="Give a positive number, or null for the model's own.")  # fmt: skip


class UniAlignObjective:
    """Aligns each sense with the text and image of its samples, and with other data sets through class names.

    Args:
        model: the model; what trains is decided by its `requires_grad`.
        tables: source name to its classes. Sources of earlier stages may be listed: their classes still bind.
        texts: source name to what its samples are paired with: the "label" or a "caption".
        encode_text: texts to unit vectors by the model's text path.
        settings: weights.
        modalities: senses that the sources train, in order.
        follow: makes a source's table anew, for a text path that trains: labels are then encoded in every batch, those
            of all sources while they bind. Without it the tables are constants.

    Raises:
        ConfigError: a source pairs samples with labels and has no table, or a term that is not registered.
    """

    def __init__(
        self,
        model: UniAlignModel,
        *,
        modalities: Sequence[str],
        tables: Mapping[str, ClassTable],
        texts: Mapping[str, Literal["label", "caption"]],
        encode_text: TextEncoder,
        settings: ObjectiveSettings,
        follow: Callable[[str], ClassTable] | None = None,
    ) -> None:
        if missing := [name for name, text in texts.items() if text == "label" and name not in tables]:
            raise ConfigError(f"the sources {missing} pair samples with labels and have no classes",
                              fix="Use text: caption, or label their samples.")  # fmt: skip
        ALIGNMENT_TERMS.check(settings.terms)
        self.module, self.modalities = model, tuple(dict.fromkeys(modalities))
        self.tables, self.texts, self.encode_text, self.settings = dict(tables), dict(texts), encode_text, settings
        self.follow = follow

    @property
    def weights(self) -> dict[str, float]:
        """Weight of each term; terms of weight zero are not computed at all."""
        return self.settings.weights

    def losses(self, modality: str, batch: Any) -> dict[str, Tensor]:
        """The terms of one batch of one source.

        Raises:
            ManifestError: a sample without the class or the caption that its source is paired by.
            ConfigError: a term that is no scalar tensor.
        """
        embeddings = self.module.embed(modality, batch.features[modality])
        beside = any(weight for name, weight in self.weights.items() if name not in _CONTRASTS)
        tables = self._tables_now(batch.source, embeddings.device, all_sources=beside)
        return ALIGNMENT_TERMS(AlignedBatch(self, modality, batch, embeddings, tables), self.weights)

    def dummy(self, modality: str) -> Tensor:
        """Touches what this sense trains and nothing else, so that senses without a sample get no gradient at all."""
        own = [re.compile(pattern) for pattern in self.module.freezing([modality])][1:]
        parameters = [p for name, p in self.module.named_parameters() if any(each.fullmatch(name) for each in own)]
        return zero_touch(nn.ParameterList(parameters))

    def _tables_now(self, source: str, device: torch.device, *, all_sources: bool) -> Mapping[str, ClassTable]:
        """The tables as the text path is now. Only a batch's own labels carry gradients: others are its targets."""
        if self.follow is None:
            if any(table.embeddings.device != device for table in self.tables.values()):
                self.tables = {name: table.to(device) for name, table in self.tables.items()}
            return self.tables
        tables = {}
        wanted = self.tables if all_sources else [source] if self.texts[source] == "label" else []
        for name in wanted:
            with torch.set_grad_enabled(name == source and torch.is_grad_enabled()):
                tables[name] = self.follow(name)
        return tables


@dataclass(frozen=True)
class AlignedBatch:
    """A batch of one source and what the model makes of it: what the terms are computed from.

    Attributes:
        objective: whose terms are computed: it has the model (`module`) and the settings.
        modality: the sense.
        batch: its samples: `source`, `features`, `labels`, `captions` and `ids`.
        embeddings: `batch embed`, unit norm.
        tables: source name to its classes, as the text path is now.
    """

    objective: UniAlignObjective
    modality: str
    batch: Any
    embeddings: Float[Tensor, "batch embed"]
    tables: Mapping[str, ClassTable]

    @property
    def model(self) -> UniAlignModel:
        return self.objective.module

    def texts(self) -> tuple[Float[Tensor, "batch embed"], Int[Tensor, " batch"]]:
        """Text embedding of every sample, and a number that is the same for the same text (for the negatives).

        Raises:
            ManifestError: a sample without the class or the caption that its source is paired by.
        """
        batch, table = self.batch, self.tables.get(self.batch.source)
        if self.objective.texts[batch.source] == "label" and table is not None:
            rows = table.indices(batch.labels, where=batch.source)
            return table.embeddings[rows], rows
        if None in batch.captions:
            raise ManifestError("a sample has no caption", where=batch.ids[batch.captions.index(None)],
                                fix="Add captions, or pair this source with labels (text: label).")  # fmt: skip
        with torch.set_grad_enabled(self.model.config.unified_text and torch.is_grad_enabled()):
            embeddings = self.objective.encode_text(list(batch.captions))
        return embeddings, text_identities(batch.captions).to(embeddings.device)


ALIGNMENT_TERMS: Terms[AlignedBatch] = Terms()
"""Terms of UniAlign's objective; `ALIGNMENT_TERMS.register(name)` adds one."""


@ALIGNMENT_TERMS.register("nce_text")
def text_contrast(aligned: AlignedBatch) -> Float[Tensor, ""]:
    """InfoNCE between a sense and the text of its sample; samples of the same text are no negatives."""
    texts, identities = aligned.texts()
    return info_nce(aligned.embeddings, texts, aligned.model.logit_scale, identities, gather_with_grad)


@ALIGNMENT_TERMS.register("nce_image")
def image_contrast(aligned: AlignedBatch) -> Float[Tensor, ""] | None:
    """InfoNCE between a sense and the image of its sample, where its source has one."""
    model, features = aligned.model, aligned.batch.features
    if "image" not in features or aligned.modality == "image":
        return None
    with torch.set_grad_enabled(model.config.image_experts and torch.is_grad_enabled()):
        images = model.embed("image", features["image"])
    return info_nce(aligned.embeddings, images, model.logit_scale, gather=gather_with_grad)


@ALIGNMENT_TERMS.register("soft_bind")
def binding(aligned: AlignedBatch) -> Float[Tensor, ""] | None:
    """Eq. 11 towards every other data set, averaged, so that its weight does not grow with their number.

    Samples without a class, which only sources of captions may have, count as zero.
    """
    batch, embeddings, tables = aligned.batch, aligned.embeddings, aligned.tables
    others = [table for name, table in tables.items() if name != batch.source]
    if not others or batch.source not in tables:
        return None
    labelled = [row for row, label in enumerate(batch.labels) if label is not None]
    if not labelled:
        return embeddings.sum() * 0
    own, chosen = tables[batch.source], embeddings[labelled]
    labels = own.indices([batch.labels[row] for row in labelled], where=batch.source)
    given = aligned.objective.settings.binding_scale
    scale = aligned.model.logit_scale.detach() if given is None else given
    terms = [soft_binding(chosen, labels, own.embeddings, other.embeddings, scale) for other in others]
    return torch.stack(terms).mean() * (len(labelled) / len(batch))
