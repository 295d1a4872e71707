from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from polysense.world.attributes import COLOURS, MATERIALS, SHAPES, SIZES, class_names
from polysense.world.language import CAPTIONS, SHOWN
from polysense.world.words import variants

Rows = Callable[[str], list[dict[str, Any]]]
_VALUES = {"shape": SHAPES, "colour": COLOURS, "size": SIZES, "material": MATERIALS}


def _words(names: tuple[str, ...]) -> set[str]:
    return {variant for name in names for variant in variants(name)}


@pytest.mark.parametrize("sense", sorted(SHOWN))
def test_captions_name_only_what_the_sense_shows(rows: Rows, sense: str) -> None:
    hidden = {word for name, values in _VALUES.items() if name not in SHOWN[sense] for word in _words(values)}
    for row in rows("stills-train"):
        spoken = {word for caption in row["captions"][sense] for word in caption.split()}
        assert not spoken & hidden


@pytest.mark.parametrize("sense", sorted(SHOWN))
def test_there_are_at_least_five_different_paraphrases_that_name_the_subject(rows: Rows, sense: str) -> None:
    for row in rows("stills-train"):
        captions = row["captions"][sense]
        assert len(set(captions)) == CAPTIONS >= 5
        shape = row["scene"]["objects"][0]["shape"]
        assert all(set(caption.split()) & set(variants(shape)) for caption in captions)


def test_semantics_and_labels_agree_with_the_scene(rows: Rows) -> None:
    for row in rows("stills-train"):
        subject = row["scene"]["objects"][0]
        for sense, shown in SHOWN.items():
            assert row["semantics"][sense] == " ".join(subject[name] for name in shown)
        for sense, label in row["labels"].items():
            assert label in class_names(sense, which="trained")


def test_the_same_question_has_each_senses_own_answer(rows: Rows) -> None:
    for row in rows("stills-train"):
        answers = {q["modality"]: q["answer"] for q in row["questions"] if q["question"] == "what is it ?"}
        assert set(answers) == set(SHOWN)
        assert all(1 <= len(answer.split()) <= 3 for answer in answers.values())


def test_questions_ask_only_about_what_the_sense_shows(rows: Rows) -> None:
    for row in rows("stills-train"):
        for question in row["questions"]:
            if "colour" in question["question"]:
                assert question["modality"] in ("image", "point_cloud")
            if "made of" in question["question"]:
                assert question["modality"] == "thermal"


def test_referring_expressions_fit_one_object_alone(rows: Rows) -> None:
    found = 0
    for row in rows("stills-train") + rows("stills-test"):
        objects = row["scene"]["objects"]
        for entry in row["referring"]:
            words = set(entry["expression"].split())
            if words & {"left", "right"}:
                continue
            named = {
                name: value for name, values in _VALUES.items() for value in values if value in words
            }  # fmt: skip
            fitting = [o["object"] for o in objects if all(o[name] == value for name, value in named.items())]
            assert fitting == [entry["object"]]
            found += 1
    assert found > 20


def test_compositional_stills_are_labelled_with_classes_that_were_never_trained(rows: Rows) -> None:
    labels = [item for row in rows("stills-compositional") for item in row["labels"].items()]
    assert labels
    assert all(name in class_names(sense, which="held_out") for sense, name in labels)
