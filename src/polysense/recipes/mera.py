"""Teach a language model one sense after another with MERA: each stage a checkpoint (section 4; method-facts 4.2)."""

from __future__ import annotations

import json
import math
import shutil
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from transformers import AutoTokenizer, CLIPImageProcessorPil

from polysense.continual import Phase, Stage, apply_freezing, draw_replay, join_replay, run_stages
from polysense.continual.stage_adapter import (
    TRAINED,
    AdapterSettings,
    add_adapter,
    merge_adapter,
    read_adapters,
    save_adapter,
    trained_adapter,
)
from polysense.data import Mixture, SampleDataset, Source
from polysense.data.conversations import Conversations
from polysense.errors import ConfigError
from polysense.models.base import local_folder
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.recipes import anchors, llama_anchor, unialign
from polysense.recipes.config import import_modules, place, read_config, recipe_folder
from polysense.recipes.evaluation import metrics_record
from polysense.recipes.extension import Start, open_start
from polysense.recipes.sources import DatasetSettings, WorldSettings, data_record
from polysense.recipes.stages import StageRecord, save_stage
from polysense.trainer import LoopConfig, train
from polysense.trainer.distributed import on_main, world_size
from polysense.trainer.mera import CONNECTORS, MeraObjective
from polysense.trainer.resume import HARMLESS

_LANGUAGE_MODEL = r"(model\.language_model|lm_head)\..*"


@dataclass(frozen=True, kw_only=True)
class MeraSenseSettings:
    """How a sense reaches the language model.

    Attributes:
        encoder: folder or Hub name; or a config of `training/anchors` ("clip"), or of `training/unialign` after a
            colon ("unialign:world"), which is trained first. Senses of one encoder share it. Where a checkpoint is
            extended, one of its senses means that sense's encoder.
        connector, layer, pool: see `MeraForConditionalGeneration.add_modality`.
        processor: options of the sense's processor that replace those of its encoder's spec.
    """

    encoder: str
    connector: str | Mapping[str, Any] = "mlp"
    layer: int = -1
    pool: int = 1
    processor: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MeraSource:
    """A data set of one sense.

    Attributes:
        modality: the sense.
        data: where the samples come from.
        captions: whether it has captions, so that the first phase can use it.
        license: of the data, for the model card.
    """

    modality: str
    data: DatasetSettings
    captions: bool = True
    license: str = "unknown"


@dataclass(frozen=True, kw_only=True)
class PhaseSettings:
    """One of the trainings of a stage (Table 7).

    Attributes:
        learning_rates: peak rates of "connectors" and, where it trains, of the "language_model".
        batch_size: samples per optimiser step and process, all data sets together.
        epochs, steps: how long; one of them.
        replay: share of every earlier data set (realigning: of all data sets so far) that is trained on.
    """

    learning_rates: Mapping[str, float]
    batch_size: int
    epochs: float | None = None
    steps: int | None = None
    replay: float = 0.0


@dataclass(frozen=True, kw_only=True)
class MeraRecipe:
    """Config of `training/mera/*.yaml`.

    Attributes:
        llm: folder or Hub name of a causal language model with its tokenizer; or "llama", which is trained first.
        senses: name to its settings.
        sources: name to data set.
        stages: senses in the order in which they are learned.
        connector: first phase of every stage: the new connector, on captions.
        joint: second phase: the new connector and a fresh LoRA of the language model, on captions and questions.
        realign: last phase from the second stage on: all connectors, on replay alone; with a rate of its
            "language_model", that too. `None` leaves it out.
        merge: method by which the language model is merged after the second phase; `None` keeps it as trained.
        adapter: the LoRA.
        conversations: what samples are asked.
        loop: see `LoopConfig`; length, learning rates and warm-up are each phase's.
        warmup_share: share of a phase's steps in which the learning rate rises.
        llm_license: for the model card.
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: the embedded world.
        frozen_mib: mebibytes of the frozen encoders' tokens that a stage keeps in memory.
        seed: of initial weights, order of data and conversations.
        imports: modules that register what the config names.
    """

    llm: str
    senses: Mapping[str, MeraSenseSettings]
    sources: Mapping[str, MeraSource]
    stages: Sequence[str]
    connector: PhaseSettings
    joint: PhaseSettings
    loop: LoopConfig
    realign: PhaseSettings | None = None
    merge: str | None = "running_average"
    adapter: AdapterSettings = field(default_factory=AdapterSettings)
    conversations: Conversations = field(default_factory=Conversations)
    warmup_share: float = 0.03
    llm_license: str = "see its card"
    data_root: str = "runs/world"
    world: WorldSettings | None = None
    frozen_mib: int = 1024
    seed: int = 0
    imports: Sequence[str] = ()


class MeraRun:
    """A recipe at work in an output folder, where nothing is done twice; with a `start`, in place of the bare LLM."""

    def __init__(self, recipe: MeraRecipe, output: Path, start: Start | None = None) -> None:
        self.recipe, self.output, self.root, self.start = recipe, output, Path(recipe.data_root), start
        for sense in recipe.stages:
            if sense not in recipe.senses or not self._sources([sense]):
                raise ConfigError("a stage needs its sense's settings and a data set", where=f"stages: {sense}",
                                  fix="Add them under senses and sources.")  # fmt: skip
        if start is not None:
            start.check(recipe.stages, [each.modality for each in recipe.sources.values()], recipe.merge)
        if recipe.world is not None:
            world = recipe.world
            on_main(lambda: world.build(self.root))
        self.datasets: dict[str, SampleDataset] = {}
        for name, source in recipe.sources.items():
            with place(f"sources: {name}: data"):
                self.datasets[name] = source.data.open(self.root)
        self.stages = [self._stage(number) for number in range(1, len(recipe.stages) + 1)]
        on_main(self._write_config)
        self.llm: Any = self._llm() if start is None else None

    def _write_config(self) -> None:
        self.output.mkdir(parents=True, exist_ok=True)
        resolved = json.loads(json.dumps(asdict(self.recipe)))
        (self.output / "config.yaml").write_text(yaml.safe_dump(resolved, sort_keys=False), encoding="utf-8")

    # ---- what the stages are ------------------------------------------------------------------------------------

    def _stage(self, number: int) -> Stage:
        """Stage `number`; the first has nothing to merge with and nothing to realign (method-facts 4.2)."""
        recipe, seen = self.recipe, [*(self.start.senses if self.start else ()), *self.recipe.stages[:number]]
        later = len(seen) > 1
        own, captioned = self._sources(seen[-1:]), self._sources(seen[-1:], captions=True)
        joint = recipe.joint if later else replace(recipe.joint, replay=0.0)
        phases = [
            self._phase("connector", recipe.connector, _trains(seen[-1:]), captioned),
            self._phase("joint", joint, {**_trains(seen[-1:]), TRAINED: True}, own),
        ]
        if later and recipe.realign is not None:
            whole = {_LANGUAGE_MODEL: True} if "language_model" in recipe.realign.learning_rates else {}
            replayed = [sense for sense in seen if self._sources([sense])]
            phases.append(self._phase("realign", recipe.realign, {**_trains(replayed), **whole}, []))
        options = {
            "merge": recipe.merge if later else None,
            "sense": json.loads(json.dumps(asdict(recipe.senses[seen[-1]]))),
            "data": {name: recipe.sources[name].data.content_hash(self.root) for name in own},
        }
        return Stage(name=seen[-1], modality=seen[-1], phases=phases, options=options)

    def _phase(self, name: str, settings: PhaseSettings, trains: Mapping[str, bool], data: Sequence[str]) -> Phase:
        with place(name):
            return Phase(name=name, trains=trains, data=data, **{**asdict(settings)})

    def _sources(self, senses: Sequence[str], *, captions: bool = False) -> list[str]:
        found = self.recipe.sources.items()
        return [name for name, each in found if each.modality in senses and (each.captions or not captions)]

    def _common(self) -> dict[str, Any]:
        """What all stages depend on, for their folders' names."""
        recipe = self.recipe
        loop = {key: value for key, value in recipe.loop.to_dict().items() if key not in HARMLESS}
        values = {"llm": recipe.llm, "adapter": asdict(recipe.adapter), "seed": recipe.seed, "loop": loop,
                  "conversations": asdict(recipe.conversations), "warmup_share": recipe.warmup_share}  # fmt: skip
        return dict(json.loads(json.dumps(values)))

    # ---- parts --------------------------------------------------------------------------------------------------

    def _llm(self) -> Path:
        if self._elsewhere(self.recipe.llm):
            return local_folder(self.recipe.llm, {})
        return llama_anchor.run(self.recipe.llm, self.output, [f"seed={self.recipe.seed}"])

    def _encoder(self, name: str) -> Path:
        """The folder of an encoder, which is trained if it is the name of a config."""
        system, colon, config = name.rpartition(":")
        if colon and system == "unialign":
            world = self.recipe.world
            built = [] if world is None else [f"world.{key}={value}" for key, value in asdict(world).items()]
            overrides = [f"data_root={self.root}", *built]
            return unialign.run(config, self.output / f"unialign-{config}", overrides)
        if self._elsewhere(name):
            return local_folder(name, {})
        recipe = read_config(anchors.AnchorRecipe, "anchors", name)
        return anchors.train_anchor(replace(recipe, data_root=str(self.root), world=self.recipe.world), self.output)

    @staticmethod
    def _elsewhere(name: str) -> bool:
        """Whether a name is a folder or a repository, not a config of `training/anchors`."""
        return Path(name).exists() or not (recipe_folder() / "anchors" / f"{name}.yaml").exists()

    def begin(self, start: Path | None, sense: str) -> tuple[MeraForConditionalGeneration, MeraProcessor]:
        """Model and processor of the stage before, or the bare language model, with one more sense."""
        settings = self.recipe.senses[sense]
        shared = [name for name, each in self.recipe.senses.items() if each.encoder == settings.encoder]
        if start is not None:
            model = MeraForConditionalGeneration.from_pretrained(start)
            processor = MeraProcessor.from_pretrained(start)
        else:
            tokenizer = AutoTokenizer.from_pretrained(self.llm)
            model = MeraForConditionalGeneration.from_parts(self.llm, tokenizer=tokenizer)
            pictures = CLIPImageProcessorPil.from_pretrained(self._encoder(settings.encoder))
            processor = MeraProcessor(pictures, tokenizer)
        known = [model.config.senses[name].encoder for name in shared if name in model.modalities]
        known += [name for name in model.model.encoders if name == settings.encoder]
        with place(f"senses: {sense}"):
            model.add_modality(
                sense, known[0] if known else self._encoder(settings.encoder), settings.connector,
                layer=settings.layer, pool=settings.pool, seed=self.recipe.seed, tokenizer=processor.tokenizer,
            )  # fmt: skip
            processor.add_modality(model.model.sense(sense).modality, model.token_layout(sense), **settings.processor)
        return model, processor

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def run(self) -> list[Path]:
        """All stages; their folders are returned."""
        follows = {} if self.start is None else self.start.place
        return run_stages(self.stages, self.output / "stages", self._train, common=self._common(), **follows)

    def _train(self, stage: Stage, start: Path | None, folder: Path) -> None:
        """Train a stage and write its folder; phases that are finished give their weights back at once."""
        started, steps = time.monotonic(), 0
        model, processor = self.begin(start, stage.modality)
        features = FrozenTokens(model, processor, self.recipe.frozen_mib << 20)
        for phase in stage.phases:
            adapted = phase.name == "joint"
            settings, seed = self.recipe.adapter, self.recipe.seed
            wrapped = add_adapter(model, settings, stage=_number(folder), seed=seed) if adapted else None
            steps += self._train_phase(phase, model, processor, features, folder)
            if adapted:
                self._merge(stage, wrapped, start, folder)
        record = self._record(stage, model, start, folder)
        record = replace(record, steps=steps, seconds=round(time.monotonic() - started, 1))

        def adapters(target: Path) -> None:
            if start is not None and (start / "adapters").exists():
                shutil.copytree(start / "adapters", target / "adapters")
            shutil.copytree(self._work(folder) / "adapter", target / "adapters" / f"stage-{record.stage}")

        parts = [model.save_pretrained, processor.save_pretrained, adapters]
        on_main(lambda: save_stage(folder, parts, record, metrics_record([], self.recipe.seed)))

    def _train_phase(
        self, phase: Phase, model: MeraForConditionalGeneration, processor: MeraProcessor, features: FrozenTokens,
        folder: Path,
    ) -> int:  # fmt: skip
        """Train one phase, or go on with it; its optimiser steps are returned."""
        apply_freezing(model, phase.trains)
        seed, asked = self.recipe.seed, self.recipe.conversations
        if phase.name == "connector":
            asked = replace(asked, tasks=("caption",))
        datasets = self._data(phase, list(model.modalities))
        size = max(1, phase.batch_size // len(datasets))
        sources = []
        for name, dataset in datasets.items():
            sense = self.recipe.sources[name].modality
            length = partial(asked.words, modality=sense, seed=seed)  # little is padded then
            sources.append(Source(name=name, modality=sense, dataset=dataset, batch_size=size, length=length))
        mixture = Mixture(sources, features, seed=seed, augment=False)
        objective = MeraObjective(model, processor, asked, modalities=mixture.slots, seed=seed)
        loop = self._loop(phase, mixture)
        return train(objective, mixture, loop, self._work(folder) / phase.name).step

    def _data(self, phase: Phase, senses: Sequence[str]) -> dict[str, SampleDataset]:
        """The data sets of a phase; realigning replays all senses so far, the new one among them (section 4.2)."""
        own = {name: self.datasets[name] for name in phase.data}
        if not phase.replay:
            return own
        others = {name: self.datasets[name] for name in self._sources(senses) if name not in own}
        if not own:
            return dict(draw_replay(others, phase.replay, self.recipe.seed))
        others = {name: each for name, each in others.items() if self.recipe.sources[name].modality != senses[-1]}
        return join_replay(own, others, phase.replay, self.recipe.seed)

    def _loop(self, phase: Phase, mixture: Mixture) -> LoopConfig:
        """The recipe's loop with a phase's length and learning rates: one for connectors, one for the rest."""
        rates = phase.learning_rates
        peak = rates.get("language_model", rates["connectors"])
        epochs = (phase.epochs or 0) * mixture.steps_per_epoch(world_size()) / self.recipe.loop.accumulation
        steps = phase.steps or max(1, math.ceil(epochs))
        return replace(
            self.recipe.loop, steps=steps, epochs=0, seed=self.recipe.seed, learning_rate=peak,
            lr_multipliers={CONNECTORS: rates["connectors"] / peak},
            warmup_steps=math.ceil(self.recipe.warmup_share * steps),
        )  # fmt: skip

    def _merge(self, stage: Stage, wrapped: Any, start: Path | None, folder: Path) -> None:
        """Keep the trained adapter and merge it into the language model, from the base weights where they serve."""
        name = None if (method := stage.options["merge"]) is None else str(method)
        adapter = trained_adapter(wrapped, stage=_number(folder), method=name)
        realign = self.recipe.realign
        if realign is not None and "language_model" in realign.learning_rates and adapter.stage > 1:
            adapter = replace(adapter, whole=False)

        def keep() -> None:
            target = self._work(folder) / "adapter"
            shutil.rmtree(target, ignore_errors=True)
            save_adapter(wrapped, target, adapter, method=name)

        on_main(keep)
        earlier = [] if start is None else read_adapters(start)
        base = None if self.start or not earlier else MeraForConditionalGeneration.from_parts(self.llm).state_dict()
        merge_adapter(wrapped, adapter, method=name, base=base, earlier=earlier)

    def _work(self, folder: Path) -> Path:
        """Where the trainings of a stage leave their checkpoints and logs."""
        return self.output / "training" / folder.name

    def _record(self, stage: Stage, model: Any, start: Path | None, folder: Path) -> StageRecord:
        recipe = self.recipe
        own = [(name, recipe.sources[name]) for name in self._sources([stage.modality])]
        data = [data_record(name, each.data, each.license, len(self.datasets[name]), self.root) for name, each in own]
        origin = {"name": recipe.llm, "license": recipe.llm_license} if self.start is None else self.start.base_model
        frozen = {f"{phase.name}: {key}": value for phase in stage.phases for key, value in phase.trains.items()}
        chosen = {"method": stage.to_dict(), **self._common()}
        return StageRecord(
            system="mera", stage=_number(folder), name=folder.name, parent=start.name if start else None,
            trained=[stage.modality], modalities=[*model.modalities, "text"], data=data, frozen=frozen,
            base_model=origin, parameters=model.parameter_table(),
            hyperparameters=chosen, seed=recipe.seed, steps=0, seconds=0.0,
        )  # fmt: skip


def _trains(senses: Sequence[str]) -> dict[str, bool]:
    """Freezing table of the connectors of some senses."""
    return {".*": False, **{rf"model\.connectors\.{sense}\..*": True for sense in senses}}


def _number(folder: Path) -> int:
    return int(folder.name.split("-")[1])


def run(
    config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = (),
    start: str | Path | None = None,
) -> Path:  # fmt: skip
    """Run (or continue) a recipe, from a MERA checkpoint or from its bare language model; the last stage is returned.

    Raises:
        ConfigError: naming file and key, or a sense that `start` has already.
        CheckpointError: `start` is no MERA checkpoint, or damaged.
        FolderInUseError: another process works in `output`.
    """
    recipe = read_config(MeraRecipe, "mera", config_source, overrides)
    import_modules([*recipe.imports, *imports])
    begun = None if start is None else open_start(start)
    with place(str(config_source)):
        work = MeraRun(recipe, output, begun)
    return work.run()[-1]


__all__ = ["MeraRecipe", "MeraRun", "run"]
