from __future__ import annotations

from itertools import combinations

import pytest

from polysense.errors import UnknownModalityError
from polysense.world.attributes import (
    CLASS_SHAPES,
    COLOURS,
    EVENTS,
    LABELLED,
    MATERIALS,
    SHAPES,
    SIZES,
    class_names,
    clip_labels,
    happenings,
    looks,
    still_labels,
)


def test_there_are_enough_of_everything() -> None:
    assert len(SHAPES) >= 8
    assert len(COLOURS) >= 8
    assert len(SIZES) >= 3
    assert len(MATERIALS) >= 4
    assert len(EVENTS) >= 6


def test_held_out_looks_have_a_colour_that_is_never_trained_for_their_shape() -> None:
    trained = {(look.shape, look.colour) for look in looks()}
    assert {look.shape for look in looks(held_out=True)} == set(SHAPES)
    assert not any((look.shape, look.colour) in trained for look in looks(held_out=True))


@pytest.mark.parametrize("attribute", ["colour", "size", "material"])
def test_a_value_is_held_out_for_one_shape_at_most(attribute: str) -> None:
    trained = {(look.shape, getattr(look, attribute)) for look in looks()}
    new = {(look.shape, getattr(look, attribute)) for look in looks(held_out=True)} - trained
    assert len(new) >= 4
    assert len({shape for shape, _ in new}) == len({value for _, value in new}) == len(new)


def test_held_out_happenings_are_new_in_shape_material_and_colour() -> None:
    found = [event for event in EVENTS if happenings(event, held_out=True)]
    assert len(found) >= 5
    colours = {(look.shape, look.colour) for look in looks()}
    for event in found:
        trained, new = happenings(event), happenings(event, held_out=True)
        assert not {h.look.shape for h in trained} & {h.look.shape for h in new}
        assert not {h.look.material for h in trained} & {h.look.material for h in new}
        assert not colours & {(h.look.shape, h.look.colour) for h in new}


def test_every_word_of_a_held_out_class_is_trained_in_other_company() -> None:
    for sense in LABELLED:
        known = {word for name in class_names(sense, which="trained") for word in name.split()}
        assert all(set(name.split()) <= known for name in class_names(sense, which="held_out"))


@pytest.mark.parametrize("sense", LABELLED)
def test_class_sets_have_ten_to_sixty_classes_that_split_into_trained_and_held_out(sense: str) -> None:
    every = class_names(sense)
    assert 10 <= len(every) <= 60
    trained, new = set(class_names(sense, which="trained")), set(class_names(sense, which="held_out"))
    assert not trained & new
    assert trained | new == set(every)


def test_class_sets_of_two_senses_overlap_in_part_only() -> None:
    for first, second in combinations(CLASS_SHAPES, 2):
        common = set(CLASS_SHAPES[first]) & set(CLASS_SHAPES[second])
        assert common
        assert common < set(CLASS_SHAPES[first]) | set(CLASS_SHAPES[second])
    assert len(set(CLASS_SHAPES.values())) == len(CLASS_SHAPES)


def test_labels_are_members_of_the_class_sets() -> None:
    for held_out in (False, True):
        for look in looks(held_out=held_out):
            assert all(name in class_names(sense) for sense, name in still_labels(look).items())
        for event in EVENTS:
            for happening in happenings(event, held_out=held_out):
                assert all(name in class_names(sense) for sense, name in clip_labels(happening).items())


def test_a_sense_without_labels_is_named() -> None:
    with pytest.raises(UnknownModalityError, match=r"unknown modality 'smell' \(known here: image"):
        class_names("smell")
