"""`polysense embed` takes any mix of files; one that is bad does not spoil the others."""

from __future__ import annotations

import inspect
import json
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors import safe_open

from polysense import UniAlignModel, UniAlignProcessor
from polysense.cli import main
from tests.cli.stand_ins import stand_in, write_media
from tests.hub.stages import tiny_processor, write_stage


@pytest.fixture(autouse=True)
def unchecked_constructor(monkeypatch: pytest.MonkeyPatch) -> None:
    """transformers reads the constructor's code object, which the shape checks of the tests hide behind a wrapper."""
    monkeypatch.setattr(UniAlignProcessor, "__init__", inspect.unwrap(UniAlignProcessor.__init__))


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_stage(tmp_path_factory.mktemp("model") / "stage-1-depth", number=1, senses=("depth", "audio"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


def test_files_of_several_senses_are_embedded_and_compared(
    model: Path, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    files = [str(media / name) for name in ("photo.png", "deep.png", "sound.wav", "words.txt")]
    words = ["embed", *files[:2], "--model", str(model), *files[2:], "--text", "a red cube", "--compare"]
    assert main(words) == 0
    out = capsys.readouterr().out
    rows = [line.split() for line in out.splitlines() if line.strip()[:1].isdigit() and len(line.split()) > 5]
    assert [row[2] if row[1].startswith("/") else "text" for row in rows] == [
        "image",
        "depth",
        "audio",
        "text",
        "text",
    ]
    cosines = np.array([[float(x) for x in row[-5:]] for row in rows])
    assert np.allclose(np.diag(cosines), 1, atol=1e-3) and np.allclose(cosines, cosines.T, atol=2e-3)
    assert cosines[3, 4] == pytest.approx(1.0, abs=1e-3), "a text file and the same text on the command line"


def test_a_bad_file_is_one_line_and_the_others_are_embedded(
    model: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "vectors.json"
    files = [str(media / name) for name in ("empty.png", "photo.png", "cut.png", "deep.png")]
    assert main(["embed", *files, "--model", str(model), "--output", str(out)]) == 1
    errors = [line for line in capsys.readouterr().err.splitlines() if line.startswith("polysense: ")]
    assert len(errors) == 2 and "empty.png" in errors[0] and "cut.png" in errors[1]
    saved = json.loads(out.read_text())
    assert [item["modality"] for item in saved["items"]] == ["image", "depth"]


def test_vectors_are_those_of_the_library(model: Path, media: Path, tmp_path: Path) -> None:
    out = tmp_path / "vectors.safetensors"
    assert main(["embed", f"{media}/deep.png:depth", "--model", str(model), "--output", str(out)]) == 0
    with safe_open(out, framework="pt") as file:
        assert json.loads(file.metadata()["modalities"]) == ["depth"]
        vectors = file.get_tensor("embeddings")
    features = tiny_processor(["depth"])(depth=[media / "deep.png"])
    with torch.no_grad():
        expected = UniAlignModel.from_pretrained(model).embed("depth", features)
    torch.testing.assert_close(vectors, expected)


def test_facts_say_what_a_file_does_not_and_what_is_assumed_is_told(
    model: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    words = ["embed", f"{media}/deep.png", "--model", str(model), "--output", str(tmp_path / "vectors.json")]

    def vector(*facts: str) -> list[float]:
        assert main([*words, *(word for fact in facts for word in ("--fact", fact))]) == 0
        return list(json.loads((tmp_path / "vectors.json").read_text())["items"][0]["embedding"])

    preset = vector()
    told = capsys.readouterr().err
    assert "deep.png: depth.focal=518.857901, depth.baseline=0.075 are assumed" in told and "--fact" in told
    given = vector("depth.intrinsics=[78.0, 78.0, 31.5, 31.5]", "depth.baseline=0.1")
    assert "assumed" not in capsys.readouterr().err
    assert preset != given == vector("depth.focal=78", "depth.baseline=0.1")
    assert vector("depth.baseline=0.075") == preset


@pytest.mark.parametrize("fact", ["depth.focal", "depth=3", ".focal=3", "depth.=3", "depth.focal=[3"])
def test_a_fact_names_a_sense_and_a_value(fact: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        main(["embed", "a.png", "--model", "m", "--fact", fact])
    assert "--fact" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("fact", "fix"),
    [("depth.focl=78", "Those that count are focal, baseline"), ("image.focal=78", "Leave it out")],
)
def test_facts_that_would_change_nothing_are_refused(
    model: Path, media: Path, capsys: pytest.CaptureFixture[str], fact: str, fix: str
) -> None:
    assert main(["embed", f"{media}/deep.png", "--model", str(model), "--fact", fact]) == 1
    told = capsys.readouterr()
    assert f"--fact: {fact.split('.')[0]} has no fact" in told.err and fix in told.err and not told.out


def test_facts_of_a_sense_that_the_model_lacks_are_refused(
    model: Path, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["embed", f"{media}/deep.png", "--model", str(model), "--fact", "smell.focal=3"]) == 1
    assert "--fact: unknown modality 'smell'" in capsys.readouterr().err


def test_the_model_may_come_from_the_environment(
    model: Path, media: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("POLYSENSE_MODEL", str(model))
    assert main(["embed", str(media / "photo.png")]) == 0
    assert "image" in capsys.readouterr().out


def test_a_stage_of_a_repository_is_named_by_its_tag(
    model: Path, media: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked = stand_in(monkeypatch, "polysense.cli.embed.fetched", model)
    assert main(["embed", str(media / "photo.png"), "--model", "me/x", "--revision", "stage-2"]) == 0
    asked.assert_called_once_with("me/x", "stage-2")


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["embed", "x.png"], "no model was named"),
        (["embed", "--model", "m"], "there is nothing to embed"),
        (["embed", "x.png", "--model", "/nowhere/at/all"], "there is no such folder"),
    ],
)
def test_what_is_missing_is_said(
    words: list[str], reason: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.delenv("POLYSENSE_MODEL", raising=False)
    assert main(words) == 1
    assert reason in capsys.readouterr().err


def test_a_sense_that_the_model_lacks_is_named(model: Path, media: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["embed", str(media / "cloud.npy"), "--model", str(model)]) == 1
    assert "unknown modality 'point_cloud'" in capsys.readouterr().err


@pytest.mark.parametrize(("kind", "command"), [("mera", "`polysense chat`"), ("comet", "`polysense codes`")])
def test_a_model_without_a_space_of_its_own_names_its_command(
    kind: str, command: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (tmp_path / "config.json").write_text(json.dumps({"model_type": kind}))
    stand_in(monkeypatch, "polysense.cli.embed.fetched", tmp_path)
    assert main(["embed", "--text", "a red cube", "--model", "me/x"]) == 1
    told = capsys.readouterr().err
    assert f"me/x: a model of type {kind!r} makes no vectors of one space" in told and command in told


def test_an_unsafe_folder_is_refused(
    model: Path, media: Path, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    (tmp_path / "config.json").write_text('{"model_type": "unialign", "auto_map": {"AutoModel": "evil.Model"}}')
    assert main(["embed", str(media / "photo.png"), "--model", str(tmp_path)]) == 1
    assert "['auto_map'] name code" in capsys.readouterr().err


def test_a_place_that_cannot_be_written_is_one_error(
    model: Path, media: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for out in ("/proc/nope/v.json", str(media / "photo.png" / "v.json")):
        assert main(["embed", str(media / "photo.png"), "--model", str(model), "--output", out]) == 1
        assert f"{out}: it cannot be written" in capsys.readouterr().err
