"""What a file is, is said after a colon or judged by its content; its name counts for nothing."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from polysense.cli.sources import Source, add_facts, facts_by_sense, guess_modality, parse_source
from polysense.errors import ConfigError, MediaError, UnknownModalityError
from tests.cli.stand_ins import write_media

_KNOWN = ["image", "depth"]


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


@pytest.mark.parametrize(
    ("name", "modality"),
    [("photo.png", "image"), ("deep.png", "depth"), ("sound.wav", "audio"), ("cloud.npy", "point_cloud"),
     ("metres.npy", "depth"), ("words.txt", "text"), ("photo.wav", "image")],
)  # fmt: skip
def test_the_sense_is_judged_by_content(media: Path, name: str, modality: str) -> None:
    assert guess_modality(media / name) == modality


@pytest.mark.parametrize(
    ("name", "reason"),
    [("empty.png", "is empty"), ("nowhere.png", "does not exist"), ("unclear.npy", "several senses")],
)
def test_what_cannot_be_judged_is_an_error_about_the_file(media: Path, name: str, reason: str) -> None:
    with pytest.raises(MediaError, match=reason) as caught:
        guess_modality(media / name)
    assert name in str(caught.value)


def test_a_colon_names_the_sense(media: Path) -> None:
    given = f"{media}/deep.png:depth"
    assert parse_source(given, _KNOWN) == Source(given, media / "deep.png", "depth")
    with pytest.raises(UnknownModalityError, match="'smell'"):
        parse_source(f"{media}/deep.png:smell", _KNOWN)


def test_the_sense_that_was_given_counts_before_the_content(media: Path) -> None:
    assert Source("a", media / "deep.png").sense() == "depth"
    assert Source("a", media / "deep.png", "thermal").sense() == "thermal"


def test_a_colon_may_belong_to_the_name(tmp_path: Path) -> None:
    file = tmp_path / "scene:depth"
    file.write_bytes(b"x")
    assert parse_source(str(file), _KNOWN) == Source(str(file), file, None)
    assert parse_source(f"{file}:image", _KNOWN) == Source(f"{file}:image", file, "image")
    assert parse_source("C:depths/x.png", _KNOWN).modality is None


def test_a_text_given_as_a_file_is_left_for_the_reader_to_refuse() -> None:
    text = "once upon a time: " * 300  # longer than any name may be
    assert parse_source(text, _KNOWN) == Source(text, Path(text), None)


@pytest.mark.parametrize("value", ["2020-13-01", "[1", "[" * 2000, "9" * 5000, "!!int x"], ids=lambda text: text[:10])
def test_a_fact_that_is_no_plain_yaml_is_a_mistake_of_usage(value: str, capsys: pytest.CaptureFixture[str]) -> None:
    parser = argparse.ArgumentParser()
    add_facts(parser)
    with pytest.raises(SystemExit):
        parser.parse_args(["--fact", f"depth.focal={value}"])
    assert "argument --fact: depth.focal" in capsys.readouterr().err


def test_a_clip_may_be_told_to_be_silent_and_no_fact_may_be_mistyped() -> None:
    assert facts_by_sense([("audio", "silent", True)], ["audio"]) == {"audio": {"silent": True}}
    with pytest.raises(ConfigError, match=r"audio has no fact 'silnt'.*sampling_rate, silent"):
        facts_by_sense([("audio", "silnt", True)], ["audio"])
