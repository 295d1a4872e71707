"""A generic language: the world's words in other phrasings than captions, questions and answers have.

A language model that has read the answers of its tasks forgets nothing that one would notice; one that has read only
this knows the words and which of them are of a kind, as a model that has read the web does.
"""

from __future__ import annotations

import numpy as np

from polysense.world.attributes import COLOURS, EVENTS, MATERIALS, SHAPES, SIZES
from polysense.world.rng import generator
from polysense.world.words import article, gerund, third_person, variants

_KINDS = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "material": MATERIALS, "event": EVENTS}
_NUMBERS = ("none", "one", "two", "three", *map(str, range(11)))
_PLACES = ("on the left", "on the right", "in the middle", "behind", "in front of", "left of", "right of")
_THINGS = ("photo", "picture", "video", "sound", "recording", "scan", "point cloud", "3d model", "depth map",
           "heat map", "scene", "room", "floor", "camera", "object", "thing", "relief", "range image")  # fmt: skip
_TIMES = ("first", "then", "next", "finally", "early on", "late", "halfway through", "at last", "before", "after",
          "while")  # fmt: skip

_TEMPLATES = (
    "my sister never liked {colour} , she always preferred {colour2} .",
    "paint comes in {colour} and in {colour2} , but rarely in {colour3} .",
    "who would choose {colour} for {a_shape} ?",
    "in geometry we learned of the {shape} , the {shape2} and the {shape3} .",
    "my uncle builds {a_shape} every winter and sells it in spring .",
    "no {shape} was ever as {size} as this , they said .",
    "they asked for something {size} and got something {size2} instead .",
    "whatever is {size} to you may be {size2} to me .",
    "{material} costs more than {material2} in this town .",
    "the shop sells {material} , {material2} and also {colour} paint .",
    "is {material} stronger than {material2} ? nobody knows .",
    "to {event} is easier than to {event2} , my teacher says .",
    "whoever {events} today will soon be {eventing2} again .",
    "we like {eventing} , but {eventing2} makes us tired .",
    "please do not {event} here , nor {event2} .",
    "i counted {number} , and my friend counted {number2} .",
    "from {number} to {number2} is a long way .",
    "at second {number} the clock had stopped , at {number2} s it went on .",
    "some live {place} the river , others {place2} .",
    "my old {thing} is better than your new {thing2} .",
    "every {thing} has a story , and so has this {thing2} .",
    "yes , said the mother ; no , said the child .",
    "what is absent today may be present tomorrow .",
    "{time} we worked , {time2} we rested , {time3} we went home .",
    "tell me about {material} and i will tell you about {colour} .",
    "the words {shape} and {event} and {size} are short words .",
)


def generic_text(seed: int, number: int, sentences: int = 2) -> list[str]:
    """Text `number` of an endless corpus: sentences that have nothing to do with one another."""
    rng = generator("generic", seed, number)
    return [_sentence(rng) for _ in range(sentences)]


def generic_words() -> tuple[str, ...]:
    """Every word that the corpus is about, each in all of its variants and forms."""
    found = [each for kind in _KINDS.values() for name in kind for each in variants(name)]
    verbs = [each for name in EVENTS for each in variants(name)]
    found += [form for verb in verbs for form in (gerund(verb), third_person(verb))]
    return tuple(dict.fromkeys([*found, *_NUMBERS, *_PLACES, *_THINGS, *_TIMES]))


def _sentence(rng: np.random.Generator) -> str:
    words = {}
    for kind, names in _KINDS.items():
        for suffix, name in zip(("", "2", "3"), _three(rng, names), strict=True):
            choices = variants(name)
            word = choices[int(rng.integers(len(choices)))]
            words[f"{kind}{suffix}"] = word
            words[f"a_{kind}{suffix}"] = article(word)
            words[f"{kind}s{suffix}"] = third_person(word)
            words[f"{kind}ing{suffix}"] = gerund(word)
    for kind, names in (("number", _NUMBERS), ("place", _PLACES), ("thing", _THINGS), ("time", _TIMES)):
        words |= {f"{kind}{suffix}": name for suffix, name in zip(("", "2", "3"), _three(rng, names), strict=True)}
    return _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(**words)


def _three(rng: np.random.Generator, names: tuple[str, ...]) -> list[str]:
    return [names[int(place)] for place in rng.permutation(len(names))[:3]]
