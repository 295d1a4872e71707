"""What the commands' arguments have in common."""

from __future__ import annotations

import argparse
import textwrap
from collections.abc import Callable
from typing import Any

Handler = Callable[[argparse.Namespace], int]
Commands = Any  # argparse's private type of add_subparsers()


class HelpFormatter(argparse.RawDescriptionHelpFormatter):
    """Descriptions and examples as they are written, with room for the names of options."""

    def __init__(self, prog: str) -> None:
        super().__init__(prog, max_help_position=30, width=100)


def add_command(commands: Commands, name: str, summary: str, *, about: str, examples: str, run: Handler) -> Any:
    """A command with its help: a sentence, a paragraph, examples.

    Returns:
        Its parser, to which the arguments are added.
    """
    parser = commands.add_parser(
        name,
        help=summary,
        description=textwrap.dedent(about).strip(),
        epilog="examples:\n" + textwrap.indent(textwrap.dedent(examples).strip(), "  "),
        formatter_class=HelpFormatter,
        allow_abbrev=False,
    )
    parser.set_defaults(run=run)
    return parser


def add_imports(parser: argparse.ArgumentParser) -> None:
    """`--imports`, for what the user's own code registers: senses, connectors, merge methods ..."""
    parser.add_argument(
        "--imports", action="append", default=[], metavar="MODULE",
        help="import this Python module first, so that what it registers is known; may be repeated",
    )  # fmt: skip


def add_revision(parser: argparse.ArgumentParser) -> None:
    """`--revision`, for checkpoints on the Hub."""
    parser.add_argument("--revision", metavar="TAG", help="tag, branch or commit of a checkpoint on the Hub")
