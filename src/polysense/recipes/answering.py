"""Score what a MERA model says: captions by CIDEr-D, answers to questions by a judge (MERA, section 5.1)."""

from __future__ import annotations

import json
import logging
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

from tqdm.auto import tqdm

from polysense.data import Sample, SampleDataset, keyed_rng
from polysense.data.conversations import Conversations, Task, Turn, messages
from polysense.errors import ConfigError
from polysense.metrics import cider_d, mean_interval, proportion_interval
from polysense.metrics.judging import Answer, Judge, Judgement, LlmJudge, LlmJudgeOptions, NormalisedMatchJudge
from polysense.metrics.judging.matching import normalised
from polysense.metrics.tokenizers import caption_tokenizer
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.frozen_tokens import FrozenTokens
from polysense.recipes.config import check_positive, place
from polysense.recipes.evaluation import Result, metrics_record
from polysense.recipes.kept_answers import Asked, KeptAnswers
from polysense.recipes.sources import DatasetSettings
from polysense.trainer.mera import feature_counts

logger = logging.getLogger(__name__)

VERDICTS, ANSWERS = "verdicts.jsonl", "answers"
"""File of a language model's verdicts, beside the trainings of a run; folder of answers, beside a stage's phases."""

CAPTIONING, ANSWERING = "captioning", "question answering"


@dataclass(frozen=True, kw_only=True)
class JudgeSettings:
    """Who decides which answers are right.

    Attributes:
        model: name of a chat model behind an OpenAI-compatible endpoint; `None` compares normalised texts.
        options: see `LlmJudgeOptions`.
    """

    model: str | None = None
    options: LlmJudgeOptions = field(default_factory=LlmJudgeOptions)

    def judge(self, record: Path | None = None) -> Judge:
        """The judge; verdicts of a language model are kept in the file `record`."""
        return NormalisedMatchJudge() if self.model is None else LlmJudge(self.model, self.options, record=record)


@dataclass(frozen=True, kw_only=True)
class TestSet:
    """A data set that one sense is tested on.

    Attributes:
        modality: the sense.
        data: where the samples come from.
    """

    __test__ = False  # pytest takes every class with such a name for its own

    modality: str
    data: DatasetSettings


@dataclass(frozen=True, kw_only=True)
class AnsweringSettings:
    """What a stage is asked, and how its answers are scored.

    Attributes:
        tests: name to data set; those of senses that the model lacks wait for their stage.
        limit: most samples of a data set, drawn by a key that all runs share; `None` takes all.
        questions: most questions about one sample, drawn likewise; `None` asks all.
        batch_size: prompts answered at once.
        max_new_tokens: length at which an answer is cut off.
        tokenizer: of CIDEr-D; "ptb" or "whitespace".
        judge: of the answers to questions.
    """

    tests: Mapping[str, TestSet] = field(default_factory=dict)
    limit: int | None = None
    questions: int | None = None
    batch_size: int = 64
    max_new_tokens: int = 32
    tokenizer: str = "ptb"
    judge: JudgeSettings = field(default_factory=JudgeSettings)

    def __post_init__(self) -> None:
        check_positive(self, "limit", "questions", "batch_size", "max_new_tokens")
        with place("tokenizer"):
            caption_tokenizer(self.tokenizer)


@dataclass(frozen=True)
class Said:
    """What a model said about one sample.

    Attributes:
        references: everything that is right.
    """

    dataset: str
    sample: str
    modality: str
    task: Task
    prompt: str
    references: tuple[str, ...]
    prediction: str

    @property
    def reference(self) -> str:
        """What a judge compares with: the right answer that was given, else the most frequent of the right ones."""
        given = [each for each in self.references if normalised(each) == normalised(self.prediction)]
        return given[0] if given else Counter(self.references).most_common(1)[0][0]


@dataclass(frozen=True)
class Answers:
    """Everything that was asked, and what it scored.

    Attributes:
        results: one figure per task and data set; a task whose answers were not judged has none.
        judgements: data set to the judge's summary.
    """

    said: tuple[Said, ...]
    results: tuple[Result, ...]
    judgements: Mapping[str, Judgement]

    def record(self, seed: int | None) -> dict[str, Any]:
        """What `metrics.json` holds, with the judge's summaries."""
        judged = {name: each.to_dict() for name, each in self.judgements.items()}
        return {**metrics_record(self.results, seed), "judgements": judged}

    def write(self, folder: Path) -> None:
        """`answers.jsonl`: one line per answer, for people to read and other judges to judge."""
        lines = [json.dumps(asdict(each), ensure_ascii=False) for each in self.said]
        (folder / "answers.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")


class AnswerEvaluator:
    """Asks one model about files, greedily decoded, and scores what it says.

    Args:
        model: in whichever mode; it is left in evaluation mode.
        features: frozen tokens of the encoders; a `FrozenTokens` of no memory by default.
        verdicts: file in which a language model's verdicts are kept, so that none is asked for twice.
        kept: what this model answered before, so that it is not asked twice either.
    """

    def __init__(
        self,
        model: MeraForConditionalGeneration,
        processor: MeraProcessor,
        settings: AnsweringSettings,
        conversations: Conversations,
        *,
        features: FrozenTokens | None = None,
        verdicts: Path | None = None,
        kept: KeptAnswers | None = None,
    ) -> None:
        self.model, self.processor = model.eval(), processor
        self.settings, self.conversations = settings, conversations
        self.features = features or FrozenTokens(model, processor, 0)
        self.judge, self.kept = settings.judge.judge(verdicts), kept

    def run(self, root: Path) -> Answers:
        """Ask and score every test of a sense that the model has.

        Args:
            root: data root of the tests' data sets.

        Raises: see `on`.
        """
        tests = self.settings.tests.items()
        known = {name: test for name, test in tests if test.modality in self.model.modalities}
        return self.on((name, test.modality, test.data.open(root)) for name, test in known.items())

    def on(self, tests: Iterable[tuple[str, str, SampleDataset]]) -> Answers:
        """Ask and score data sets, each one given as its name, the sense that it is about, and its samples.

        A judgement that is not complete is warned of.

        Raises:
            ManifestError, MediaError: a sample has nothing to ask about, or a file cannot be used.
            ConfigError: fewer than two captions, or a judge that cannot be asked.
        """
        said: list[Said] = []
        results: list[Result] = []
        judgements: dict[str, Judgement] = {}
        for name, modality, dataset in tests:
            own = self.ask(dataset, modality, name)
            figures, judgement = self.score(own)
            said, results = said + own, results + figures
            if judgement is not None:
                judgements[name] = judgement
                if not judgement.complete:
                    logger.warning("%s: %s", name, judgement.shortfall)
        return Answers(tuple(said), tuple(results), judgements)

    def ask(self, dataset: SampleDataset, modality: str, name: str) -> list[Said]:
        """Everything of one data set, in the order of its samples."""
        asked = [(sample, turn) for sample in self._samples(dataset) for turn in self._turns(sample, modality)]
        answer, length = partial(self._all_answers, asked, modality, name), self.settings.max_new_tokens
        answers = answer() if self.kept is None else self.kept.get(asked, modality, length, answer)
        return [
            Said(name, sample.id, modality, turn.task, turn.prompt, turn.answers, answer)
            for (sample, turn), answer in zip(asked, answers, strict=True)
        ]

    def _all_answers(self, asked: Asked, modality: str, name: str) -> list[str]:
        size, found = self.settings.batch_size, list[str]()
        for start in tqdm(range(0, len(asked), size), desc=f"asking about {name}", delay=2, leave=False):
            batch = asked[start : start + size]
            found += self.answers([sample for sample, _ in batch], [turn for _, turn in batch], modality)
        return found

    def answers(self, samples: Sequence[Sample], turns: Sequence[Turn], modality: str) -> list[str]:
        """What the model answers to one turn about each sample."""
        refs = [sample.ref(modality) for sample in samples]
        features = self.features(modality, [ref.open() for ref in refs], facts=[ref.facts for ref in refs])
        counts = feature_counts(self.processor, modality, features)
        chats = [messages([turn], modality, answered=False) for turn in turns]
        texts = self.processor.apply_chat_template(chats, add_generation_prompt=True)
        inputs = {**self.processor(texts, counts={modality: counts}), **features}
        inputs = {key: value.to(self.model.device) for key, value in inputs.items()}
        out = self.model.generate(**inputs, max_new_tokens=self.settings.max_new_tokens, do_sample=False)
        new = out[:, inputs["input_ids"].shape[1] :]
        return [text.strip() for text in self.processor.batch_decode(new, skip_special_tokens=True)]

    def score(self, said: Sequence[Said]) -> tuple[list[Result], Judgement | None]:
        """The figures of one data set."""
        captions = [each for each in said if each.task == "caption"]
        questions = [each for each in said if each.task == "question"]
        results = [caption_result(captions, self.settings.tokenizer)] if captions else []
        if not questions:
            return results, None
        judgement = self.judge([Answer(each.prompt, each.reference, each.prediction) for each in questions])
        return results + answer_results(questions, judgement), judgement

    def _samples(self, dataset: SampleDataset) -> Iterator[Sample]:
        drawn = keyed_rng("test samples").permutation(len(dataset))[: self.settings.limit]
        return (dataset[index] for index in sorted(map(int, drawn)))

    def _turns(self, sample: Sample, modality: str) -> list[Turn]:
        turns = self.conversations.test(sample, modality)
        questions = [turn for turn in turns if turn.task == "question"]
        if self.settings.questions is not None:
            drawn = keyed_rng("test questions", sample.id, modality).permutation(len(questions))
            questions = [questions[index] for index in drawn[: self.settings.questions]]
        return [turn for turn in turns if turn.task == "caption"] + questions


def check_test(dataset: SampleDataset, modality: str, asked: Conversations, limit: int | None) -> None:
    """Refuse a test set whose first sample cannot be asked about, while that costs nothing.

    Args:
        limit: see `AnsweringSettings`.

    Raises:
        ConfigError: it is empty, or one sample alone would be captioned.
        ManifestError, UnknownModalityError: the sample has nothing to ask about the sense, or not the sense.
    """
    if not len(dataset):
        raise ConfigError("the test set is empty", fix="Name another file, or correct its conditions.")
    sample = dataset[0]
    sample.ref(modality)
    captioned = any(turn.task == "caption" for turn in asked.test(sample, modality))
    if captioned and min(len(dataset), limit or len(dataset)) < 2:
        raise ConfigError("CIDEr-D is not defined for one sample alone", where="limit",
                          fix="Test on two samples or more.")  # fmt: skip


def caption_result(said: Sequence[Said], tokenizer: str) -> Result:
    """CIDEr-D (1.0 is what papers print as 100); chance is that of another sample's caption."""
    references = [list(each.references) for each in said]
    found = cider_d([each.prediction for each in said], references, tokenizer=tokenizer)
    others = [each.references[0] for each in (*said[1:], said[0])]
    chance = cider_d(others, references, tokenizer=tokenizer).mean
    mean, *interval = mean_interval(list(found.per_sample))
    return _result(said[0], CAPTIONING, f"CIDEr-D ({tokenizer})", mean, chance, len(said), interval)


def answer_results(said: Sequence[Said], judgement: Judgement) -> list[Result]:
    """Accuracy of the judged answers; chance is that of answering every question as it is answered most often.

    A judgement that is not complete gives no figure: it stands in the summary, not among the results.
    """
    accuracy = judgement.accuracy
    if accuracy is None or not judgement.complete:
        return []
    judged = sum(verdict is not None for verdict in judgement.verdicts)
    by_prompt: defaultdict[str, Counter[str]] = defaultdict(Counter)
    for each in said:
        by_prompt[each.prompt].update(dict.fromkeys(each.references, 1))
    chance = sum(counts.most_common(1)[0][1] for counts in by_prompt.values()) / len(said)
    metric = f"accuracy ({judgement.judge})"
    return [_result(said[0], ANSWERING, metric, accuracy, chance, judged, proportion_interval(accuracy, judged))]


def _result(
    first: Said, task: str, metric: str, value: float, chance: float, count: int, interval: Sequence[float]
) -> Result:
    return Result(
        task=task, modality=first.modality, dataset=first.dataset, metric=metric, value=value, chance=chance,
        low=interval[0], high=interval[1], count=count,
    )  # fmt: skip


__all__ = [
    "ANSWERS",
    "VERDICTS",
    "AnswerEvaluator",
    "AnsweringSettings",
    "Answers",
    "JudgeSettings",
    "Said",
    "TestSet",
    "check_test",
]
