"""`polysense evaluate`: score a checkpoint."""

from __future__ import annotations

import argparse
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
            retrieval by codes between all senses that the manifest holds; with --protocols, the transfer of heads
            from sense to sense, too.""",
        examples="""
            polysense evaluate runs/x/stages/stage-2-depth --manifest runs/world/manifests/stills-test.jsonl
            polysense evaluate me/my-model --revision stage-2 --manifest a.jsonl b.jsonl --output scores.json
            polysense evaluate runs/x/stages/stage-5-audio --manifest clips.jsonl --composed audio+video
            polysense evaluate runs/comet/stages/stage-2-* --protocols downstream-world --data-root runs/world""",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a stage's folder, or owner/name on the Hub")
    parser.add_argument("--manifest", default=[], nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSONL manifests to score it on")  # fmt: skip
    parser.add_argument("--composed", default=[], action="append", type=_senses, metavar="A+B",
                        help="retrieve text by these senses together (audio+video); may be repeated")  # fmt: skip
    parser.add_argument("--protocols", metavar="CONFIG", help="COMET: a YAML file or a shipped config of protocols")
    parser.add_argument("--data-root", type=Path, default=Path(), metavar="DIR",
                        help="folder of the protocols' data sets (default: here)")  # fmt: skip
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
    from polysense.recipes import comet_evaluation, evaluation
    from polysense.report import StageResults

    given = (arguments.checkpoint, arguments.manifest, arguments.output, arguments.imports)
    if is_comet(arguments.checkpoint, arguments.revision):
        if arguments.composed:
            raise ConfigError("senses are composed as embeddings, which a COMET checkpoint has not",
                              where="--composed", fix="Leave it out.")  # fmt: skip
        asked: dict[str, Any] = {"protocols": arguments.protocols, "root": arguments.data_root}
        record = comet_evaluation.run(*given, **asked, revision=arguments.revision)
    elif arguments.protocols is not None:
        raise ConfigError("these protocols score codes, which the checkpoint has not", where="--protocols",
                          fix="Give --manifest.")  # fmt: skip
    else:
        record = evaluation.run(*given, revision=arguments.revision, composed=arguments.composed)
    show_results([StageResults(number=1, name="value", metrics=record)])
    if arguments.output is not None:
        console.say(str(arguments.output))
    return 0


def is_comet(checkpoint: str, revision: str | None) -> bool:
    """Whether a checkpoint (folder or Hub name) is one of COMET's."""
    from polysense.safety import read_json

    return bool(read_json(fetched(checkpoint, revision) / "config.json").get("model_type") == "comet")
