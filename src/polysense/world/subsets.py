"""Subsets of a world: which samples and which of their media a data set holds.

A subset takes a stretch of the samples of one or two kinds in a split, given as shares, so that two subsets with
disjoint stretches never share a sample whatever the size of the world.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

Row = dict[str, Any]


@dataclass(frozen=True)
class Subset:
    """One drawn data set.

    Attributes:
        media: senses whose files it holds.
        stills: first and last share of the split's stills.
        clips: first and last share of the split's clips.
        split: the split it is drawn from.
        labelled: sense whose class names every row must have; its data set does not cover other shapes.
        text: whether captions, questions and narration go along; without them only labels bind senses.
        without_event: an event that no clip of it contains.
        unique: sense by whose semantics rows are unique: a retrieval pool.
    """

    media: tuple[str, ...]
    stills: tuple[float, float] = (0.0, 0.0)
    clips: tuple[float, float] = (0.0, 0.0)
    split: str = "train"
    labelled: str | None = None
    text: bool = True
    without_event: str | None = None
    unique: str | None = None


SUBSETS: dict[str, Subset] = {
    # image and text, for an anchor; the frames of some clips bring in the words of events
    "train-image-text": Subset(("image",), stills=(0.0, 0.7), clips=(0.0, 0.3)),
    # few pairs per sense: with the image and a text
    "train-depth": Subset(("image", "depth"), stills=(0.4, 0.75), labelled="depth"),
    "train-point_cloud": Subset(("image", "point_cloud"), stills=(0.65, 1.0), labelled="point_cloud"),
    "train-thermal": Subset(("image", "thermal"), stills=(0.5, 0.8), labelled="thermal"),
    "train-video": Subset(("image", "video"), clips=(0.0, 1.0), labelled="video"),
    "train-audio": Subset(("image", "audio"), clips=(0.0, 1.0), labelled="audio"),
    # unpaired: one sense and its class names, no picture and no sentence
    "unpaired-image": Subset(("image",), stills=(0.0, 0.4), labelled="image", text=False),
    "unpaired-depth": Subset(("depth",), stills=(0.75, 1.0), labelled="depth", text=False),
    "unpaired-point_cloud": Subset(("point_cloud",), stills=(0.4, 0.65), labelled="point_cloud", text=False),
    "unpaired-thermal": Subset(("thermal",), stills=(0.8, 1.0), labelled="thermal", text=False),
    "unpaired-video": Subset(("video",), clips=(0.0, 0.5), labelled="video", text=False),
    "unpaired-audio": Subset(("audio",), clips=(0.5, 1.0), labelled="audio", text=False),
    # two senses a time, disjoint in samples, as one stage after another would meet them
    "bimodal-video-text": Subset(("video",), clips=(0.0, 1 / 3), without_event="rise"),
    "bimodal-audio-text": Subset(("audio",), clips=(1 / 3, 2 / 3), without_event="hop"),
    "bimodal-image-text": Subset(("image",), clips=(2 / 3, 1.0)),
    "trimodal-audio-video-text": Subset(("audio", "video"), clips=(0.0, 1.0)),
    "trimodal-image-depth-text": Subset(("image", "depth"), stills=(0.0, 1.0)),
    **{
        f"retrieval-{sense}-{split}": Subset(
            ("image", sense) if sense != "image" else ("image",), stills=(0.0, 1.0), split=split, unique=sense
        )
        for sense in ("image", "depth", "point_cloud", "thermal")
        for split in ("test", "compositional")
    },
    **{
        f"retrieval-{sense}-{split}": Subset(
            ("image", "video", "audio"), clips=(0.0, 1.0), split=split, unique=sense
        )
        for sense in ("video", "audio")
        for split in ("test", "compositional")
    },
}  # fmt: skip

_TEXT_KEYS = ("captions", "questions", "referring", "narration", "narrations")


def draw(subset: Subset, rows: Mapping[str, Sequence[Row]]) -> list[Row]:
    """Rows of one subset from the rows of its split, by kind ("stills", "clips"), in order."""
    found: list[Row] = []
    for kind, (first, last) in (("stills", subset.stills), ("clips", subset.clips)):
        every = rows.get(kind, ())
        found += every[round(first * len(every)) : round(last * len(every))]
    kept = [_restrict(row, subset) for row in found if _belongs(row, subset)]
    return kept if subset.unique is None else _unique(kept, subset.unique)


def _belongs(row: Row, subset: Subset) -> bool:
    if subset.labelled is not None and subset.labelled not in row["labels"]:
        return False
    return all(event["event"] != subset.without_event for event in row["scene"].get("events", ()))


def _restrict(row: Row, subset: Subset) -> Row:
    """The row with the subset's senses alone: a data set does not know the other senses' files, labels or captions."""
    senses = set(subset.media)
    kept = {key: value for key, value in row.items() if subset.text or key not in _TEXT_KEYS}
    kept["media"] = {modality: row["media"][modality] for modality in subset.media}
    labels = senses if subset.labelled is None else {subset.labelled}
    kept["labels"] = {sense: name for sense, name in row["labels"].items() if sense in labels}
    if subset.text:
        captions = senses | ({"web"} if senses == {"image"} else set())
        kept["captions"] = {key: texts for key, texts in row["captions"].items() if key in captions}
        kept["questions"] = [question for question in row["questions"] if question["modality"] in senses]
    kept["semantics"] = {sense: text for sense, text in row["semantics"].items() if sense in senses}
    return kept


def _unique(rows: Iterable[Row], sense: str) -> list[Row]:
    first: dict[str, Row] = {}
    for row in rows:
        first.setdefault(row["semantics"][sense], row)
    return list(first.values())
