"""Give a CLIP new senses with UniAlign: jointly in one phase, or one after another, each stage a checkpoint."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
import yaml
from transformers import set_seed as seed_everything

from polysense.continual import apply_freezing
from polysense.data import Mixture, SampleDataset
from polysense.errors import ConfigError, UnknownModalityError
from polysense.metrics import class_embeddings
from polysense.modality import Modality, get_modality
from polysense.models.base import local_folder
from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor
from polysense.recipes import anchors
from polysense.recipes.config import import_modules, read_config
from polysense.recipes.evaluation import EvaluationSettings, Evaluator, metrics_record
from polysense.recipes.sources import SourceSettings, WorldSettings, class_names
from polysense.recipes.stages import StageRecord, finished, save_stage, stage_folder
from polysense.safety import read_json
from polysense.trainer import Hooks, LoopConfig, LoopState, train
from polysense.trainer.distributed import on_main
from polysense.trainer.supervised import SupervisedClassifier, SupervisedObjective
from polysense.trainer.unialign import ClassTable, ObjectiveSettings, UniAlignObjective

logger = logging.getLogger(__name__)


@dataclass(frozen=True, kw_only=True)
class SenseSettings:
    """How a registered sense is used here.

    Attributes:
        channels: values per pixel, cell or point, if not the registered number.
        tokenizer, processor: options that refine the registered spec's.
        templates: prompts for its class names.
    """

    channels: int | None = None
    tokenizer: Mapping[str, Any] = field(default_factory=dict)
    processor: Mapping[str, Any] = field(default_factory=dict)
    templates: Sequence[str] = ()

    def spec(self, name: str) -> Modality:
        """The registered spec, refined."""
        base = get_modality(name)
        return replace(
            base, channels=self.channels or base.channels, tokenizer={**base.tokenizer, **self.tokenizer},
            processor={**base.processor, **self.processor},
        )  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One stage.

    Attributes:
        name: of its folder.
        trains: senses that it trains; those the model lacks are added.
        steps: optimiser steps; the loop's number if `None`.
    """

    name: str
    trains: Sequence[str]
    steps: int | None = None


@dataclass(frozen=True, kw_only=True)
class UniAlignRecipe:
    """Config of `training/unialign/*.yaml`.

    Attributes:
        anchor: what to begin with: folder or Hub name of a CLIP or of a UniAlign checkpoint, which then learns more
            senses; or the name of a config in `training/anchors`, which is then trained first.
        anchor_license: for the model card, where `anchor` is not trained here.
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: the embedded world.
        model: fields of `UniAlignConfig`.
        senses: name to its settings; senses that are registered and not named here are used as registered.
        augmentation: options of the image processor's training augmentation.
        image_templates: prompts for the class names of images.
        sources: name to data set; a stage takes those whose modality it trains.
        objective: weights of the losses.
        stages: in order.
        bounds: steps of the fully supervised model of each added sense, the bound beside zero-shot figures; 0: none.
        bound_learning_rate: of these models.
        loop: see `LoopConfig`; `steps` holds for stages that give none.
        evaluation: what each stage is scored on.
        seed: of initial weights, order of data and augmentation.
        imports: modules that register what the config names.
    """

    anchor: str
    sources: Mapping[str, SourceSettings]
    stages: Sequence[StageSettings]
    loop: LoopConfig
    anchor_license: str = "see its card"
    data_root: str = "runs/world"
    world: WorldSettings | None = None
    model: Mapping[str, Any] = field(default_factory=dict)
    senses: Mapping[str, SenseSettings] = field(default_factory=dict)
    augmentation: Mapping[str, Any] = field(default_factory=dict)
    image_templates: Sequence[str] = ()
    objective: ObjectiveSettings = field(default_factory=ObjectiveSettings)
    bounds: int = 0
    bound_learning_rate: float = 1e-3
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 0
    imports: Sequence[str] = ()


class UniAlignRun:
    """A recipe at work in an output folder; whatever is finished there is not done again."""

    def __init__(self, recipe: UniAlignRecipe, output: Path) -> None:
        self.recipe, self.output, self.root = recipe, output, Path(recipe.data_root)
        self._check()
        on_main(self._write_config)
        if recipe.world is not None:
            world = recipe.world
            on_main(lambda: world.build(self.root))
        self.datasets: dict[str, SampleDataset] = {
            name: settings.data.open(self.root) for name, settings in recipe.sources.items()
        }
        self.anchor = self._anchor()

    def _check(self) -> None:
        """Refuse what would only fail hours later."""
        trained = {sense for stage in self.recipe.stages for sense in stage.trains}
        served = {settings.modality for settings in self.recipe.sources.values()}
        if missing := sorted(trained - served):
            raise UnknownModalityError(missing[0], sorted(served), where="stages: no source trains it")
        for sense in trained - {"image", "text"}:
            self._settings(sense).spec(sense)

    def _write_config(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        resolved = json.loads(json.dumps(asdict(self.recipe)))
        (self.output / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")

    def _settings(self, sense: str) -> SenseSettings:
        return self.recipe.senses.get(sense, SenseSettings())

    def _anchor(self) -> Path:
        named = Path(self.recipe.anchor)
        if named.exists() or "/" in self.recipe.anchor:
            return named
        config = read_config(anchors.AnchorRecipe, "anchors", self.recipe.anchor)
        config = replace(config, data_root=self.recipe.data_root, world=self.recipe.world)
        return anchors.train_anchor(config, self.output)

    def begin(self) -> tuple[UniAlignModel, UniAlignProcessor]:
        """Model and processor before the first stage: a CLIP with image and text only, or a UniAlign checkpoint."""
        folder = local_folder(self.anchor, {})
        if read_json(folder / "config.json").get("model_type") == UniAlignConfig.model_type:
            return UniAlignModel.from_pretrained(folder), UniAlignProcessor.from_pretrained(folder)
        model = UniAlignModel.from_clip(folder, seed=self.recipe.seed, **dict(self.recipe.model))
        processor = UniAlignProcessor.from_clip(folder)
        if self.recipe.augmentation:
            processor.senses["image"] = dict(self.recipe.augmentation)
        if self.recipe.image_templates:
            processor.templates["image"] = list(self.recipe.image_templates)
        return model, processor

    def add(self, model: UniAlignModel, processor: UniAlignProcessor, sense: str) -> None:
        """Give model and processor a sense that they lack."""
        settings = self._settings(sense)
        if sense not in model.modalities:
            model.add_modality(settings.spec(sense), seed=self.recipe.seed)
        if sense not in processor.modalities:
            processor.add_modality(settings.spec(sense), settings.templates)

    # ---- stages -------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """All stages; the last stage's folder is returned."""
        model, processor = self.begin()
        folder = self._finish(1, StageSettings(name="anchor", trains=()), model, processor, None, None, 0.0)
        for number, stage in enumerate(self.recipe.stages, start=2):
            parent, folder = folder, stage_folder(self.output, number, stage.name)
            if on_main(lambda at=folder: finished(at)):  # type: ignore[misc]
                model, processor = UniAlignModel.from_pretrained(folder), UniAlignProcessor.from_pretrained(folder)
                continue
            self._train(number, stage, model, processor, parent)
        return folder

    def _train(
        self, number: int, stage: StageSettings, model: UniAlignModel, processor: UniAlignProcessor, parent: Path
    ) -> None:
        for sense in stage.trains:
            self.add(model, processor, sense)
        table = model.freezing(stage.trains)
        apply_freezing(model, table)
        _log_parameters(model)
        started = time.monotonic()

        def finish(state: LoopState) -> None:
            seconds = time.monotonic() - started
            self._finish(number, stage, model, processor, parent, table, seconds)

        sources = self.sources_of(stage.trains)
        loop = replace(self.recipe.loop, steps=stage.steps or self.recipe.loop.steps, seed=self.recipe.seed)
        train(
            self.objective(model, processor, sources),
            self.mixture(processor, sources), loop, self.output / "training" / f"stage-{number}-{stage.name}",
            hooks=Hooks(on_stage_end=finish),
        )  # fmt: skip

    def sources_of(self, senses: Sequence[str]) -> list[str]:
        """Names of the sources that train any of `senses`."""
        return [name for name, settings in self.recipe.sources.items() if settings.modality in senses]

    def mixture(self, processor: UniAlignProcessor, sources: Sequence[str]) -> Mixture:
        """The batches of a stage."""
        chosen = [self.recipe.sources[name].source(name, self.root) for name in sources]
        return Mixture(chosen, processor.features, seed=self.recipe.seed)

    def objective(
        self, model: UniAlignModel, processor: UniAlignProcessor, sources: Sequence[str]
    ) -> UniAlignObjective:
        """The losses of a stage; the classes of every source of a sense that the model has bind, trained here or not."""
        evaluator = Evaluator(model, processor, self.recipe.evaluation)
        known = [name for name, settings in self.recipe.sources.items() if settings.modality in model.modalities]
        return UniAlignObjective(
            model,
            modalities=[self.recipe.sources[name].modality for name in sources],
            tables={name: table for name in known if (table := self._table(name, processor, evaluator)) is not None},
            texts={name: self.recipe.sources[name].text for name in sources},
            encode_text=evaluator.encode_text if not model.config.unified_text else _with_grad(model, processor),
            settings=self.recipe.objective,
        )

    def _table(self, name: str, processor: UniAlignProcessor, evaluator: Evaluator) -> ClassTable | None:
        modality = self.recipe.sources[name].modality
        names = class_names(self.datasets[name], modality)
        if not names:
            return None
        templates = processor.templates.get(modality, ["{}"])
        with torch.no_grad():
            return ClassTable(names, class_embeddings(names, templates, evaluator.encode_text).clone())

    def _finish(
        self, number: int, stage: StageSettings, model: UniAlignModel, processor: UniAlignProcessor,
        parent: Path | None, table: Mapping[str, bool] | None, seconds: float,
    ) -> Path:  # fmt: skip
        """Score and save a stage, on the main process; all wait for it."""
        folder = stage_folder(self.output, number, stage.name)

        def write() -> None:
            if finished(folder):
                return
            bounds = {sense: self.bound(sense) for sense in model.config.senses} if self.recipe.bounds else {}
            results = Evaluator(model, processor, self.recipe.evaluation).run(self.root, bounds)
            record = self._record(number, stage, model, parent, table or {".*": False}, seconds)
            parts = [model.save_pretrained, processor.save_pretrained]
            save_stage(folder, parts, record, metrics_record(results, self.recipe.seed))

        on_main(write)
        return folder

    def _record(
        self, number: int, stage: StageSettings, model: UniAlignModel, parent: Path | None, table: Mapping[str, bool],
        seconds: float,
    ) -> StageRecord:  # fmt: skip
        trained = stage.trains or ("image", "text")
        return StageRecord(
            system="unialign",
            stage=number,
            name=f"stage-{number}-{stage.name}",
            parent=None if parent is None else parent.name,
            trained=list(stage.trains),
            modalities=list(model.modalities),
            base_model={"name": self.recipe.anchor, "license": self.recipe.anchor_license},
            data=[self._data(name) for name in self.sources_of(trained)],
            frozen=table,
            parameters=model.parameter_table(),
            hyperparameters={
                "model": dict(self.recipe.model), "objective": asdict(self.recipe.objective),
                "loop": self.recipe.loop.to_dict(),
                "senses": {name: asdict(settings) for name, settings in self.recipe.senses.items()},
            },
            seed=self.recipe.seed,
            steps=(stage.steps or self.recipe.loop.steps) if stage.trains else 0,
            seconds=round(seconds, 1),
        )  # fmt: skip

    def _data(self, name: str) -> dict[str, Any]:
        settings = self.recipe.sources[name]
        return {"name": name, "samples": len(self.datasets[name]), "license": settings.license,
                "content_hash": settings.data.content_hash(self.root)}  # fmt: skip

    # ---- supervised bounds --------------------------------------------------------------------------------------

    def bound(self, sense: str) -> float:
        """Top-1 accuracy on the split "test" of a fully supervised model of one sense, trained once per output."""
        file = self.output / "bounds" / f"{sense}.json"
        if file.exists():
            return float(json.loads(file.read_text(encoding="utf-8"))["top1"])
        names = self.sources_of([sense])
        classes = tuple(sorted({label for name in names for label in class_names(self.datasets[name], sense)}))
        model, processor = self.begin()
        self.add(model, processor, sense)
        seed_everything(self.recipe.seed)
        classifier = SupervisedClassifier(model, classes).requires_grad_(True)
        loop = replace(self.recipe.loop, steps=self.recipe.bounds, learning_rate=self.recipe.bound_learning_rate)
        train(
            SupervisedObjective(classifier, sense), self.mixture(processor, names), loop,
            self.output / "training" / f"bound-{sense}",
        )  # fmt: skip
        top1, count = self._supervised_accuracy(classifier, processor, sense)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(json.dumps({"sense": sense, "top1": top1, "count": count}) + "\n", encoding="utf-8")
        return top1

    @torch.no_grad()
    def _supervised_accuracy(
        self, classifier: SupervisedClassifier, processor: UniAlignProcessor, sense: str
    ) -> tuple[float, int]:
        classifier.eval()
        right, count = 0, 0
        for settings in self.recipe.evaluation.splits.get("test", ()):
            dataset = settings.open(self.root)
            labels = dataset.labels(sense)
            rows = [i for i, label in enumerate(labels) if label is not None and sense in dataset[i].media]
            for start in range(0, len(rows), 64):
                chosen = rows[start : start + 64]
                refs = [dataset[i].ref(sense) for i in chosen]
                features = processor.features(sense, [r.open() for r in refs], facts=[r.facts for r in refs])
                best = classifier(sense, features).argmax(dim=-1).tolist()
                right += sum(classifier.classes[b] == labels[i] for b, i in zip(best, chosen, strict=True))
                count += len(chosen)
        if not count:
            raise ConfigError(f"the split 'test' has no labelled {sense} sample to measure the bound on",
                              fix="Add one to evaluation.splits.test, or set bounds: 0.")  # fmt: skip
        return right / count, count


def _with_grad(model: UniAlignModel, processor: UniAlignProcessor) -> Any:
    """Text encoder whose experts train with the rest (`unified_text`)."""
    return lambda texts: model.embed("text", processor.features("text", list(texts)))


def _log_parameters(model: UniAlignModel) -> None:
    table = model.parameter_table()
    base, trained = table["base"][0], sum(trainable for _, trainable in table.values())
    for part, (total, trainable) in table.items():
        logger.info("%-24s %12s parameters, %12s trained", part, f"{total:,}", f"{trainable:,}")
    logger.info("trained: %s parameters, %.2f %% of the base", f"{trained:,}", 100 * trained / base)


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Run (or continue) a recipe; the folder of its last stage is returned.

    Raises:
        ConfigError: naming file and key.
        FolderInUseError: another process works in `output`.
    """
    recipe = read_config(UniAlignRecipe, "unialign", config_source, overrides)
    import_modules([*recipe.imports, *imports])
    return UniAlignRun(recipe, output).run()


__all__ = ["UniAlignRecipe", "UniAlignRun", "run"]
