"""What the scripts of reproductions are told: where to work, and which cells may be computed."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace, RawDescriptionHelpFormatter
from collections.abc import Iterable, Sequence
from functools import partial
from pathlib import Path

from polysense.recipes.cells import Chosen


def reproduction_parser(description: str | None, *, orders: Iterable[str] = ()) -> ArgumentParser:
    """`[output] [--methods a,b] [--seeds 0,1] [--orders a,b]`, to which a script adds what it alone knows.

    Only scripts with `orders` of learning ask for those.
    """
    parser = ArgumentParser(description=description, formatter_class=RawDescriptionHelpFormatter)
    parser.add_argument("output", nargs="?", type=Path, default=Path("runs/evidence"),
                        help="folder of checkpoints and data (default: %(default)s)")  # fmt: skip
    parser.add_argument("--methods", type=names, metavar="A,B",
                        help="compute cells of these methods alone; none with an empty list")  # fmt: skip
    parser.add_argument("--seeds", type=numbers, metavar="0,1", help="compute cells of these seeds alone")
    parser.set_defaults(orders=None)
    if known := list(orders):
        parser.add_argument("--orders", type=partial(_known, known), metavar="A,B",
                            help=f"compute cells of these orders alone: {', '.join(known)}")  # fmt: skip
    return parser


def chosen_cells(given: Namespace) -> Chosen:
    """The cells that the arguments allow."""
    return Chosen(methods=given.methods, seeds=given.seeds, orders=given.orders)


def names(text: str) -> list[str]:
    """Names with commas between them; the empty text has none."""
    return [name for each in text.split(",") if (name := each.strip())]


def numbers(text: str) -> list[int]:
    """Whole numbers with commas between them."""
    return [int(name) for name in names(text)]


def _known(known: Sequence[str], text: str) -> list[str]:
    """Names of which all are known."""
    found = names(text)
    if unknown := sorted(set(found) - set(known)):
        raise ArgumentTypeError(f"there is no order {unknown[0]!r}; known: {', '.join(known)}")
    return found


__all__ = ["chosen_cells", "names", "numbers", "reproduction_parser"]
