"""`polysense`: parsing, exit codes, and one line for every error that is the user's to mend."""

from __future__ import annotations

import argparse
import logging
import os
import sys
from collections.abc import Sequence

from polysense.cli import chat, codes, demo, embed, evaluate, extend, merge, publish, train, world
from polysense.cli.arguments import HelpFormatter
from polysense.cli.console import console
from polysense.errors import PolysenseError
from polysense.version import __version__

OK, FAILED, USAGE, INTERRUPTED = 0, 1, 2, 130

_ABOUT = """\
Grow a multimodal model one sense at a time.

From nothing to a published checkpoint:
  polysense demo runs/demo                     see everything once, in about ten minutes
  polysense demo runs/demo --system mera       then a language model that learns those senses
  polysense demo runs/demo --system comet      or one codebook that films and sounds share
  polysense world build runs/world             build the embedded world: real media files, no download
  polysense train unialign --config world --output runs/x
  polysense embed photo.jpg sound.flac --model runs/x/stages/stage-2-depth --compare
  polysense codes clip.mp4 sound.flac --model runs/comet/stages/stage-2-audio-text-*
  polysense chat runs/mera/stages/stage-2-audio-* sound.flac --ask "what is it ?"
  polysense push runs/x me/my-model            one commit and one tag per stage
"""
_CODES = """\
exit codes:
  0    done
  1    an error that the message explains; also when some of the files given to `embed` or `codes`,
       or lines given to `chat`, could not be used, or the judge of `evaluate` left too much unjudged
  2    the command line itself is wrong
  129  the terminal was closed (SIGHUP); `train` has saved its state
  130  interrupted (Ctrl-C); `train` has saved its state: the same command goes on from there
  143  terminated (SIGTERM); `train` has saved its state
"""


def build_parser() -> argparse.ArgumentParser:
    """The whole command line."""
    parser = argparse.ArgumentParser(
        prog="polysense", description=_ABOUT, epilog=_CODES, formatter_class=HelpFormatter, allow_abbrev=False
    )
    parser.add_argument("--version", action="version", version=f"polysense {__version__}")
    parser.add_argument("-v", "--verbose", action="store_true", help="tell what is being done")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND", required=True)
    for part in (world, train, extend, embed, codes, chat, evaluate, merge, publish, demo):
        part.add(commands)
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command and return its exit code; `--help` and wrong arguments end the process as argparse does."""
    parser = build_parser()
    arguments, rest = parser.parse_known_args(argv)
    _take_trailing(parser, arguments, rest)
    logging.basicConfig(
        level=logging.INFO if arguments.verbose else logging.WARNING, format="%(levelname)s %(message)s"
    )
    logging.getLogger("httpx").setLevel(logging.WARNING)
    if getattr(arguments, "imports", None) and os.getcwd() not in sys.path:
        sys.path.insert(0, os.getcwd())  # as `python -m` has it; a console script does not
    try:
        return int(arguments.run(arguments))
    except PolysenseError as error:
        console.error(f"polysense: {error}")
        return FAILED
    except KeyboardInterrupt:
        console.error("polysense: interrupted")
        return INTERRUPTED


def _take_trailing(parser: argparse.ArgumentParser, arguments: argparse.Namespace, rest: list[str]) -> None:
    """Hand positional arguments that follow an option to the command's list, which argparse alone cannot."""
    target = getattr(arguments, "trailing", None)
    if rest and (target is None or any(each.startswith("-") for each in rest)):
        parser.error(f"unrecognized arguments: {' '.join(rest)}")
    if target is not None:
        setattr(arguments, target, [*getattr(arguments, target), *rest])
