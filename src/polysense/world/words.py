"""Words of the world: plain names, and the words that some data sets use instead.

Data sets about different senses are written by different people. About half of the names are common to all senses, the
other half have a word of their own in some of them; half of the captions of a sense and all its answers use these.
"""

from __future__ import annotations

from polysense.errors import UnknownModalityError

_OWN: dict[str, dict[str, str]] = {
    "image": {},
    "depth": {
        "small": "little", "large": "big", "cube": "block", "cylinder": "column", "egg": "oval", "pyramid": "spire",
    },
    "point_cloud": {
        "ball": "sphere", "ring": "torus", "prism": "wedge", "cross": "plus", "cone": "funnel", "purple": "violet",
        "cyan": "turquoise", "pink": "rose", "brown": "tan", "yellow": "golden",
    },
    "thermal": {
        "metal": "steel", "wood": "timber", "ring": "hoop", "pill": "capsule", "egg": "ovoid", "ball": "globe",
    },
    "video": {
        "slide": "glide", "spin": "twirl", "circle": "orbit", "swing": "sway", "topple": "tip", "rise": "lift",
        "ball": "orb", "ring": "loop",
    },
    "audio": {
        "metal": "iron", "glass": "crystal", "rubber": "latex", "fall": "drop", "knock": "tap", "shake": "rattle",
        "hop": "skip", "slide": "scrape", "large": "huge",
    },
}  # fmt: skip

_IRREGULAR = {
    "slide": "sliding", "glide": "gliding", "shake": "shaking", "rise": "rising", "circle": "circling",
    "topple": "toppling", "hop": "hopping", "spin": "spinning", "tip": "tipping", "drop": "dropping", "tap": "tapping",
    "rattle": "rattling", "skip": "skipping", "scrape": "scraping", "bounce": "bouncing", "twirl": "twirling",
}  # fmt: skip

TEMPLATES: dict[str, tuple[str, ...]] = {
    "image": ("a photo of a {}", "a {}", "there is a {} on the floor", "a picture of a {}"),
    "depth": ("a depth map of a {}", "a {}", "a {} seen by a depth camera", "the relief of a {}"),
    "point_cloud": ("a scan of a {}", "a {}", "a point cloud of a {}", "a 3d model of a {}"),
    "thermal": ("a thermal picture of a {}", "a {}", "a {} seen by its warmth", "a heat map of a {}"),
    "video": ("a video of a {}", "a {}", "a {} in the scene", "one sees a {}"),
    "audio": ("the sound of {}", "{}", "{} is heard", "a recording of {}"),
    "speech": ("{}", "someone says {}"),
}
"""Prompts around a class name for zero-shot classification, worded as the captions of the sense are."""


def word(name: str, modality: str, *, own: bool) -> str:
    """A plain name, or the sense's own word for it where it has one.

    Raises:
        UnknownModalityError: a sense that has no words.
    """
    if modality not in _OWN:
        raise UnknownModalityError(modality, _OWN, where="words of the world")
    return _OWN[modality].get(name, name) if own else name


def variants(name: str) -> tuple[str, ...]:
    """The plain name first, then every other word for it."""
    return (name, *sorted({words[name] for words in _OWN.values() if name in words}))


def gerund(verb: str) -> str:
    return _IRREGULAR.get(verb, f"{verb}ing")


def third_person(verb: str) -> str:
    return f"{verb}es" if verb.endswith(("sh", "ch", "s")) else f"{verb}s"


def article(phrase: str) -> str:
    """The phrase with its indefinite article."""
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"
