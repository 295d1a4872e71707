"""What a COMET recipe may say: pairs, stages, the method and its switches, features and evaluation."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from polysense.continual import EWC_SCOPES, CodebookStage, OnlineEwc
from polysense.continual.pseudo_modality import NEW_CODE_WEIGHT, TEACHERS
from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError
from polysense.models.comet.configuration_comet import CometConfig, check_options
from polysense.recipes.comet_downstream import DownstreamSettings
from polysense.recipes.config import place
from polysense.recipes.feature_pairs import PairRecipe
from polysense.recipes.features import FeatureRecipe
from polysense.trainer import LoopConfig
from polysense.trainer.comet_methods import CometMethod, comet_method
from polysense.trainer.comet_settings import CometSettings

_OWN = "own"
_EXPERTS = CometConfig.num_experts


@dataclass(frozen=True, kw_only=True)
class CometStageSettings:
    """One stage.

    Attributes:
        pairs: names of data sets under `data: pairs`, all of the same senses.
        mediator: the known sense through which the codebook is reached; by default the first of the pair that is
            known.
        rows: codes that it adds, if not as many as the recipe says; the first stage has `codes`.
        steps, epochs: how long; one of them, or the loop's if neither is given.
    """

    pairs: Sequence[str]
    mediator: str | None = None
    rows: int | None = None
    steps: int = 0
    epochs: int = 0

    @property
    def name(self) -> str:
        """Part of its folder's name."""
        return "-".join(self.pairs)


@dataclass(frozen=True, kw_only=True)
class CometRecipe:
    """Config of `training/comet/*.yaml`.

    Attributes:
        data: what the sequences of which pairs are made by. An encoder may be the name of a config, which is then
            trained first: `unialign:world`.
        stages: in order, each with the data of its own pairs alone.
        loop: see `LoopConfig`; its `steps` or `epochs` hold for stages that give none.
        codes: K1, codes of the first stage.
        rows: K2, codes that every later stage adds; 0 adds none.
        protect: keep codes of earlier stages from restarts without COMET too, which always does: a control.
        method: "dcid", "cmcm" or "turn".
        comet: with COMET's adapter, its balance, replay, growth and EWC, or the method alone.
        pmr_teacher: who chooses the codes of the pseudo-modality: "live" (as printed) or "frozen" (recommended), or
            `None`, without replay.
        new_code_weight: of steps of the pseudo-modality whose nearest code is a new one; e^-6.
        ewc: lambda of the penalty; 0 goes without.
        ewc_scope: what EWC holds: "adapter" (as printed), "adapter+encoder" (recommended), or "encoder", which is a
            control and the only one that a method without COMET can have.
        fisher_batches: mini-batches that the importance of parameters is estimated on.
        image_branch: "own", or the sense whose encoders and decoder images use.
        recurrent: senses that begin with a bi-LSTM.
        frozen: senses whose parts stand still from their second stage on, as a control.
        model: further fields of `CometConfig`.
        objective: weights of the losses; what the method goes without stays out.
        evaluation: what the codes of each stage are scored on.
        features: the nets that make the sequences, trained before the first stage if they are not there; `None` where
            `data` names others.
        features_license: of these nets, for the model card.
        spoken: folder of a spoken set, copied to `spoken` under the data root if it is not there.
        seed: of initial weights, order of data and draws.
        imports: modules that register what the config names.

    Raises:
        ConfigError: an unknown name, a number that cannot be used, a sense that nothing extracts, or an order of pairs
            that cannot be learned.
    """

    data: PairRecipe
    stages: Sequence[CometStageSettings]
    loop: LoopConfig
    codes: int = 400
    rows: int = 200
    protect: bool = False
    method: str = "dcid"
    comet: bool = True
    pmr_teacher: str | None = "frozen"
    new_code_weight: float = NEW_CODE_WEIGHT
    ewc: float = 0.5
    ewc_scope: str = "adapter+encoder"
    fisher_batches: int = 20
    image_branch: str = _OWN
    recurrent: Sequence[str] = (TEXT,)
    frozen: Sequence[str] = ()
    model: Mapping[str, Any] = field(default_factory=dict)
    objective: CometSettings = field(default_factory=CometSettings)
    evaluation: DownstreamSettings = field(default_factory=DownstreamSettings)
    features: FeatureRecipe | None = None
    features_license: str = "see their cards"
    spoken: str = ""
    seed: int = 0
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        comet_method(self.method, comet=self.comet)
        OnlineEwc(self.ewc)
        if self.ewc_scope not in EWC_SCOPES:
            raise ConfigError(f"there is no ewc_scope {self.ewc_scope!r}", fix=f"Choose {', '.join(EWC_SCOPES)}.")
        if self.pmr_teacher not in (None, *TEACHERS):
            raise ConfigError(f"pmr_teacher is {self.pmr_teacher!r}", fix=f"Choose {', '.join(TEACHERS)} or null.")
        if min(self.fisher_batches, self.codes, len(self.stages)) < 1:
            raise ConfigError(
                f"there are {len(self.stages)} stages, {self.codes} codes and {self.fisher_batches} fisher_batches",
                fix="Give at least one of each.",
            )  # fmt: skip
        check_options(self.model, where="model")
        branches = [] if self.image_branch == _OWN else [self.image_branch]
        senses = {*self.data.extractors, TEXT}
        for where, named in (("frozen", self.frozen), ("recurrent", self.recurrent), ("image_branch", branches)):
            if unknown := [name for name in named if name not in senses]:
                raise ConfigError(f"nothing extracts {unknown[0]!r}", where=where,
                                  fix=f"Senses of the recipe are {', '.join(sorted(senses))}.")  # fmt: skip
        self.codebook_stages  # noqa: B018  # an impossible order is refused as the config is read

    @property
    def switches(self) -> CometMethod:
        """What the method changes in model and objective."""
        return comet_method(self.method, comet=self.comet)

    @property
    def objective_settings(self) -> CometSettings:
        """Weights of the losses, with the method's and the recipe's seed."""
        return replace(self.objective, **self.switches.settings, seed=self.seed)

    @property
    def strength(self) -> float:
        """Lambda of EWC, 0 without it: a method alone has no adapter, only an encoder that can be held."""
        return self.ewc if self.comet or self.ewc_scope == "encoder" else 0.0

    @property
    def codebook_stages(self) -> list[CodebookStage]:
        """Every stage as the codebook sees it, with its mediator filled in from the second one on.

        Raises:
            ConfigError: unknown pairs, pairs of other senses in one stage, or no sense in common with those before.
        """
        found: list[CodebookStage] = []
        for number, settings in enumerate(self.stages, start=1):
            with place(f"stages: {settings.name or number}"):
                if number == 1 and settings.rows is not None:
                    raise ConfigError("the first stage adds no codes to others", where="rows", fix="Give codes.")
                rows = self.rows if settings.rows is None else settings.rows
                grows = self.comet and number > 1
                stage = CodebookStage(
                    pair=self._senses(settings), mediator=settings.mediator, rows=rows if grows else 0,
                    protect=number > 1 and (self.comet or self.protect),
                    pmr_teacher=self.pmr_teacher if grows else None, new_code_weight=self.new_code_weight,
                )  # fmt: skip
                known = [sense for each in found for sense in each.pair]
                found.append(replace(stage, mediator=stage.mediator_in(known)) if known else stage)
                self._check_branch([*known, *stage.pair])
        return found

    @property
    def departures(self) -> list[str]:
        """Where the recipe is not the method as it is printed, in sentences; for the model card."""
        usual, own = CometSettings(), self.objective_settings
        comet = {
            "a frozen snapshot of the last stage's mediator chooses the codes of the pseudo-modality":
                self.pmr_teacher == "frozen",
            "there is no replay": self.pmr_teacher is None or not own.replay,
            f"replay weighs {own.replay:g}": self.pmr_teacher is not None and own.replay not in (0, 1),
            f"new codes weigh {self.new_code_weight:g}": self.new_code_weight != NEW_CODE_WEIGHT,
            "there is no EWC": not self.ewc,
            "EWC holds the mediator's encoder too": self.ewc_scope == "adapter+encoder" and self.ewc > 0,
            "codes of earlier stages stand still": bool(self.model.get("hold_old_codes", True)),
            "the codebook does not grow": len(self.stages) > 1 and not any(each.rows for each in self.codebook_stages),
            f"there are {self._experts} experts": self._experts != _EXPERTS,
            "gates are not balanced": not own.gate,
        }  # fmt: skip
        found = [words for words, departs in comet.items() if self.comet and departs]
        if self.method == "dcid":
            if not own.information:
                found.append("no information is kept apart by vCLUB")
            for name in ("reconstruction", "commitment", "contrast", "code", "information", "sequence"):
                if (weight := getattr(own, name)) != getattr(usual, name) and (weight or name != "information"):
                    found.append(f"{name} weighs {weight:g}")
        found += [f"{name}, a term of its own, weighs {weight:g}" for name, weight in own.terms.items() if weight]
        return [f"Not as printed: {'; '.join(found)}."] if found else []

    @property
    def _experts(self) -> int:
        return int(self.model.get("num_experts", _EXPERTS))

    def held(self, number: int) -> str:
        """The mediator that EWC holds at the end of stage `number`: that of the next stage, if this one trains it."""
        stages = self.codebook_stages
        own = stages[number - 1]
        following = stages[number].mediator if number < len(stages) else own.mediator
        named = (following, own.mediator, TEXT, own.pair[-1])
        return next(name for name in named if name is not None and name in own.pair)

    def branch(self, sense: str) -> str | None:
        """The sense whose parts `sense` uses, if not its own."""
        return self.image_branch if sense == "image" and self.image_branch != _OWN else None

    def _senses(self, settings: CometStageSettings) -> tuple[str, ...]:
        unknown = [name for name in settings.pairs if name not in self.data.pairs]
        if unknown or not settings.pairs:
            raise ConfigError("there are no pairs" + (f" {unknown}" if unknown else ""),
                              fix=f"Known: {', '.join(self.data.pairs)}.")  # fmt: skip
        senses = [tuple(self.data.pairs[name].senses) for name in settings.pairs]
        if len({frozenset(each) for each in senses}) > 1:
            raise ConfigError("the pairs of one stage are of other senses", fix="Give each its own stage.")
        return senses[0]

    def _check_branch(self, known: Sequence[str]) -> None:
        branch = self.branch("image")
        if "image" in known and branch is not None and branch not in known[: known.index("image")]:
            raise ConfigError(f"images are to use the branch of {branch!r}, which comes later or never",
                              where="image_branch", fix="Begin with a pair that has it.")  # fmt: skip


__all__ = ["CometRecipe", "CometStageSettings"]
