from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysense.world.subsets import SUBSETS, Subset, draw

Rows = Callable[[str], list[dict[str, Any]]]


def _still(index: int, label: str = "red cube", meaning: str = "a") -> dict[str, Any]:
    senses = ("image", "depth")
    return {
        "id": f"s{index}",
        "media": {sense: {"path": f"{sense}{index}.png"} for sense in senses},
        "labels": {"depth": label} if index % 2 else {"image": "red cube"},
        "captions": {"image": ["a"], "depth": ["b"], "web": ["c"]},
        "questions": [{"modality": sense, "question": "?", "answer": "!"} for sense in senses],
        "referring": [],
        "semantics": {"image": meaning, "depth": meaning},
        "scene": {},
    }


def test_a_subset_is_a_stretch_of_the_samples_with_its_senses_alone() -> None:
    every = {"stills": [_still(k) for k in range(10)]}
    drawn = draw(Subset(("depth",), stills=(0.2, 0.6)), every)
    assert [row["id"] for row in drawn] == ["s2", "s3", "s4", "s5"]
    assert all(set(row["media"]) == {"depth"} for row in drawn)
    assert drawn[0]["captions"] == {"depth": ["b"]}
    assert [question["modality"] for question in drawn[0]["questions"]] == ["depth"]
    assert set(every["stills"][2]["media"]) == {"image", "depth"}


def test_a_labelled_subset_holds_only_rows_with_that_label() -> None:
    drawn = draw(
        Subset(("image", "depth"), stills=(0.0, 1.0), labelled="depth"), {"stills": [_still(k) for k in range(6)]}
    )
    assert [row["id"] for row in drawn] == ["s1", "s3", "s5"]
    assert all(set(row["labels"]) == {"depth"} for row in drawn)


def test_an_unpaired_subset_has_no_text() -> None:
    (row,) = draw(Subset(("depth",), stills=(0.0, 1.0), text=False), {"stills": [_still(1)]})
    assert not {"captions", "questions", "referring"} & set(row)


def test_a_retrieval_pool_has_every_meaning_once() -> None:
    every = {"stills": [_still(k, meaning="ab"[k % 2]) for k in range(6)]}
    assert [row["id"] for row in draw(Subset(("image",), stills=(0.0, 1.0), unique="image"), every)] == ["s0", "s1"]


def test_bimodal_subsets_share_no_sample(rows: Rows) -> None:
    names = [name for name in SUBSETS if name.startswith("bimodal")]
    ids = [row["id"] for name in names for row in rows(name)]
    assert len(ids) == len(set(ids)) > 0


@pytest.mark.parametrize("sense", ["depth", "point_cloud", "thermal"])
def test_paired_and_unpaired_samples_of_a_sense_are_disjoint(rows: Rows, sense: str) -> None:
    paired, unpaired = ({row["id"] for row in rows(f"{kind}-{sense}")} for kind in ("train", "unpaired"))
    assert not paired & unpaired


def test_every_subset_carries_the_senses_it_names(rows: Rows) -> None:
    for name, subset in SUBSETS.items():
        for row in rows(name):
            assert set(row["media"]) == set(subset.media)
