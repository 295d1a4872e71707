"""Give a CLIP new senses with UniAlign: jointly in one phase, or one after another, each stage a checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import torch

from polysense.continual import apply_freezing
from polysense.data import Mixture
from polysense.errors import ConfigError
from polysense.modality import Modality, get_modality
from polysense.models.base import local_folder
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.processing import CachedFeatures
from polysense.recipes import anchors, checks
from polysense.recipes.beside import Wait
from polysense.recipes.bounds import supervised_accuracy
from polysense.recipes.class_texts import class_table, text_encoder, trains_text
from polysense.recipes.config import import_modules, place, read_config
from polysense.recipes.evaluation import EvaluationSettings, Evaluator, metrics_record
from polysense.recipes.senses import SenseSettings, check_sense
from polysense.recipes.sources import SourceSettings, WorldSettings, class_names, data_record, open_sources
from polysense.recipes.stages import (
    StageRecord,
    check_output,
    finished,
    known_limits,
    log_parameters,
    origin,
    running,
    save_stage,
    stage_folder,
    warn_of_changes,
)
from polysense.storage import write_whole, writing
from polysense.trainer import Hooks, LoopConfig, LoopState, train
from polysense.trainer.distributed import on_main, world_size
from polysense.trainer.supervised import SupervisedClassifier, SupervisedObjective
from polysense.trainer.unialign import ALIGNMENT_TERMS, ClassTable, ObjectiveSettings, UniAlignObjective


@dataclass(frozen=True, kw_only=True)
class StageSettings:
    """One stage.

    Attributes:
        name: of its folder.
        trains: senses that it trains, those the model lacks being added; and text, if the model encodes it by experts
            (`unified_text`).
        steps, epochs: how long; one of them, or the loop's if neither is given.

    Raises:
        ConfigError: a negative length, or both.
    """

    name: str
    trains: Sequence[str]
    steps: int = 0
    epochs: int = 0

    def __post_init__(self) -> None:
        if min(self.steps, self.epochs) < 0 or (self.steps and self.epochs):
            raise ConfigError(f"steps is {self.steps} and epochs is {self.epochs}", fix="Give one of them.")


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
        cache_mib: mebibytes of decoded samples that a stage keeps in memory, so that later epochs only augment.
        loop: see `LoopConfig`; its `steps` or `epochs` hold for stages that give none.
        evaluation: what each stage is scored on.
        seed: of initial weights, order of data and augmentation.
        imports: modules that register what the config names.

    Raises:
        ConfigError: a negative number of steps of the bounds, or of mebibytes.
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
    cache_mib: int = 0
    evaluation: EvaluationSettings = field(default_factory=EvaluationSettings)
    seed: int = 0
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        if min(self.bounds, self.cache_mib) < 0:
            raise ConfigError(f"bounds is {self.bounds} and cache_mib is {self.cache_mib}", fix="Give at least 0.")


@dataclass(frozen=True)
class _Training:
    """What `stage.json` says of how a stage came about."""

    parent: Path | None
    frozen: Mapping[str, bool]
    steps: int
    seconds: float


class UniAlignRun:
    """A recipe at work in an output folder; whatever is finished there is not done again.

    Attributes:
        wait: waits for a file that another process makes (see `beside`); `None` where there is none.

    Raises:
        ConfigError: what would only fail once stages have been trained, naming its place in the config.
        CheckpointError: the anchor cannot be found or is damaged.
    """

    wait: Wait | None = None

    def __init__(self, recipe: UniAlignRecipe, output: Path) -> None:
        self.recipe, self.output, self.root = recipe, output, Path(recipe.data_root)
        added = self._check()
        check_output(output)
        if recipe.world is not None:
            recipe.world.build(self.root)
        self.datasets = open_sources(recipe.sources, self.root)
        with place("evaluation"):
            recipe.evaluation.check(self.root, ["image", *added])
        names = ["anchor", *(stage.name for stage in recipe.stages)]
        self.folders = [stage_folder(output, number, name) for number, name in enumerate(names, start=1)]
        checks.check_kept(self.folders, recipe.model)
        trained = self._anchor_recipe()
        self.anchor = Path(recipe.anchor) if trained is None else anchors.train_anchor(trained, output)
        checks.check_model(local_folder(self.anchor, {}), recipe.model, added)
        checks.warn_of_kept(local_folder(self.anchor, {}), recipe.senses, recipe.augmentation, recipe.image_templates)

    def _check(self) -> dict[str, Modality]:
        """Refuse what would only fail hours later; the specs of all senses that are added."""
        recipe, added = self.recipe, {}
        served = [settings.modality for settings in recipe.sources.values()]
        checks.check_stages([(stage.name, stage.trains) for stage in recipe.stages], served)
        checks.check_text([stage.trains for stage in recipe.stages], recipe.model, self._given_anchor())
        for name in dict.fromkeys(sense for stage in recipe.stages for sense in stage.trains):
            if name not in {"image", "text"}:
                with place(f"senses: {name}"):
                    added[name] = self._settings(name).spec(name)
                check_sense(added[name], self._settings(name).templates, f"senses: {name}")
        image = replace(get_modality("image"), processor=recipe.augmentation)
        check_sense(image, recipe.image_templates, "augmentation and image_templates")
        checks.check_model_options(recipe.model, added)
        with place("objective"):
            ALIGNMENT_TERMS.check(recipe.objective.terms)
        self._anchor_recipe()
        return added

    def _settings(self, sense: str) -> SenseSettings:
        return self.recipe.senses.get(sense, SenseSettings())

    def _given_anchor(self) -> str | None:
        """Folder or Hub name of an anchor that is not trained here."""
        given = Path(self.recipe.anchor).exists() or "/" in self.recipe.anchor
        return self.recipe.anchor if given else None

    def _anchor_recipe(self) -> anchors.AnchorRecipe | None:
        """How the anchor is trained here; `None` for a folder or Hub name."""
        if self._given_anchor() is not None:
            return None
        config = read_config(anchors.AnchorRecipe, "anchors", self.recipe.anchor)
        return replace(config, data_root=self.recipe.data_root, world=self.recipe.world)

    def begin(self) -> tuple[UniAlignModel, UniAlignProcessor]:
        """Model and processor before the first stage: a CLIP with image and text only, or a UniAlign checkpoint."""
        folder = local_folder(self.anchor, {})
        if checks.is_unialign(folder):
            return UniAlignModel.from_pretrained(folder), UniAlignProcessor.from_pretrained(folder)
        options = {key: value for key, value in self.recipe.model.items() if key != "image_tokenized"}
        model = UniAlignModel.from_clip(folder, seed=self.recipe.seed, **options)
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
            if sense in self.recipe.model.get("image_tokenized", ()):
                model.config.image_tokenized = [*model.config.image_tokenized, sense]
        if sense not in processor.modalities:
            processor.add_modality(settings.spec(sense), settings.templates)

    # ---- stages -------------------------------------------------------------------------------------------------

    def run(self) -> Path:
        """All stages; the last stage's folder is returned."""
        with running(self.recipe, self.output, self.folders):
            return self._stages()

    def _stages(self) -> Path:
        model, processor = self.begin()
        anchor = StageSettings(name="anchor", trains=())
        folder = self._finish(1, anchor, model, processor, _Training(None, {".*": False}, 0, 0.0))
        for number, stage in enumerate(self.recipe.stages, start=2):
            parent, folder = folder, self.folders[number - 1]
            if self._finished(folder, stage):
                model, processor = UniAlignModel.from_pretrained(folder), UniAlignProcessor.from_pretrained(folder)
                continue
            self._train(number, stage, model, processor, parent)
        return folder

    def _train(
        self, number: int, stage: StageSettings, model: UniAlignModel, processor: UniAlignProcessor, parent: Path
    ) -> None:
        for sense in stage.trains:
            self.add(model, processor, sense)
        model.unmask_experts(stage.trains)
        apply_freezing(model, table := model.freezing(stage.trains))
        log_parameters(model)

        def finish(state: LoopState) -> None:
            self._finish(number, stage, model, processor, _Training(parent, table, state.step, state.seconds))

        sources = self.sources_of(stage.trains)
        mixture = self.mixture(processor, sources)
        train(
            self.objective(model, processor, sources), mixture, self._loop(mixture, stage.steps, stage.epochs),
            self.output / "training" / self.folders[number - 1].name, hooks=Hooks(on_stage_end=finish),
        )  # fmt: skip

    def _loop(self, mixture: Mixture, steps: int, epochs: int) -> LoopConfig:
        """The recipe's loop with a stage's own length, if it has one."""
        loop = replace(self.recipe.loop, seed=self.recipe.seed).lasting(steps, epochs)
        return loop.in_steps(mixture.steps_per_epoch(world_size()))

    def sources_of(self, senses: Sequence[str]) -> list[str]:
        """Names of the sources that train any of `senses`."""
        return [name for name, settings in self.recipe.sources.items() if settings.modality in senses]

    def mixture(self, processor: UniAlignProcessor, sources: Sequence[str]) -> Mixture:
        """The batches of a stage."""
        chosen = [self.recipe.sources[name].source(name, self.datasets[name]) for name in sources]
        cached = CachedFeatures(processor.part, self.recipe.cache_mib << 20)
        return Mixture(chosen, cached if self.recipe.cache_mib else processor.features, seed=self.recipe.seed)

    def objective(
        self, model: UniAlignModel, processor: UniAlignProcessor, sources: Sequence[str]
    ) -> UniAlignObjective:
        """The losses of a stage; classes of every source of a sense that the model has bind, trained here or not."""
        model.eval()
        encode = text_encoder(model, processor)
        known = {name: self.recipe.sources[name].modality for name in self.sources_of(model.modalities)}
        classes = {name: (class_names(self.datasets[name], sense), sense) for name, sense in known.items()}

        def table(name: str) -> ClassTable:
            return class_table(*classes[name], processor, encode)

        with torch.no_grad():
            tables = {name: table(name) for name, (names, _) in classes.items() if names}
        return UniAlignObjective(
            model, modalities=[self.recipe.sources[name].modality for name in sources], tables=tables,
            texts={name: self.recipe.sources[name].text for name in sources}, encode_text=encode,
            settings=self.recipe.objective, follow=table if trains_text(model) else None,
        )  # fmt: skip

    def _finish(
        self, number: int, stage: StageSettings, model: UniAlignModel, processor: UniAlignProcessor,
        training: _Training,
    ) -> Path:  # fmt: skip
        """Score and save a stage, on the main process; all wait for it."""
        folder = self.folders[number - 1]
        if self._finished(folder, stage):
            return folder
        ours = {sense for each in self.recipe.stages for sense in each.trains} & set(model.config.senses)
        bounds = {sense: self.bound(sense) for sense in sorted(ours)} if self.recipe.bounds else {}  # all processes

        def write() -> None:
            results = Evaluator(model, processor, self.recipe.evaluation).run(self.root, bounds)
            record = self._record(number, stage, model, training)
            parts = [model.save_pretrained, processor.save_pretrained]
            save_stage(folder, parts, record, metrics_record(results, self.recipe.seed))

        on_main(write)
        return folder

    def _finished(self, folder: Path, stage: StageSettings) -> bool:
        """Whether a stage is there; a warning tells of every setting that it was not made with."""

        def look() -> bool:
            if there := finished(folder):
                warn_of_changes(folder, self._chosen(stage))
            return there

        return on_main(look)

    def _record(self, number: int, stage: StageSettings, model: UniAlignModel, training: _Training) -> StageRecord:
        return StageRecord(
            system="unialign", stage=number, name=self.folders[number - 1].name,
            parent=None if training.parent is None else training.parent.name, modalities=list(model.modalities),
            frozen=training.frozen, parameters=model.parameter_table(), steps=training.steps,
            seconds=round(training.seconds, 1), limits=known_limits(self.root), **self._chosen(stage),
        )  # fmt: skip

    def _chosen(self, stage: StageSettings) -> dict[str, Any]:
        """What the config decides of a stage's record."""
        return {
            "trained": list(stage.trains),
            "base_model": origin(self.recipe.anchor, self.recipe.anchor_license),
            "data": [self._data(name) for name in self.sources_of(stage.trains or ("image", "text"))],
            "hyperparameters": {
                "model": dict(self.recipe.model), "objective": self.recipe.objective.to_dict(),
                "loop": self.recipe.loop.to_dict(),
                "senses": {name: asdict(settings) for name, settings in self.recipe.senses.items()},
            },
            "seed": self.recipe.seed,
        }  # fmt: skip

    def _data(self, name: str) -> dict[str, Any]:
        settings = self.recipe.sources[name]
        return data_record(name, settings.data, settings.license, len(self.datasets[name]), self.root)

    def bound(self, sense: str) -> float:
        """Top-1 accuracy on the split "test" of a fully supervised model of one sense, trained once per output."""
        file = self.output / "bounds" / f"{sense}.json"
        if self.wait is not None:
            self.wait(file)
        if on_main(file.exists):
            return float(json.loads(file.read_text(encoding="utf-8"))["top1"])
        names = self.sources_of([sense])
        classes = tuple(sorted({label for name in names for label in class_names(self.datasets[name], sense)}))
        model, processor = self.begin()
        self.add(model, processor, sense)
        head = Evaluator(model, processor, self.recipe.evaluation).classifier(classes, sense)
        classifier = SupervisedClassifier(model, classes, head).requires_grad_(True)
        mixture = self.mixture(processor, names)
        loop = replace(self._loop(mixture, self.recipe.bounds, 0), learning_rate=self.recipe.bound_learning_rate)
        train(SupervisedObjective(classifier, sense), mixture, loop, self.output / "training" / f"bound-{sense}")

        def score() -> float:
            evaluator = Evaluator(classifier.encoder, processor, self.recipe.evaluation)
            top1, count = supervised_accuracy(classifier, evaluator, self.root, sense)
            with writing(file):
                write_whole(file, json.dumps({"sense": sense, "top1": top1, "count": count}) + "\n")
            return top1

        return on_main(score)


def train_bounds(recipe: UniAlignRecipe, output: Path) -> None:
    """All bounds of a recipe, in the order in which its stages ask for them."""
    import_modules(recipe.imports)
    run = UniAlignRun(recipe, output)
    for stage in recipe.stages:
        for sense in sorted({*stage.trains} - {"image", "text"}):
            run.bound(sense)


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Run (or continue) a recipe; the folder of its last stage is returned.

    Raises:
        ConfigError: naming file and key.
        FolderInUseError: another process works in `output`.
    """
    recipe = read_config(UniAlignRecipe, "unialign", config_source, overrides, imports)
    with place(str(config_source)):
        work = UniAlignRun(recipe, output)
    return work.run()


__all__ = ["UniAlignRecipe", "UniAlignRun", "run"]
