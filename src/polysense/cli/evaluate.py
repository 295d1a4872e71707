"""`polysense evaluate`: score a checkpoint."""

from __future__ import annotations

import argparse
from pathlib import Path

from polysense.cli.arguments import Commands, add_command, add_imports
from polysense.cli.console import console


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "evaluate", "score a checkpoint on manifests", run=_evaluate,
        about="""
            Zero-shot classification, and retrieval both ways, of every sense that the checkpoint has and the manifest
            holds; each figure with its interval, beside chance. A manifest is a JSONL file with one sample a line.""",
        examples="""
            polysense evaluate runs/x/stages/stage-2-depth --manifest runs/world/manifests/stills-test.jsonl
            polysense evaluate me/my-model --manifest a.jsonl b.jsonl --output scores.json""",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="CHECKPOINT", help="a stage's folder, or owner/name on the Hub")
    parser.add_argument("--manifest", required=True, nargs="+", action="extend", type=Path, metavar="FILE",
                        help="JSONL manifests to score it on")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the figures as JSON")
    add_imports(parser)


def _evaluate(arguments: argparse.Namespace) -> int:
    # the recipe imports every part of the library, which --help does not need
    from polysense.cli.results import show_results
    from polysense.recipes.evaluation import run
    from polysense.report import StageResults

    record = run(arguments.checkpoint, arguments.manifest, arguments.output, arguments.imports)
    show_results([StageResults(number=1, name="value", metrics=record)])
    if arguments.output is not None:
        console.say(str(arguments.output))
    return 0
