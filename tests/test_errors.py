from __future__ import annotations

import inspect
import pickle
from pathlib import Path

import pytest

from polysense import errors
from polysense.errors import MediaError, PolysenseError, UnknownModalityError, UnregisteredModalityError

CLASSES = [kind for _, kind in inspect.getmembers(errors, inspect.isclass) if issubclass(kind, PolysenseError)]


def example(kind: type[PolysenseError]) -> PolysenseError:
    if kind is UnknownModalityError:
        return UnknownModalityError("smell", ["image", "text"], where="config.yaml")
    if kind is UnregisteredModalityError:
        return UnregisteredModalityError("smell")
    return kind("the file is empty", where=Path("a/b.png"), fix="Give another file.")


def test_a_message_says_where_what_and_what_to_do() -> None:
    error = MediaError("the file is empty", where=Path("a/b.png"), fix="Give another file.")
    assert str(error) == "a/b.png: the file is empty. Give another file."
    assert (error.what, error.where, error.fix) == ("the file is empty", "a/b.png", "Give another file.")


def test_place_and_advice_may_be_missing() -> None:
    assert str(MediaError("it is empty")) == "it is empty."


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_survives_the_trip_between_processes(kind: type[PolysenseError]) -> None:
    error = example(kind)
    back = pickle.loads(pickle.dumps(error))
    assert type(back) is kind
    assert str(back) == str(error)
    assert back.__dict__ == error.__dict__


@pytest.mark.parametrize("kind", CLASSES)
def test_every_error_has_a_docstring_and_the_one_base(kind: type[PolysenseError]) -> None:
    assert kind.__doc__
    assert issubclass(kind, PolysenseError)


def test_an_unknown_modality_lists_the_known_ones_and_reads_as_a_sentence() -> None:
    error = UnknownModalityError("smell", ["image", "text"])
    assert isinstance(error, KeyError)
    assert str(error).startswith("unknown modality 'smell' (known here: image, text).")
    assert str(UnknownModalityError("smell", [])).count("none") == 1


def test_a_misspelt_name_is_met_with_the_right_one() -> None:
    assert str(UnknownModalityError("audoi", ["image", "audio"])).endswith("Did you mean 'audio'?")
    assert "add_modality('smell')" in str(UnknownModalityError("smell", ["image", "audio"]))


def test_an_unregistered_modality_names_the_missing_call() -> None:
    assert "polysense.register_modality(Modality(name='smell', ...))" in str(UnregisteredModalityError("smell"))
