"""What things of the world can be, which combinations exist, and which of them are kept from training.

Every table here is fixed: a world varies how things look and sound, never what there is. Of the pairs of shape and
colour a tenth is *held out*, and so are some of shape and size, shape and material, event and shape, event and
material: no training, validation or test sample shows them, and every compositional sample shows nothing else. They
are few, so that each value excludes at most one of another: a model gains little by learning what never goes together.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from itertools import product

from polysense.errors import UnknownModalityError

SHAPES = ("ball", "egg", "cube", "cylinder", "prism", "cone", "pyramid", "ring", "pill", "cross")
COLOURS = ("red", "orange", "yellow", "green", "cyan", "blue", "purple", "pink", "brown", "white")
SIZES = ("tiny", "small", "medium", "large")
MATERIALS = ("metal", "glass", "wood", "rubber", "ceramic")
EVENTS = (
    "fall", "bounce", "slide", "roll", "spin", "shake", "swing", "knock", "rise", "circle", "topple", "hop",
)  # fmt: skip
CLIP_SHAPES = ("cross", "cube", "cylinder", "cone", "ring")

RADIUS = {"tiny": 0.2, "small": 0.27, "medium": 0.35, "large": 0.47}  # of the bounding sphere, metres
RGB = {
    "red": (0.82, 0.10, 0.10), "orange": (0.93, 0.45, 0.06), "yellow": (0.92, 0.82, 0.12),
    "green": (0.14, 0.60, 0.18), "cyan": (0.10, 0.75, 0.78), "blue": (0.12, 0.22, 0.80),
    "purple": (0.48, 0.16, 0.66), "pink": (0.95, 0.50, 0.68), "brown": (0.42, 0.25, 0.12),
    "white": (0.90, 0.90, 0.88),
}  # fmt: skip

# which of the shapes the labelled data set of a sense covers: no two senses cover the same
CLASS_SHAPES = {
    "image": ("ball", "cube", "cone", "ring", "pill", "cross"),
    "depth": tuple(shape for shape in SHAPES if shape not in ("ring", "ball")),
    "point_cloud": ("egg", "cube", "cylinder", "cone", "pyramid", "ring"),
    "thermal": tuple(shape for shape in SHAPES if shape not in ("cone", "cylinder")),
}

_HELD_OUT_SIZE = {"egg": "tiny", "cylinder": "small", "cone": "medium", "cross": "large"}
_HELD_OUT_MATERIAL = {"ball": "metal", "cube": "glass", "prism": "wood", "ring": "rubber", "pill": "ceramic"}
_HELD_OUT_EVENT = {
    "bounce": ("cone", "wood"),
    "roll": ("cross", "glass"),
    "shake": ("ring", "metal"),
    "knock": ("cylinder", "rubber"),
    "topple": ("cube", "ceramic"),
}

GERUND = {
    "fall": "falling", "bounce": "bouncing", "slide": "sliding", "roll": "rolling", "spin": "spinning",
    "shake": "shaking", "swing": "swinging", "knock": "knocking", "rise": "rising", "circle": "circling",
    "topple": "toppling", "hop": "hopping",
}  # fmt: skip


@dataclass(frozen=True)
class Look:
    """The attributes of one object, by name."""

    shape: str
    colour: str
    size: str
    material: str


@dataclass(frozen=True)
class Happening:
    """One kind of event happening to one kind of object."""

    event: str
    look: Look


@cache
def colours_of(shape: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The nine trained colours of a shape, or the held-out one; every colour is held out for one shape."""
    row = 3 * SHAPES.index(shape)
    return tuple(colour for i, colour in enumerate(COLOURS) if ((row + i) % len(COLOURS) == 1) == held_out)


def sizes_of(shape: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The trained sizes of a shape, or the held-out one; any size where none is held out."""
    return _allowed(SIZES, _HELD_OUT_SIZE.get(shape), held_out=held_out)


def materials_of(shape: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The trained materials of a shape, or the held-out one; any material where none is held out."""
    return _allowed(MATERIALS, _HELD_OUT_MATERIAL.get(shape), held_out=held_out)


def _allowed(values: tuple[str, ...], missing: str | None, *, held_out: bool) -> tuple[str, ...]:
    if missing is None:
        return values
    return (missing,) if held_out else tuple(value for value in values if value != missing)


@cache
def looks(*, held_out: bool = False) -> tuple[Look, ...]:
    """Every object that a still may show; held out: each of its attributes is new for its shape where one is."""
    return tuple(
        Look(shape, colour, size, material)
        for shape in SHAPES
        for colour, size, material in product(
            colours_of(shape, held_out=held_out),
            sizes_of(shape, held_out=held_out),
            materials_of(shape, held_out=held_out),
        )
    )


@cache
def happenings(event: str, *, held_out: bool = False) -> tuple[Happening, ...]:
    """Every way an event may happen in a clip.

    Held out: the event has a new shape and a new material, and the shape a new colour; none for most events.
    """
    missing = _HELD_OUT_EVENT.get(event)
    if held_out:
        if missing is None:
            return ()
        shape, material = missing
        return tuple(
            Happening(event, Look(shape, colour, size, material))
            for colour in colours_of(shape, held_out=True)
            for size in SIZES
        )
    return tuple(
        Happening(event, look)
        for look in looks()
        if look.shape in CLIP_SHAPES
        and (missing is None or (look.shape != missing[0] and look.material != missing[1]))
    )


# one entry per labelled sense: the class name of an object (or of an event), whatever the split
_LABEL: dict[str, Callable[[Look], str]] = {
    "image": lambda look: f"{look.colour} {look.shape}",
    "depth": lambda look: f"{look.size} {look.shape}",
    "point_cloud": lambda look: f"{look.colour} {look.shape}",
    "thermal": lambda look: f"{look.material} {look.shape}",
}
_EVENT_LABEL: dict[str, Callable[[Happening], str]] = {
    "video": lambda h: f"{GERUND[h.event]} {h.look.shape}",
    "audio": lambda h: f"{GERUND[h.event]} {h.look.material}",
}
LABELLED = (*_LABEL, *_EVENT_LABEL)


def still_labels(look: Look) -> dict[str, str]:
    """Class names of a still's subject, for the senses whose data set covers its shape."""
    return {sense: name(look) for sense, name in _LABEL.items() if look.shape in CLASS_SHAPES[sense]}


def clip_labels(happening: Happening) -> dict[str, str]:
    """Class names of a clip's main event."""
    return {sense: name(happening) for sense, name in _EVENT_LABEL.items()}


@cache
def class_names(modality: str, *, which: str = "all") -> tuple[str, ...]:
    """The classes of a sense, sorted: all of them, the "trained" ones or the "held_out" ones.

    Raises:
        UnknownModalityError: the sense has no labelled data set in the world.
    """
    if modality not in LABELLED:
        raise UnknownModalityError(modality, LABELLED, where="classes of the world")
    names: dict[bool, set[str]] = {}
    for held_out in (False, True):
        if modality in _LABEL:
            every = [still_labels(look).get(modality) for look in looks(held_out=held_out)]
        else:
            every = [clip_labels(h)[modality] for e in EVENTS for h in happenings(e, held_out=held_out)]
        names[held_out] = {name for name in every if name is not None}
    chosen = {
        "all": names[False] | names[True],
        "trained": names[False],
        "held_out": names[True] - names[False],
    }[which]
    return tuple(sorted(chosen))
