"""What a file given to a command is: the sense named after a colon, or the one its content suggests."""

from __future__ import annotations

import argparse
import os
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from polysense.cli.console import console
from polysense.errors import ConfigError, MediaError, UnknownModalityError, UnregisteredModalityError
from polysense.modality import get_processor_class
from polysense.processing import ModalityProcessor, media
from polysense.recipes.plain_yaml import read_yaml

_ALL = (*media.PICTURES, *media.SOUNDS, *media.VIDEOS, *media.CLOUDS, "text")
_DEEP = {"I", "F", "I;16", "I;16B", "I;16L", "I;16N"}  # Pillow's modes with more than 8 bits: distances, not colours
_SAY_WHICH = "Say which sense it is, as in FILE:depth."


@dataclass(frozen=True)
class Source:
    """One thing to embed or to speak of.

    Attributes:
        name: how the output calls it.
        value: a path, or the text itself.
        modality: the sense it was given for; `None` to be guessed.
    """

    name: str
    value: Path | str
    modality: str | None = None

    def sense(self) -> str:
        """The sense it was given for, or the one that its content suggests. Raises: see `guess_modality`."""
        return self.modality or guess_modality(Path(self.value))


def add_facts(parser: argparse.ArgumentParser) -> None:
    """`--fact`, for what a file does not say of itself."""
    parser.add_argument("--fact", dest="facts", action="append", default=[], type=_fact, metavar="SENSE.NAME=VALUE",
                        help="what is known of the files of a sense, such as the camera of depth maps "
                             "(depth.focal=525 in pixels, depth.baseline=0.075 in metres); repeatable")  # fmt: skip


def _fact(text: str) -> tuple[str, str, Any]:
    place, sign, value = text.partition("=")
    sense, dot, name = place.partition(".")
    if not (sign and dot and sense and name):
        raise argparse.ArgumentTypeError(f"{text!r} is not SENSE.NAME=VALUE")
    try:
        return sense, name, read_yaml(value, place)
    except ConfigError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


def facts_by_sense(given: Sequence[tuple[str, str, Any]], known: Collection[str]) -> dict[str, dict[str, Any]]:
    """Sense to its facts, of what `--fact` gave.

    Raises:
        UnknownModalityError: the model lacks a sense.
        ConfigError: nothing of a sense's features depends on a fact of that name.
    """
    facts: dict[str, dict[str, Any]] = {}
    for sense, name, value in given:
        if sense not in known:
            raise UnknownModalityError(sense, known, where="--fact")
        used = _fact_names(sense)
        if used is not None and name not in used:
            fix = f"Those that count are {', '.join(used)}." if used else "Leave it out: its files say what counts."
            raise ConfigError(f"{sense} has no fact {name!r}", where="--fact", fix=fix)
        facts.setdefault(sense, {})[name] = value
    return facts


def _fact_names(sense: str) -> tuple[str, ...] | None:
    """The facts that a sense's processor looks at; `None` where that is not known."""
    try:
        processor: type[ModalityProcessor] = get_processor_class(sense)
    except UnregisteredModalityError:
        return None
    return processor.fact_names


def tell_assumed(source: Source, sense: str, assumed: Mapping[str, Any]) -> None:
    """A note of what is assumed of a source for want of facts."""
    if assumed:
        values = ", ".join(f"{sense}.{name}={value}" for name, value in assumed.items())
        console.note(f"{source.name}: {values} are assumed; say otherwise with --fact")


def parse_source(argument: str, known: Collection[str]) -> Source:
    """A command-line argument `FILE` or `FILE:modality`.

    Raises:
        UnknownModalityError: there is such a file, but no such modality.
    """
    path, colon, modality = argument.rpartition(":")
    if colon and not os.path.exists(argument):  # pathlib's raises for a text too long to be a name
        if modality in known:
            return Source(argument, Path(path), modality)
        if os.path.isfile(path):
            raise UnknownModalityError(modality, known, where=argument)
    return Source(argument, Path(argument))


def guess_modality(path: Path) -> str:
    """The sense that a file's content suggests, whatever its name.

    Raises:
        MediaError: unreadable, or of a kind that may be several senses.
    """
    with media.open_media(path, _ALL) as opened:
        kind = opened.kind
        if kind in media.PICTURES:
            with media.decoding(opened.name, kind), Image.open(opened.file) as picture:
                return "depth" if picture.mode in _DEEP else "image"
        if kind == "NumPy array":
            with media.decoding(opened.name, kind):
                return _sense_of_shape(np.load(path, mmap_mode="r", allow_pickle=False).shape, opened.name)
    groups = {"audio": media.SOUNDS, "video": media.VIDEOS, "point_cloud": media.CLOUDS}
    return next((modality for modality, kinds in groups.items() if kind in kinds), "text")


def _sense_of_shape(shape: tuple[int, ...], name: str) -> str:
    if len(shape) == 2:
        return "point_cloud" if shape[1] in {3, 6} else "depth"
    raise MediaError(f"is an array of shape {shape}, which may be several senses", where=name, fix=_SAY_WHICH)
