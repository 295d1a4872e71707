"""What things of the world can be, which combinations exist, and which of them are kept from training.

Every table here is fixed: a world varies how things look and sound, never what there is. Of the pairs of a shape
and a size a quarter is *held out*, and a fifth of those of shape and colour, shape and material, event and shape, and
event and material: no training, validation or test sample shows them, and the subject of every
compositional sample shows nothing else. Each word is trained in several company, so that it can be learned alone.
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

RADIUS = {"tiny": 0.19, "small": 0.26, "medium": 0.35, "large": 0.47}  # of the bounding sphere, metres
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

    @property
    def held_out(self) -> bool:
        """Whether any pair of its attributes is kept from training."""
        return (
            self.colour in colours_of(self.shape, held_out=True)
            or self.size == held_out_size(self.shape)
            or self.material == held_out_material(self.shape)
        )


@dataclass(frozen=True)
class Happening:
    """One kind of event happening to one kind of object."""

    event: str
    look: Look


@cache
def colours_of(shape: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The eight trained (or two held-out) colours of a shape; every colour is held out as often as another."""
    row = 3 * SHAPES.index(shape)
    return tuple(colour for i, colour in enumerate(COLOURS) if ((row + i) % 5 == 1) == held_out)


def held_out_size(shape: str) -> str:
    return SIZES[SHAPES.index(shape) % len(SIZES)]


def held_out_material(shape: str) -> str:
    return MATERIALS[SHAPES.index(shape) % len(MATERIALS)]


@cache
def shapes_of(event: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The four trained (or the one held-out) shapes that an event happens to."""
    i = EVENTS.index(event)
    return tuple(shape for k, shape in enumerate(CLIP_SHAPES) if ((i + k) % len(CLIP_SHAPES) == 3) == held_out)


@cache
def materials_of(event: str, *, held_out: bool = False) -> tuple[str, ...]:
    """The four trained (or the one held-out) materials that an event happens to."""
    i = 2 * EVENTS.index(event)
    return tuple(material for k, material in enumerate(MATERIALS) if ((i + k) % len(MATERIALS) == 1) == held_out)


@cache
def looks(*, held_out: bool = False) -> tuple[Look, ...]:
    """Every object a still may show; held out: colour, size and material are each new for the shape."""
    if held_out:
        return tuple(
            Look(s, c, held_out_size(s), held_out_material(s)) for s in SHAPES for c in colours_of(s, held_out=True)
        )
    every = (Look(s, c, z, m) for s in SHAPES for c, z, m in product(colours_of(s), SIZES, MATERIALS))
    return tuple(look for look in every if not look.held_out)


@cache
def happenings(event: str, *, held_out: bool = False) -> tuple[Happening, ...]:
    """Every way an event may happen in a clip; held out: shape and material are new, and so are colour and size."""
    if held_out:
        return tuple(
            Happening(event, Look(s, c, held_out_size(s), m))
            for s in shapes_of(event, held_out=True)
            for c, m in product(colours_of(s, held_out=True), materials_of(event, held_out=True))
        )
    every = (
        Happening(event, Look(s, c, z, m))
        for s in shapes_of(event)
        for c, z, m in product(colours_of(s), SIZES, materials_of(event))
    )
    return tuple(h for h in every if not h.look.held_out)


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
    chosen = {"all": names[False] | names[True], "trained": names[False], "held_out": names[True]}[which]
    return tuple(sorted(chosen))
