"""The demonstration's gallery on stand-ins; `tests/test_readme.py` runs the whole of it."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysense.recipes import demo
from polysense.recipes.demo import facts, gallery
from polysense.report import GalleryRow
from tests.recipes.words import Words


def test_facts_are_the_attributes_that_a_meaning_names() -> None:
    assert facts("tiny white metal cylinder") == {
        "size": "tiny", "colour": "white", "material": "metal", "shape": "cylinder",
    }  # fmt: skip
    assert facts("small rubber fall ; large glass hop") == {"size": "small", "material": "rubber", "event": "fall"}
    assert facts("a thing that nobody knows") == facts("") == {}


def event(name: str, size: str, colour: str, shape: str, material: str, *, main: bool) -> dict[str, Any]:
    return {"event": name, "size": size, "colour": colour, "shape": shape, "material": material, "main": main}


def write_world(root: Path) -> None:
    """Four stills, a thing in each, and three clips, the first of which begins with a minor event."""
    stills = [
        {
            "id": f"still-{number}",
            "media": dict.fromkeys(("image", "depth", "point_cloud"), f"{number}"),
            "semantics": {
                "image": f"{colour} {shape}",
                "depth": f"{size} {shape}",
                "point_cloud": f"{colour} {shape}",
            },
            "scene": {"objects": []},
        }
        for number, (size, colour, shape) in enumerate(
            [("tiny", "red", "cube"), ("tiny", "blue", "cube"), ("large", "red", "ball"), ("large", "blue", "ball")]
        )
    ]
    happening = [
        [
            event("hop", "tiny", "red", "ring", "wood", main=False),
            event("fall", "large", "red", "cube", "metal", main=True),
        ],
        [event("fall", "large", "blue", "cone", "metal", main=True)],
        [event("hop", "tiny", "blue", "ring", "wood", main=True)],
    ]
    clips = [
        {
            "id": f"clip-{number}",
            "media": dict.fromkeys(("image", "video", "audio"), f"{number}"),
            "semantics": {
                "image": next("{colour} {shape}".format(**each) for each in events if each["main"]),
                "video": " ; ".join("{size} {colour} {shape} {event}".format(**each) for each in events),
                "audio": " ; ".join("{size} {material} {event}".format(**each) for each in events),
            },
            "scene": {"events": events},
        }
        for number, events in enumerate(happening)
    ]
    (root / "manifests").mkdir()
    for kind, rows in (("stills", stills), ("clips", clips)):
        text = "\n".join(json.dumps(row) for row in rows)
        (root / "manifests" / f"{kind}-test.jsonl").write_text(text, encoding="utf-8")


@pytest.fixture
def rows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> dict[str, GalleryRow]:
    """What a checkpoint with all senses finds, by the senses of the query; every sample is a query."""
    write_world(tmp_path)
    drawn: list[GalleryRow] = []

    def draw(found: Sequence[GalleryRow]) -> str:
        drawn.extend(found)
        return "figure"

    model = SimpleNamespace(modalities=("image", "text", "depth", "point_cloud", "video", "audio"))
    part = SimpleNamespace(kind="grid", load=lambda source, facts: Path(source).name)
    processor = SimpleNamespace(part=lambda sense: part)
    monkeypatch.setattr(demo, "UniAlignModel", SimpleNamespace(from_pretrained=lambda folder: model))
    monkeypatch.setattr(demo, "UniAlignProcessor", SimpleNamespace(from_pretrained=lambda folder: processor))
    monkeypatch.setattr(demo, "Evaluator", Words)
    monkeypatch.setattr(demo, "draw_gallery", draw)
    monkeypatch.setattr(demo, "to_png", lambda figure: f"png of the {figure}".encode())
    assert gallery(tmp_path / "checkpoint", tmp_path, rows_per_query=3) == b"png of the figure"
    return {f"{'+'.join(pool.modality for pool, _ in row.query.parts)} {mine(row)}": row for row in drawn}


def mine(row: GalleryRow) -> str:
    """Id of the query's sample, which is its media's file name."""
    names = {str(pool.load(number)) for pool, number in row.query.parts if pool.kind != "text"}
    return names.pop()


def marks(row: GalleryRow, target: int) -> dict[str, bool]:
    """What was found in a target sense, and whether it counts as right."""
    return {str(each.pool.load(each.number)): each.right for each in row.found[target]}


def test_queries_of_one_sense_and_of_two_look_in_the_other_senses_of_their_samples(
    rows: dict[str, GalleryRow],
) -> None:
    found = {name.split()[0]: [group[0].pool.modality for group in row.found] for name, row in rows.items()}
    assert found == {
        "depth": ["image", "point_cloud"], "point_cloud": ["image", "depth"], "audio": ["image", "video"],
        "depth+text": ["image", "point_cloud"], "audio+video": ["image", "text"],
    }  # fmt: skip


def test_a_sample_is_right_if_all_that_both_show_is_the_same(rows: dict[str, GalleryRow]) -> None:
    row = next(row for name, row in rows.items() if name.startswith("depth "))
    same_shape = {"0": {"0", "1"}, "1": {"0", "1"}, "2": {"2", "3"}, "3": {"2", "3"}}[mine(row)]
    assert all(right == (name in same_shape) for name, right in marks(row, 0).items())  # colour: depth shows none
    composed = next(row for name, row in rows.items() if name.startswith("depth+text"))
    assert all(right == (name == mine(composed)) for name, right in marks(composed, 0).items())


def test_of_a_clip_the_main_event_counts_even_if_another_comes_first(rows: dict[str, GalleryRow]) -> None:
    # clip 0 hops first and falls for long: heard as "large metal fall", like clip 1 and unlike clip 2
    assert marks(rows["audio 0"], 1) == {"0": True, "1": True, "2": False}
    assert marks(rows["audio 2"], 1) == {"0": False, "1": False, "2": True}
    assert rows["audio 0"].query.parts[0][0].labels[rows["audio 0"].query.parts[0][1]] == "large metal fall"
