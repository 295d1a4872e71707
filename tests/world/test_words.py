from __future__ import annotations

import pytest

from polysense.errors import UnknownModalityError
from polysense.world.attributes import COLOURS, EVENTS, GERUND, LABELLED, MATERIALS, SHAPES, SIZES
from polysense.world.words import TEMPLATES, article, gerund, third_person, variants, word


def test_a_sense_has_its_own_word_or_the_common_one() -> None:
    assert word("cube", "depth", own=True) == "block"
    assert word("cube", "depth", own=False) == "cube"
    assert word("cube", "image", own=True) == "cube"
    assert variants("ball") == ("ball", "globe", "orb", "sphere")


def test_own_words_never_stand_for_something_else() -> None:
    common = {*SHAPES, *COLOURS, *SIZES, *MATERIALS, *EVENTS}
    own = [variant for name in common for variant in variants(name)[1:]]
    assert not set(own) & common
    assert len(own) == len(set(own))


def test_verbs_are_bent_as_in_english() -> None:
    assert {event: gerund(event) for event in EVENTS} == GERUND
    assert [third_person(verb) for verb in ("bounce", "knock", "push")] == ["bounces", "knocks", "pushes"]
    assert [article(noun) for noun in ("egg", "cube")] == ["an egg", "a cube"]


def test_every_labelled_sense_has_several_templates_with_one_gap() -> None:
    for sense in LABELLED:
        assert len(TEMPLATES[sense]) >= 3
    assert all(template.count("{}") == 1 for templates in TEMPLATES.values() for template in templates)


def test_an_unknown_sense_is_named() -> None:
    with pytest.raises(UnknownModalityError, match="unknown modality 'smell'"):
        word("ball", "smell", own=True)
