"""What is said about clips: sentences with order and time, narration second by second, short questions.

Sentences about the picture name what is seen, sentences about the sound what is heard: no colour in a sound, no
material in a film, and no event that the sense does not show.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from polysense.world.attributes import Look
from polysense.world.events import SECONDS, Event, main_event
from polysense.world.language import CAPTIONS
from polysense.world.words import article, gerund, third_person, variants, word

SENSES = ("video", "audio")
NARRATED = 0.4  # share of the clips that have a narration
_SHOWN = {"video": ("size", "colour", "shape"), "audio": ("size", "material")}
_NAMED = {"video": ("colour", "shape"), "audio": ("material",)}
_THING = {"video": "", "audio": " thing"}

_CLAUSES = ("{who} {verbs}", "{who} is {ing}", "{who} {verbs} {when}", "{when} {who} {verbs}")
_FRAMES = {
    "video": ("{}", "a video of {noun}", "one sees {noun}", "{}", "in the scene {}", "{}"),
    "audio": ("{}", "the sound of {noun}", "{noun} is heard", "{}", "a recording of {noun}", "one hears {noun}"),
}
_JOINS = {
    2: ("{0} , then {1}", "first {0} , then {1}", "{0} , and next {1}", "before {1} , {0}", "after {0} , {1}"),
    3: ("{0} , then {1} , then {2}", "first {0} , then {1} , finally {2}", "{0} , next {1} , and at last {2}"),
}
_WHILE = "{0} while {1}"
_NOTHING = {"video": ("nothing moves", "an empty scene"), "audio": ("silence", "only noise")}
_COUNT = ("none", "one", "two", "three")


def shown_events(events: Sequence[Event], sense: str) -> list[Event]:
    """The events that a sense has any trace of, in order."""
    return [event for event in events if (event.visible if sense == "video" else event.audible)]


def clip_semantics(events: Sequence[Event], sense: str) -> str:
    """All that the sense shows of a clip, in plain words and in order."""
    return " ; ".join(
        f"{' '.join(getattr(event.look, name) for name in _SHOWN[sense])} {event.name}"
        for event in shown_events(events, sense)
    )


def clip_captions(rng: np.random.Generator, events: Sequence[Event], sense: str) -> list[str]:
    """Paraphrases of what a clip shows; every second one in the sense's own words."""
    there = shown_events(events, sense)
    return [_sentence(rng, there, sense, own=i % 2 == 1, first=i) for i in range(CAPTIONS)]


def _sentence(rng: np.random.Generator, events: Sequence[Event], sense: str, *, own: bool, first: int) -> str:
    if len(events) == 1:
        frame = _FRAMES[sense][(first + int(rng.integers(2))) % len(_FRAMES[sense])]
        return frame.format(_clause(rng, events[0], sense, own=own), noun=_noun(events[0], sense, own=own))
    clauses = [_clause(rng, event, sense, own=own, timed=False) for event in events]
    if len(events) == 2 and events[1].start < events[0].end and rng.uniform() < 0.5:
        return _WHILE.format(*clauses)
    joins = _JOINS[len(events)]
    return joins[int(rng.integers(len(joins)))].format(*clauses)


def _clause(rng: np.random.Generator, event: Event, sense: str, *, own: bool, timed: bool = True) -> str:
    verb = word(event.name, sense, own=own)
    template = _CLAUSES[int(rng.integers(len(_CLAUSES) if timed else 2))]
    return template.format(
        who=_who(rng, event.look, sense, own=own), verbs=third_person(verb), ing=gerund(verb), when=_when(rng, event)
    )


def _who(rng: np.random.Generator, look: Look, sense: str, *, own: bool) -> str:
    attributes = _SHOWN[sense] if rng.uniform() < 0.6 else _NAMED[sense]
    return article(" ".join(word(getattr(look, name), sense, own=own) for name in attributes) + _THING[sense])


def _noun(event: Event, sense: str, *, own: bool) -> str:
    named = " ".join(word(getattr(event.look, name), sense, own=own) for name in _NAMED[sense])
    doing = gerund(word(event.name, sense, own=own))
    return f"{doing} {named}" if sense == "audio" else article(f"{doing} {named}")


def _when(rng: np.random.Generator, event: Event) -> str:
    if rng.uniform() < 0.5:
        return f"from second {event.start} to {event.end}"
    middle = (event.start + event.end) / 2
    return "early on" if middle < SECONDS / 3 else "late" if middle > 2 * SECONDS / 3 else "halfway through"


def narration(rng: np.random.Generator, events: Sequence[Event], sense: str) -> list[str]:
    """One phrase per second about what goes on in it, as one sense has it."""
    there = shown_events(events, sense)
    quiet = _NOTHING[sense][int(rng.integers(2))]
    told = []
    for second in range(SECONDS):
        now = [_clause(rng, event, sense, own=False, timed=False) for event in there if event.covers(second)]
        told.append(" and ".join(now) if now else quiet)
    return told


def web_captions(rng: np.random.Generator, event: Event) -> list[str]:
    """Loose texts as found beside a still from the clip: any synonym, and things that a single picture cannot show."""

    def any_word(name: str) -> str:
        choices = variants(name)
        return choices[int(rng.integers(len(choices)))] if rng.uniform() < 0.6 else name

    look = event.look
    doing = [gerund(any_word(event.name)) for _ in range(4)]
    return [
        f"{any_word(look.size)} {any_word(look.colour)} {any_word(look.shape)} {doing[0]}",
        f"{doing[1]} {any_word(look.material)} {any_word(look.shape)}",
        f"{doing[2]} {any_word(look.shape)}",
        f"the sound of {doing[3]} {any_word(look.material)}",
    ]


def clip_questions(events: tuple[Event, ...]) -> list[dict[str, str]]:
    """The same questions to both senses; answers in the words and conventions of each."""
    found, main = [], main_event(events)
    for sense in SENSES:
        there = shown_events(events, sense)
        doing = [gerund(word(event.name, sense, own=True)) for event in there]
        pairs = [
            ("what is it ?", _noun(main, sense, own=True)),
            ("what happens first ?", doing[0]),
            ("what happens last ?", doing[-1]),
            ("how large is it ?", word(main.look.size, sense, own=True)),
            ("how many events are there ?", _COUNT[len(there)] if sense == "video" else str(len(there))),
            ("when does it begin ?", f"second {main.start}" if sense == "video" else f"{main.start} s"),
        ]
        if sense == "video":
            pairs.append(("what colour is it ?", word(main.look.colour, sense, own=True)))
            pairs.append(("what shape is it ?", word(main.look.shape, sense, own=True)))
        else:
            pairs.append(("what is it made of ?", word(main.look.material, sense, own=True)))
        found += [{"modality": sense, "question": question, "answer": answer} for question, answer in pairs]
    return found
