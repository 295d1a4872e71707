"""`polysense world` builds, checks and draws, and says what came of it."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace

import pytest

from polysense.cli import main
from polysense.world import WorldConfig
from tests.cli.stand_ins import stand_in


def test_build_says_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = SimpleNamespace(directory=tmp_path, content_hash="ab" * 32, counts={"stills-train": 2400},
                            build_seconds={"depth": 1.5}, wall_seconds=3.0)  # fmt: skip
    build = stand_in(monkeypatch, "polysense.world.build_world", built)
    assert main(["world", "build", str(tmp_path), "--size", "tiny", "--difficulty", "easy", "--seed", "4"]) == 0
    build.assert_called_once_with(tmp_path, WorldConfig(size="tiny", difficulty="easy", seed=4))
    out, err = capsys.readouterr()
    assert ["stills-train", "2,400"] in [line.split() for line in out.splitlines()]
    assert out.endswith(f"{tmp_path}: content abababababab, built in 3.0 s\n")
    assert err == "processor time: depth 1.5 s\n"


def test_build_refuses_an_unknown_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "build", str(tmp_path), "--size", "huge"]) == 1
    assert "unknown world size 'huge'" in capsys.readouterr().err


def test_verify_and_gallery_say_what_they_did(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    stand_in(monkeypatch, "polysense.world.verify_world", 1234)
    draw = stand_in(monkeypatch, "polysense.world.gallery.draw_gallery", tmp_path / "w.png")
    assert main(["world", "verify", str(tmp_path)]) == 0
    assert main(["world", "gallery", str(tmp_path), str(tmp_path / "w.png")]) == 0
    draw.assert_called_once_with(tmp_path, tmp_path / "w.png")
    expected = f"{tmp_path}: all 1,234 files are as they were built\n{tmp_path / 'w.png'}\n"
    assert capsys.readouterr().out == expected


def test_a_gallery_that_could_not_be_saved_is_refused_before_it_is_drawn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    draw = stand_in(monkeypatch, "polysense.world.gallery.draw_gallery")
    assert main(["world", "gallery", str(tmp_path), str(tmp_path / "nowhere" / "w.png")]) == 1
    assert "nowhere: there is no such folder" in capsys.readouterr().err
    assert main(["world", "gallery", str(tmp_path), "/proc/w.png"]) == 1
    assert "/proc/w.png: it cannot be written" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["world", "gallery", str(tmp_path), str(tmp_path / "w.txt")])
    assert "does not end in .png" in capsys.readouterr().err
    draw.assert_not_called()
