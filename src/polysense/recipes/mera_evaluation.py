"""Score a MERA checkpoint on manifests: captions by CIDEr-D, answers to questions by a judge."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from polysense.data import Manifest, SampleDataset, Subset
from polysense.data.conversations import Conversations, questions
from polysense.errors import ConfigError
from polysense.hub.records import read_stage
from polysense.models.base import best_device, local_folder
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.models.mera.checkpoint import check_mera
from polysense.recipes.answering import AnswerEvaluator, AnsweringSettings
from polysense.recipes.config import build, import_modules
from polysense.recipes.evaluation import data_root, named, seed_of
from polysense.recipes.kept_answers import KeptAnswers
from polysense.storage import check_writable, fingerprint, is_stream, write_whole, writing


def run(
    checkpoint: str, manifests: Sequence[Path], output: Path | None = None, imports: Sequence[str] = (), *,
    settings: AnsweringSettings | None = None, revision: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score a checkpoint (folder or Hub name) on manifests; the figures are returned and written to `output` (JSON).

    Every sense that the checkpoint has and a manifest has captions of or questions about is asked about, as its recipe
    asked. Answers (`scores.answers`) and verdicts of a language model (`scores.verdicts.jsonl`) are kept beside
    `output`, so that nothing is asked twice.

    Args:
        settings: limits, tokenizer and judge; the tests are the manifests.
        revision: of a checkpoint on the Hub.

    Raises:
        ConfigError: no manifest, nothing in it that can be asked about, or a judge that cannot be built or asked.
        CheckpointError: no MERA checkpoint with its processor.
        ManifestError, MediaError: see `AnswerEvaluator`.
    """
    import_modules(imports)
    if not manifests:
        raise ConfigError("there is no manifest to evaluate on", fix="Give at least one JSONL manifest.")
    if output is not None:
        check_writable(output)
    folder = local_folder(checkpoint, {"revision": revision})
    senses, asked = check_mera(folder), conversations_of(folder)
    verdicts = kept = None
    if output is not None and not is_stream(output):
        verdicts = output.with_suffix(".verdicts.jsonl")
        kept = KeptAnswers(output.with_suffix(".answers"), fingerprint(folder, ignore=("README.md",)))
    settings = settings or AnsweringSettings()
    settings.judge.judge(verdicts)  # what is wrong with the judge must not be told when all answers have been given
    tests = [test for path, name in named(manifests).items() for test in _tests(path, name, senses, asked)]
    model, processor = MeraForConditionalGeneration.from_pretrained(folder), MeraProcessor.from_pretrained(folder)
    model.to(best_device())
    evaluator = AnswerEvaluator(model, processor, settings, asked, verdicts=verdicts, kept=kept)
    record = evaluator.on(tests).record(seed_of(folder))
    if output is not None:
        with writing(output):
            write_whole(output, json.dumps(record, indent=1) + "\n")
    return record


def conversations_of(folder: Path) -> Conversations:
    """How the recipe that made a stage asked, for the same prompts as in its own figures; else the defaults."""
    if not (folder / "stage.json").exists():
        return Conversations()
    chosen = read_stage(folder)["hyperparameters"].get("conversations", {})
    return build(Conversations, chosen, str(folder / "stage.json"))


def _tests(
    path: Path, name: str, senses: Sequence[str], asked: Conversations
) -> Iterator[tuple[str, str, SampleDataset]]:
    """Of every sense, the samples of a manifest that have it and something to ask about it."""
    dataset, found = Manifest(path, root=data_root(path)), False
    for sense in senses:
        rows = [number for number in range(len(dataset)) if _has(dataset, number, sense, asked)]
        if rows:
            found = True
            yield f"{name}: {sense}", sense, Subset(dataset, tuple(rows))
    if not found:
        raise ConfigError(f"there is nothing to ask about {', '.join(senses)}", where=path,
                          fix="Give captions of, or questions about, a sense that the checkpoint has.")  # fmt: skip


def _has(dataset: SampleDataset, number: int, sense: str, asked: Conversations) -> bool:
    sample = dataset[number]
    told = "caption" in asked.tasks and sample.captions.get(sense)
    return sense in sample.media and bool(told or ("question" in asked.tasks and questions(sample, sense)))


__all__ = ["conversations_of", "run"]
