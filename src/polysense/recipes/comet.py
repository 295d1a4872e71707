"""Grow one codebook for all senses with COMET: a pair of senses per stage, each stage a checkpoint (section 3)."""

from __future__ import annotations

import json
import math
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

from safetensors.torch import load, save_file
from torch import Tensor

from polysense.continual import (
    CodebookStage,
    OnlineEwc,
    Phase,
    Stage,
    apply_freezing,
    begin_stage,
    ewc_pattern,
    run_stages,
    stage_folders,
)
from polysense.continual.runner import stage_number
from polysense.data import Batch, Mixture
from polysense.errors import CheckpointError, ConfigError
from polysense.modality import registered_modalities
from polysense.models.base import count_parameters
from polysense.models.comet import CometModel
from polysense.models.encoders.extraction import extractor_digest
from polysense.recipes.checks import check_comet
from polysense.recipes.comet_codes import CometReader, SavedExtractors, save_extractors
from polysense.recipes.comet_config import CometRecipe, CometStageSettings
from polysense.recipes.comet_downstream import Downstream, check_protocols, score_codes
from polysense.recipes.config import import_modules, place, read_config
from polysense.recipes.encoders import check_encoder, encoder_folder, named_folder
from polysense.recipes.feature_pairs import ExtractorSettings, PairStages
from polysense.recipes.features import TEXT_NET, train_features
from polysense.recipes.sources import data_record
from polysense.recipes.stages import StageRecord, check_output, known_limits, running, save_stage
from polysense.storage import read_verified, writing
from polysense.trainer import LoopConfig, TrainingResult, train, world_size
from polysense.trainer.comet import CometObjective, consolidate
from polysense.trainer.comet_terms import PENALTY
from polysense.trainer.distributed import on_main, rank
from polysense.trainer.penalty import PenalisedObjective
from polysense.trainer.resume import HARMLESS

_EWC = "ewc"  # folder of the penalty's state, within a stage's
_STATE = "state.safetensors"
_PHASE = "codes"
_SPOKEN = "spoken"


@dataclass(frozen=True)
class _Trained:
    """What a stage's training leaves."""

    model: CometModel
    ewc: OnlineEwc
    frozen: Mapping[str, bool]
    samples: Mapping[str, int]
    result: TrainingResult
    restarts: int

    @property
    def codebook(self) -> dict[str, Any]:
        """What `metrics.json` says of the codes beside what they are good for."""
        rate = 1000 * self.restarts / max(1, self.result.step)
        return {"sizes": list(self.model.config.codebook_sizes), "restarts_per_1000_steps": rate}


class CometRun:
    """A recipe at work in an output folder, where nothing is done twice.

    A stage has the data of its own pairs alone: beginning it closes those of the one before.

    Raises:
        ConfigError: what would only fail once nets or stages have been trained, naming its place in the config.
        CheckpointError: a net or encoder cannot be found or is damaged.
    """

    def __init__(self, recipe: CometRecipe, output: Path) -> None:
        self.output, self.root = output, Path(recipe.data.data_root)
        self.recipe, self.codebook_stages = recipe, recipe.codebook_stages
        self._check()
        self.recipe = replace(recipe, data=self._with_nets(recipe))
        self.pairs = PairStages(self.recipe.data)
        self.stages = [self._stage(number) for number in range(1, len(recipe.stages) + 1)]

    def _check(self) -> None:
        """Refuse what would only fail once nets or stages have been trained."""
        recipe, data = self.recipe, self.recipe.data
        first, *later = self.codebook_stages
        options = {**self._model_options(), "codebook_sizes": [recipe.codes, *(stage.rows for stage in later)]}
        check_comet(options, recipe.objective_settings, first.pair, data.steps)
        self._check_nets()
        check_output(self.output)
        if data.world is not None:
            data.world.build(self.root)
        on_main(self._copy_spoken)
        for name in dict.fromkeys(name for stage in recipe.stages for name in stage.pairs):
            with place(f"data: pairs: {name}"):
                data.pairs[name].data.open(data.pairs[name].folder(self.root))
        with place("evaluation"):
            seen = self._seen(len(recipe.stages))
            check_protocols(recipe.evaluation, {*data.extractors, *registered_modalities()}, seen, self.root)

    def _check_nets(self) -> None:
        """Refuse the name of a net that is neither there nor trained here."""
        nets, features = Path(self.recipe.data.nets), self.recipe.features
        trained = [] if features is None else [*features.nets, *([TEXT_NET] if features.text else [])]
        own = sorted({*trained, *(config.parent.name for config in nets.glob("*/config.json"))})
        for sense in self._seen(len(self.recipe.stages)):
            settings = self.recipe.data.extractors[sense]
            name = settings.encoder or settings.language_model
            if name is not None and name not in own and not (nets / name).is_dir():
                check = check_encoder if settings.encoder else named_folder
                with place(f"data: extractors: {sense}"):
                    check(name, own)

    def _with_nets(self, recipe: CometRecipe) -> Any:
        """The recipe's data, once everything that makes their sequences is trained."""
        data = recipe.data
        if recipe.features is not None:
            features = replace(recipe.features, probes="")
            data = replace(data, nets=str(train_features(features, Path(data.nets).parent)))
        extractors = {name: self._with_encoder(data.extractors[name], recipe) for name in data.extractors}
        return replace(data, extractors=extractors)

    def _with_encoder(self, settings: ExtractorSettings, recipe: CometRecipe) -> ExtractorSettings:
        if settings.encoder is None or ":" not in settings.encoder:
            return settings
        return replace(
            settings, encoder=str(encoder_folder(settings.encoder, self.output, self.root, recipe.data.world))
        )

    def _copy_spoken(self) -> None:
        source, target = self.recipe.spoken, self.root / _SPOKEN
        if source and not target.exists():
            if not Path(source).is_dir():
                raise ConfigError("there is no such folder", where=f"spoken: {source}", fix="Name the spoken set.")
            temporary = target.with_name(f".{_SPOKEN}")
            with writing(target):
                shutil.copytree(source, temporary, dirs_exist_ok=True)
                temporary.rename(target)

    # ---- what the stages are ------------------------------------------------------------------------------------

    def _stage(self, number: int) -> Stage:
        recipe, settings = self.recipe, self.recipe.stages[number - 1]
        stage, known = self.codebook_stages[number - 1], self._seen(number - 1)
        new = [sense for sense in stage.pair if sense not in known]
        loop = self._loop(settings)
        phase = Phase(
            name=_PHASE, trains={rf".*\.{sense}\..*": True for sense in self._trained(number)}, data=settings.pairs,
            learning_rates={"all": loop.learning_rate}, steps=loop.steps or None, epochs=loop.epochs or None,
            batch_size=sum(recipe.data.pairs[name].batch_size for name in settings.pairs),
        )  # fmt: skip
        options = {
            **asdict(stage),
            "held": recipe.held(number) if recipe.strength else None,
            "extractors": {sense: extractor_digest(self.pairs.extractor(sense)) for sense in stage.pair},
            "data": {name: self._data_key(name) for name in settings.pairs},
        }
        plain = json.loads(json.dumps(options))
        return Stage(name=settings.name, modality="-".join(new or stage.pair), phases=[phase], options=plain)

    def _data_key(self, name: str) -> dict[str, Any]:
        pair = self.recipe.data.pairs[name]
        told = {"captions": pair.captions, "narrated": pair.narrated, "batch_size": pair.batch_size}
        return {**pair.data.key(pair.folder(self.root)), **told}

    def _seen(self, number: int) -> list[str]:
        """Senses of the first `number` stages, in order."""
        return list(dict.fromkeys(sense for stage in self.codebook_stages[:number] for sense in stage.pair))

    def _trained(self, number: int) -> list[str]:
        """Senses of a stage whose parts train in it."""
        known, pair = self._seen(number - 1), self.codebook_stages[number - 1].pair
        return [sense for sense in pair if sense not in known or sense not in self.recipe.frozen]

    def _common(self) -> dict[str, Any]:
        """What all stages depend on, for their folders' names."""
        recipe = self.recipe
        ewc = {"lambda": recipe.strength, "scope": recipe.ewc_scope, "batches": recipe.fisher_batches}
        values = {
            "learning": {"method": recipe.method, "comet": recipe.comet},
            "codes": recipe.codes, "model": self._model_options(),
            "objective": recipe.objective_settings.to_dict(), "ewc": ewc if recipe.strength else None,
            "frozen": recipe.frozen, "recurrent": recipe.recurrent, "image_branch": recipe.image_branch,
            "steps": recipe.data.steps, "half": recipe.data.half, "seed": recipe.seed,
            "loop": {key: value for key, value in recipe.loop.to_dict().items() if key not in HARMLESS},
        }  # fmt: skip
        return dict(json.loads(json.dumps(values)))

    def _model_options(self) -> dict[str, Any]:
        return {**self.recipe.model, **self.recipe.switches.config}

    def _loop(self, settings: CometStageSettings) -> LoopConfig:
        """The recipe's loop with a stage's own length, if it has one."""
        return replace(self.recipe.loop, seed=self.recipe.seed).lasting(settings.steps, settings.epochs)

    # ---- a stage ------------------------------------------------------------------------------------------------

    def run(self, through: int | None = None, *, shared: bool = True) -> list[Path]:
        """All stages, or those up to the number `through`; their folders are returned.

        Args:
            shared: whether others may work in the output folder, as methods do that begin alike; see `running`.
        """
        with running(self.recipe, self.output, self.folders(), shared=shared):
            return run_stages(self.stages[:through], self.output / "stages", self._train, common=self._common())

    def folders(self) -> list[Path]:
        """Where the stages go, whether they are there or not."""
        return stage_folders(self.stages, self.output / "stages", common=self._common())

    def _train(self, stage: Stage, start: Path | None, folder: Path) -> None:
        """Train a stage and write its folder."""
        number = self.stages.index(stage) + 1
        mixture = self.pairs.mixture(self.recipe.stages[number - 1].pairs, self.recipe.seed)
        trained = self._learn(number, start, mixture, self.output / "training" / folder.name)
        self.pairs.begin(())  # what follows sees nothing of the stage's data
        record = self._record(stage, start, folder, trained)
        record = replace(record, steps=trained.result.step, seconds=round(trained.result.seconds, 1))

        def finish() -> None:
            found = self.score(trained.model)
            parts: list[Callable[[Path], Any]] = [trained.model.save_pretrained, self._save_extractors(trained.model)]
            if self.recipe.strength:
                parts.append(lambda target: _save_ewc(trained.ewc, target))
            save_stage(folder, parts, record, {**found.record(self.recipe.seed), "codebook": trained.codebook})

        on_main(finish)

    def _learn(self, number: int, start: Path | None, mixture: Mixture, work: Path) -> _Trained:
        """The stage's training, or the rest of it; everything but its own state is made again from `start`."""
        recipe, settings = self.recipe, self.recipe.stages[number - 1]
        stage, first = self.codebook_stages[number - 1], mixture.whole(0, world_size())[0]
        with place(f"stages: {settings.name}"):
            model = self._model(start, stage, first)
            replay = begin_stage(
                model, stage, self._senses(stage.pair, first), first.features, first=start is None, seed=recipe.seed
            )
        table = model.freezing(self._trained(number))
        apply_freezing(model, table)
        objective = CometObjective(model, modalities=stage.pair, settings=recipe.objective_settings, replay=replay)
        ewc = OnlineEwc(recipe.strength)
        if recipe.strength and start is not None:
            ewc.load_state_dict(_read_ewc(start))
        penalties = {PENALTY: lambda: _penalty(ewc, model)} if ewc.fisher else {}
        penalised = PenalisedObjective(objective, penalties, slots=len(mixture.slots))
        loop = self._loop(settings).in_steps(mixture.steps_per_epoch(world_size()))
        result = train(penalised, mixture, loop, work)
        if recipe.strength:
            batches = [batch.to(model.device) for index in range(_rounds(recipe.fisher_batches, mixture))
                       for batch in mixture.build(index, rank(), world_size())]  # fmt: skip
            pattern = ewc_pattern(recipe.ewc_scope, model.branch(recipe.held(number)))
            consolidate(ewc, objective, batches[: recipe.fisher_batches], pattern)
        samples = {source.name: len(source.dataset) for source in mixture.sources}
        return _Trained(model, ewc, table, samples, result, int(objective.module.restarts))

    def _model(self, start: Path | None, stage: CodebookStage, batch: Batch) -> CometModel:
        """The model that the stage before left, or a new one of the first stage's senses."""
        if start is not None:
            return CometModel.from_pretrained(start)
        recipe = self.recipe
        return CometModel.from_features(
            self._senses(stage.pair, batch), seed=recipe.seed, steps=recipe.data.steps, codebook_sizes=[recipe.codes],
            **self._model_options(),
        )  # fmt: skip

    def _senses(self, pair: Sequence[str], batch: Batch) -> dict[str, dict[str, Any]]:
        """What a model is told of the senses of a stage, by the shapes of their sequences."""
        found: dict[str, dict[str, Any]] = {}
        for sense in pair:
            *grid, dim = batch.features[sense]["sequence"].shape[2:]
            found[sense] = {
                "feature_dim": dim, "grid": grid or None, "branch": self.recipe.branch(sense),
                "recurrent": sense in self.recipe.recurrent and not grid,
            }  # fmt: skip
        return found

    def score(self, model: CometModel) -> Downstream:
        """What the codes of a model are good for, by the recipe's evaluation."""
        reader = CometReader(
            model, self.pairs.extractor, self.recipe.data.steps, lambda sense: self.pairs.store(sense, {"of": "files"})
        )
        with place("evaluation"):
            return score_codes(self.recipe.evaluation, reader, reader.modalities, self.root, size=reader.size)

    def _save_extractors(self, model: CometModel) -> Callable[[Path], None]:
        data = self.recipe.data
        used = {sense: data.extractors[sense] for sense in model.modalities}
        saved = SavedExtractors(steps=data.steps, extractors=used)
        return lambda folder: save_extractors(saved, Path(data.nets), folder)

    def _stored(self) -> list[str]:
        """Senses whose features were computed elsewhere."""
        return [sense for sense, settings in self.recipe.data.extractors.items() if settings.stored]

    def _record(self, stage: Stage, start: Path | None, folder: Path, trained: _Trained) -> StageRecord:
        recipe, pairs = self.recipe, self.recipe.data.pairs
        data = [
            data_record(name, pairs[name].data, pairs[name].license, trained.samples[name],
                        pairs[name].folder(self.root))
            for name in stage.phases[0].data
        ]  # fmt: skip
        return StageRecord(
            system="comet", stage=stage_number(folder), name=folder.name,
            parent=start.name if start else None, trained=self._trained(self.stages.index(stage) + 1),
            modalities=list(trained.model.modalities), data=data, frozen=trained.frozen,
            base_model={"name": "frozen nets of single senses", "license": recipe.features_license},
            parameters=count_parameters(trained.model, lambda name: name.partition(".")[0]),
            hyperparameters={"method": stage.to_dict(), "stored": self._stored(), **self._common()},
            seed=recipe.seed, steps=0, seconds=0.0, limits=[*known_limits(self.root), *recipe.departures],
        )  # fmt: skip


def _rounds(batches: int, mixture: Mixture) -> int:
    """Micro-steps that give so many batches."""
    return math.ceil(batches / len(mixture.slots))


def _penalty(ewc: OnlineEwc, model: CometModel) -> Tensor:
    """EWC's penalty, its state on the model's device, to which the loop has moved that since."""
    state = ewc.state_dict()
    if any(each.device != model.device for each in state.values()):
        ewc.load_state_dict({name: each.to(model.device) for name, each in state.items()})
    return ewc.penalty(model.named_parameters())


def _save_ewc(ewc: OnlineEwc, folder: Path) -> None:
    (folder / _EWC).mkdir()
    save_file({name: each.cpu().contiguous() for name, each in ewc.state_dict().items()}, folder / _EWC / _STATE)


def _read_ewc(stage: Path) -> dict[str, Tensor]:
    name = f"{_EWC}/{_STATE}"
    if not (stage / name).exists():
        raise CheckpointError("the stage has no state of EWC", where=stage, fix="Train it with ewc above 0.")
    return dict(load(read_verified(stage)[1][name]))


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Run (or continue) a recipe; the last stage's folder is returned.

    Raises:
        ConfigError: naming file and key.
        FolderInUseError: another process works in `output`.
    """
    recipe = read_config(CometRecipe, "comet", config_source, overrides, imports)
    import_modules(recipe.features.imports if recipe.features else ())
    with place(str(config_source)):
        work = CometRun(recipe, output)
    return work.run(shared=False)[-1]


__all__ = ["CometRecipe", "CometRun", "run"]
