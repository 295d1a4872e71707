"""`polysense codes` shows the codes of every file that can be used, and says why of the others."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from polysense.errors import MediaError
from tests.cli.stand_ins import stand_in, write_media

CODES = {"audio": [7, 7, 3, 1], "image": [5], "text": [3, 9]}


class Reader:
    modalities, longest = ("audio", "image", "text"), 4

    def assumed(self, sense: str, facts: dict[str, Any]) -> dict[str, Any]:
        return {} if sense != "audio" or facts else {"gain": 2}

    def timeline(self, sense: str, source: Any, facts: dict[str, Any] | None = None) -> list[int]:
        if facts:
            return [facts["sampling_rate"]]
        if Path(source).suffix == ".wav" and Path(source).name == "photo.wav":
            raise MediaError("is a picture", where=str(source), fix="Give a sound.")
        return CODES[sense]


@pytest.fixture(autouse=True)
def reader(monkeypatch: pytest.MonkeyPatch) -> Any:
    return stand_in(monkeypatch, "polysense.cli.codes._reader", Reader())


def test_every_file_is_a_row_of_codes_with_what_it_shares(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], reader: Any
) -> None:
    media, out = write_media(tmp_path), tmp_path / "codes.json"
    words = ["codes", str(media / "sound.wav"), str(media / "photo.png"), "--text", "a bell", "--model", "me/x"]
    assert main([*words, "--revision", "stage-2", "--output", str(out)]) == 0
    reader.assert_called_once_with("me/x", "stage-2")
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[1:] for row in rows[:2]] == [
        ["audio", "7", "7", "3", "1", "25", "%"], ["image", "5", "0", "%"],
    ]  # fmt: skip
    assert rows[2][-4:] == ["3", "9", "50", "%"]
    items = json.loads(out.read_text())["items"]
    assert [each["codes"] for each in items] == [[7, 7, 3, 1], [5], [3, 9]]


def test_a_file_that_cannot_be_used_is_one_line_and_the_others_are_shown(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    media = write_media(tmp_path)
    assert main(["codes", f"{media / 'photo.wav'}:audio", str(media / "sound.wav"), "--model", "x"]) == 1
    said = capsys.readouterr()
    assert "is a picture" in said.err and "1 of 2 have no codes" in said.err
    assert "sound.wav: at most the first 4 codes are shown" in said.err
    assert "7 7 3 1" in said.out and "shared" not in said.out


def test_facts_reach_the_sense_that_they_are_of(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = write_media(tmp_path)
    files = [str(media / "sound.wav"), str(media / "photo.png")]
    assert main(["codes", *files, "--fact", "audio.sampling_rate=99", "--model", "x"]) == 0
    rows = [line.split() for line in capsys.readouterr().out.splitlines() if "%" in line]
    assert [row[1:-2] for row in rows] == [["audio", "99"], ["image", "5"]]


def test_what_is_assumed_of_a_file_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    media = write_media(tmp_path)
    words = ["codes", str(media / "sound.wav"), str(media / "photo.png"), "--text", "a bell", "--model", "x"]
    assert main(words) == 0
    said = " ".join(capsys.readouterr().err.split())
    assert "sound.wav: audio.gain=2 are assumed; say otherwise with --fact" in said and said.count("are assumed") == 1
    assert main([*words, "--fact", "audio.sampling_rate=99"]) == 0 and "assumed" not in capsys.readouterr().err


def test_a_file_of_a_sense_that_the_model_lacks_is_named(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Reader, "modalities", ("image", "text"))
    media = write_media(tmp_path)
    assert main(["codes", str(media / "sound.wav"), str(media / "photo.png"), "--model", "x"]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"{media / 'sound.wav'}: unknown modality 'audio'" in said and "say which, as in FILE:image" in said


def test_there_must_be_something_to_show(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["codes", "--model", "x"]) == 1
    assert "nothing to show" in capsys.readouterr().err
    assert main(["codes", "--text", "a", "--model", "x", "--output", "/proc/nope/codes.json"]) == 1
    assert "codes.json: it cannot be written" in capsys.readouterr().err
