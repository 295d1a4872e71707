"""What is said about stills: captions, short questions, referring expressions and canonical semantics.

A sentence about a sense names only what that sense can show: no colour in a depth map, no material in a photograph.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from polysense.world.attributes import Look
from polysense.world.camera import Camera
from polysense.world.render import Body
from polysense.world.words import article, variants, word

CAPTIONS = 6  # per sample and sense

SHOWN = {
    "image": ("size", "colour", "shape"),
    "depth": ("size", "shape"),
    "point_cloud": ("size", "colour", "shape"),
    "thermal": ("size", "material", "shape"),
}
"""Attributes of an object that a still of each sense shows, in the order of words."""

_NAMED = {
    "image": ("colour", "shape"), "depth": ("size", "shape"), "point_cloud": ("colour", "shape"),
    "thermal": ("material", "shape"),
}  # fmt: skip
_STYLE: dict[str, tuple[str, ...]] = {
    "image": (
        "{full}", "a photo of {full}", "there is {short} on the floor", "a picture of {short}", "{short}",
        "one can see {full}", "{short} stands in a room", "the floor carries {full}",
    ),
    "depth": (
        "{full}", "a depth map of {full}", "{full} seen by a depth camera", "the relief of {full}",
        "near the camera : {full}", "{full} rises from the ground", "the range image holds {full}",
    ),
    "point_cloud": (
        "{short}", "a scan of {short}", "a point cloud of {full}", "a 3d model of {short}", "{full} in points",
        "scanned from all sides : {short}", "this object is {full}",
    ),
    "thermal": (
        "{full}", "a thermal picture of {short}", "{full} seen by its warmth", "a heat map of {full}",
        "{short} glows in infrared", "warmth gives away {short}",
    ),
}  # fmt: skip
_WITH_OTHER = ("{full} {relation} {other}", "{short} {relation} {other}", "{other} is there , and {short}")
_WEB = (
    "{size} {colour} {material} {shape}", "{colour} {shape} made of {material}", "{material} {shape}",
    "{size} {material} {shape}", "{size} {shape}", "buy this {colour} {material} {shape}",
)  # fmt: skip

_COUNT = {1: "one", 2: "two", 3: "three"}
_QUESTIONS = {
    "shape": "what shape is {it} ?", "colour": "what colour is {it} ?", "size": "how large is {it} ?",
    "material": "what is {it} made of ?",
}  # fmt: skip
_PRESENCE = {"image": ("yes", "no"), "depth": ("present", "absent"), "thermal": ("yes", "no")}


def phrase(look: Look, modality: str, attributes: Sequence[str], *, own: bool) -> str:
    return " ".join(word(getattr(look, name), modality, own=own) for name in attributes)


def semantics(look: Look, modality: str) -> str:
    """All that a still of the sense shows of its subject, in plain words."""
    return phrase(look, modality, SHOWN[modality], own=False)


def relation(body: Body, other: Body, camera: Camera) -> str:
    """Where `body` stands as seen from the camera, in words that are followed by the other one's name."""
    offset = camera.rotation @ (body.centre[0] - other.centre[0])
    if abs(offset[0]) > abs(offset[2]):
        return "right of" if offset[0] > 0 else "left of"
    return "behind" if offset[2] > 0 else "in front of"


def still_captions(
    rng: np.random.Generator, objects: Sequence[Body], camera: Camera, modalities: Sequence[str]
) -> dict[str, list[str]]:
    """Paraphrases about the subject for each sense; every second one in the sense's own words."""
    captions = {}
    for modality in modalities:
        templates = list(_STYLE[modality])
        if len(objects) > 1 and modality in ("image", "depth"):
            templates += _WITH_OTHER
        chosen = rng.permutation(len(templates))[:CAPTIONS]
        other = objects[int(rng.integers(1, len(objects)))] if len(objects) > 1 else None
        captions[modality] = [
            _fill(templates[t], objects[0], other, camera, modality, own=i % 2 == 1) for i, t in enumerate(chosen)
        ]
    return captions


def _fill(template: str, subject: Body, other: Body | None, camera: Camera, modality: str, *, own: bool) -> str:
    names = {
        "full": article(phrase(subject.look, modality, SHOWN[modality], own=own)),
        "short": article(phrase(subject.look, modality, _NAMED[modality], own=own)),
    }
    if other is not None:
        names["other"] = article(phrase(other.look, modality, _NAMED[modality], own=own))
        names["relation"] = relation(subject, other, camera)
    return template.format(**names)


def web_captions(rng: np.random.Generator, look: Look) -> list[str]:
    """Loose texts as found beside pictures: any synonym, and things that the picture hardly shows."""
    attributes = ("size", "colour", "material", "shape")
    found = []
    for index in rng.permutation(len(_WEB))[:4]:
        words = {name: _any(rng, getattr(look, name)) for name in attributes}
        found.append(_WEB[index].format(**words))
    return found


def _any(rng: np.random.Generator, name: str) -> str:
    choices = variants(name)
    return choices[int(rng.integers(len(choices)))] if rng.uniform() < 0.6 else name


def still_questions(
    rng: np.random.Generator, objects: Sequence[Body], camera: Camera, *, central: bool
) -> list[dict[str, str]]:
    """The same questions to every sense; answers in the words and conventions of the sense."""
    subject = objects[0].look
    side = float(camera.project(objects[0].centre)[0, 0])
    where = "in the middle" if abs(side) < 8 else "on the left" if side < 0 else "on the right"
    it = "it" if central else f"the object {where}"
    shapes = {body.look.shape for body in objects}
    found = []

    def ask(modality: str, question: str, answer: str) -> None:
        found.append({"modality": modality, "question": question, "answer": answer})

    for modality, shown in SHOWN.items():
        ask(modality, f"what is {it} ?", phrase(subject, modality, _NAMED[modality], own=True))
        for attribute in shown:
            question = _QUESTIONS[attribute].format(it=it)
            ask(modality, question, word(getattr(subject, attribute), modality, own=True))
        if modality in _PRESENCE:
            asked = subject.shape if rng.uniform() < 0.5 else ("cone", "ball", "cube", "ring")[int(rng.integers(4))]
            question = f"is there {article(word(asked, modality, own=True))} ?"
            ask(modality, question, _PRESENCE[modality][asked not in shapes])
        if modality == "image":
            ask(modality, "how many objects are there ?", _COUNT[len(objects)])
        if modality == "depth":
            ask(modality, "how many objects are there ?", str(len(objects)))
    return found


def referring(objects: Sequence[Body], pixels: Sequence[int], camera: Camera) -> list[dict[str, Any]]:
    """Expressions that fit exactly one object of the picture, for every object that shows enough of itself."""
    spots = camera.project(np.concatenate([body.centre for body in objects]))[:, 0]
    found = []
    for index, body in enumerate(objects):
        if pixels[index] < 12:
            continue
        look, others = body.look, [o.look for k, o in enumerate(objects) if k != index]
        candidates = [
            (f"the {look.colour} {look.shape}", all((o.colour, o.shape) != (look.colour, look.shape) for o in others)),
            (f"the {look.shape}", all(o.shape != look.shape for o in others)),
            (f"the {look.colour} object", all(o.colour != look.colour for o in others)),
            (f"the {look.size} {look.shape}", all((o.size, o.shape) != (look.size, look.shape) for o in others)),
        ]
        if len(objects) > 1:
            gaps = np.delete(spots, index) - spots[index]
            candidates.append(("the object on the left", bool((gaps > 4).all())))
            candidates.append(("the object on the right", bool((gaps < -4).all())))
        found += [{"expression": text, "object": body.number} for text, unique in candidates if unique]
    return found
