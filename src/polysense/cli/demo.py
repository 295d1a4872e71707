"""`polysense demo`: everything once."""

from __future__ import annotations

import argparse
from pathlib import Path

from polysense.cli.arguments import Commands, add_command
from polysense.cli.console import console


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "demo", "see everything once, in about ten minutes", run=_demo,
        about="""
            Build a world, train a small image-text anchor, give it depth, points, video and audio one after another,
            and show what came of it: a table, a report page, and the Python that embeds a file of your own. What the
            folder already holds is not done again.""",
        examples="polysense demo runs/demo",
    )  # fmt: skip
    parser.add_argument("output", type=Path, nargs="?", default=Path("runs/demo"), metavar="DIR",
                        help="the run folder (default: %(default)s)")  # fmt: skip


def _demo(arguments: argparse.Namespace) -> int:
    # these import every part of the library, which --help does not need
    from polysense.cli.results import show_results
    from polysense.recipes.demo import run

    run(arguments.output, console.say, show_results)
    return 0
