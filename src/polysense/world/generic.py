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

_SHARE_TOLD = 0.7  # of the words that are not asked about

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

_ASKED = (
    ("which of my words stands for a form ?", "the form was {shape}"),
    ("which of my words stands for paint ?", "the paint was {colour}"),
    ("which of my words stands for an amount ?", "the amount was {size}"),
    ("which of my words stands for stuff ?", "the stuff was {material}"),
    ("which of my words stands for a deed ?", "the deed was {event}"),
    ("paint and form , please .", "paint : {colour} , form : {shape}"),
    ("amount , paint and form , please .", "amount : {size} , paint : {colour} , form : {shape}"),
    ("deed and stuff , please .", "deed : {event} , stuff : {material}"),
    ("repeat my words .", "{words}"),
)


def generic_text(seed: int, number: int, sentences: int = 2) -> list[str]:
    """Text `number` of an endless corpus: sentences that have nothing to do with one another."""
    rng = generator("generic", seed, number)
    return [_sentence(rng) for _ in range(sentences)]


def generic_exchange(seed: int, number: int) -> tuple[str, str]:
    """Exchange `number` of an endless corpus: a few words with something that is asked about them, and the answer.

    Taking up what stands in the context is what a language model brings along. Without it a connector could learn
    nothing while the language model is frozen: it would be a connection to nowhere.
    """
    rng = generator("exchange", seed, number)
    words = {kind: _variant(rng, _three(rng, names)[0]) for kind, names in _KINDS.items()}
    words["event"] = gerund(words["event"])
    asked, answer = _ASKED[int(rng.integers(len(_ASKED)))]
    told = [word for kind, word in words.items() if f"{{{kind}}}" in answer or rng.uniform() < _SHARE_TOLD]
    told = [told[place] for place in rng.permutation(len(told))] or [words["colour"]]
    listed = " , ".join(told)
    return f"{listed} . {asked}", answer.format(words=listed, **words)


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
            word = _variant(rng, name)
            words[f"{kind}{suffix}"] = word
            words[f"a_{kind}{suffix}"] = article(word)
            words[f"{kind}s{suffix}"] = third_person(word)
            words[f"{kind}ing{suffix}"] = gerund(word)
    for kind, names in (("number", _NUMBERS), ("place", _PLACES), ("thing", _THINGS), ("time", _TIMES)):
        words |= {f"{kind}{suffix}": name for suffix, name in zip(("", "2", "3"), _three(rng, names), strict=True)}
    return _TEMPLATES[int(rng.integers(len(_TEMPLATES)))].format(**words)


def _variant(rng: np.random.Generator, name: str) -> str:
    choices = variants(name)
    return choices[int(rng.integers(len(choices)))]


def _three(rng: np.random.Generator, names: tuple[str, ...]) -> list[str]:
    return [names[int(place)] for place in rng.permutation(len(names))[:3]]
