"""`polysense evaluate`: score a checkpoint."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched
from polysense.errors import ConfigError


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "evaluate", "score a checkpoint on manifests", run=_evaluate,
        about="""
            Zero-shot classification, and retrieval both ways, of every sense that the checkpoint has and the manifest
            holds; each figure with its interval, beside chance. A manifest is a JSONL file with one sample a line.
            With --composed, text is also retrieved by several senses of a sample together. Of a COMET checkpoint:
            retrieval by codes between all senses that the manifest holds; with --protocols, the transfer of heads from
            sense to sense, and segmentation asked by speech, too. Of a MERA checkpoint: captions by CIDEr-D, and
            answers to the manifest's questions by a judge: a plain comparison, or with --judge a language model.
            Answers and its verdicts are kept beside --output, so that the same command goes on where it was stopped.
            If the judge leaves so many answers open that there is no accuracy, that is said, all else is shown and
            written, and the exit code is 1.""",
        examples="""
            polysense evaluate runs/x/stages/stage-2-depth --manifest runs/world/manifests/stills-test.jsonl
            polysense evaluate me/my-model --revision stage-2 --manifest a.jsonl b.jsonl --output scores.json
            polysense evaluate runs/x/stages/stage-5-audio --manifest clips.jsonl --composed audio+video
            polysense evaluate runs/comet/stages/stage-2-* --protocols downstream-world --data-root runs/world
            polysense evaluate runs/mera/stages/stage-3-audio-* --manifest runs/world/manifests/clips-test.jsonl
            polysense evaluate me/my-mera --manifest a.jsonl --judge gpt-4o-mini --limit 1000 --output scores.json""",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a stage's folder, or owner/name on the Hub")
    parser.add_argument("--manifest", default=[], nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSONL manifests to score it on")  # fmt: skip
    parser.add_argument("--composed", default=[], action="append", type=_senses, metavar="A+B",
                        help="retrieve text by these senses together (audio+video); may be repeated")  # fmt: skip
    parser.add_argument("--protocols", metavar="CONFIG", help="COMET: a YAML file or a shipped config of protocols")
    parser.add_argument("--data-root", type=Path, metavar="DIR",
                        help="COMET: folder of the protocols' data sets (default: here)")  # fmt: skip
    parser.add_argument("--judge", metavar="MODEL",
                        help="MERA: a chat model that says which answers are right; its key is taken from "
                             "OPENAI_API_KEY (default: compare normalised texts)")  # fmt: skip
    parser.add_argument("--judge-url", metavar="URL", help="MERA: an OpenAI-compatible endpoint up to /v1 that has it")
    parser.add_argument("--tokenizer", choices=("ptb", "whitespace"), help="MERA: of CIDEr-D (default: ptb)")
    parser.add_argument("--limit", type=int, metavar="N", help="MERA: most samples of a manifest, drawn by a key")
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    add_revision(parser)
    add_imports(parser)


def _senses(text: str) -> tuple[str, ...]:
    senses = tuple(text.split("+"))
    if len({*senses}) < max(2, len(senses)) or not all(senses):
        raise argparse.ArgumentTypeError(f"{text!r} is no two or more different senses with + between them")
    return senses


def _evaluate(arguments: argparse.Namespace) -> int:
    # the recipes import every part of the library, which --help does not need
    from polysense.cli.results import show_results
    from polysense.report import StageResults

    kind = model_type(arguments.checkpoint, arguments.revision)
    if kind not in _SYSTEMS:
        raise ConfigError(f"a model of type {kind!r} cannot be scored", where=arguments.checkpoint,
                          fix=f"Give a checkpoint of one of {', '.join(_SYSTEMS)}.")  # fmt: skip
    for option, system in _OPTIONS.items():
        if system != kind and getattr(arguments, option) not in (None, []):
            raise ConfigError(f"this option is for checkpoints of {system}, and this one is of {kind}",
                              where=f"--{option.replace('_', '-')}", fix="Leave it out.")  # fmt: skip
    record = _SYSTEMS[kind](arguments)
    show_results([StageResults(number=1, name="value", metrics=record)])
    if arguments.output is not None:
        console.say(str(arguments.output))
    return 0 if all(each["complete"] for each in record.get("judgements", {}).values()) else 1


def model_type(checkpoint: str, revision: str | None) -> str:
    """The type of model that a checkpoint (folder or Hub name) says it is."""
    from polysense.safety import read_json

    return str(read_json(fetched(checkpoint, revision) / "config.json").get("model_type"))


def _given(arguments: argparse.Namespace) -> tuple[Any, ...]:
    """What the evaluation of every system is told."""
    return arguments.checkpoint, arguments.manifest, arguments.output, arguments.imports


def _unialign(arguments: argparse.Namespace) -> dict[str, Any]:
    from polysense.recipes import evaluation

    return evaluation.run(*_given(arguments), revision=arguments.revision, composed=arguments.composed)


def _comet(arguments: argparse.Namespace) -> dict[str, Any]:
    from polysense.recipes import comet_evaluation

    if arguments.data_root is not None and arguments.protocols is None:
        raise ConfigError("the data sets of a manifest lie beside it", where="--data-root",
                          fix="Leave it out, or give --protocols.")  # fmt: skip
    asked: dict[str, Any] = {"protocols": arguments.protocols, "root": arguments.data_root}
    return comet_evaluation.run(*_given(arguments), **asked, revision=arguments.revision)


def _mera(arguments: argparse.Namespace) -> dict[str, Any]:
    from polysense.metrics.judging import LlmJudgeOptions
    from polysense.recipes import mera_evaluation
    from polysense.recipes.answering import AnsweringSettings, JudgeSettings

    if arguments.judge_url is not None and arguments.judge is None:
        raise ConfigError("there is no model to ask there", where="--judge-url", fix="Name one with --judge.")
    judge = JudgeSettings(model=arguments.judge, options=LlmJudgeOptions(base_url=arguments.judge_url))
    settings = AnsweringSettings(limit=arguments.limit, tokenizer=arguments.tokenizer or "ptb", judge=judge)
    return mera_evaluation.run(*_given(arguments), settings=settings, revision=arguments.revision)


_SYSTEMS: Mapping[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "unialign": _unialign, "comet": _comet, "mera": _mera,
}  # fmt: skip
_OPTIONS = {
    "composed": "unialign",
    "protocols": "comet",
    "data_root": "comet",
    "judge": "mera",
    "judge_url": "mera",
    "tokenizer": "mera",
    "limit": "mera",
}
"""Options that only one of the systems takes."""
