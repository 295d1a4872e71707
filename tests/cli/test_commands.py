"""Each command hands its arguments to the part that does the work, and shows what comes back."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from polysense.cli import main
from tests.hub.stages import metrics_record, result, stage_record
from tests.report.runs import write_run


class Recorder:
    """Stands in for a function and keeps what it was called with."""

    def __init__(self, value: Any = None) -> None:
        self.value, self.calls = value, list[tuple[tuple[Any, ...], dict[str, Any]]]()

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        self.calls.append((arguments, options))
        return self.value


def test_train_hands_over_config_overrides_and_imports_wherever_they_stand(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recorder(tmp_path / "stages" / "stage-2-depth")
    monkeypatch.setattr("polysense.recipes.unialign.run", recipe)
    report = Recorder(tmp_path / "report" / "report.html")
    monkeypatch.setattr("polysense.report.write_report", report)
    write_run(tmp_path)
    words = [
        "train",
        "unialign",
        "--config",
        "world",
        "seed=1",
        "--output",
        str(tmp_path),
        "--imports",
        "mine",
        "a.b=2",
    ]
    assert main(words) == 0
    assert recipe.calls == [(("world", tmp_path, ["seed=1", "a.b=2"], ["mine"]), {})]
    out = capsys.readouterr().out
    assert "60.0 [50.0, 70.0]" in out and str(tmp_path / "report" / "report.html") in out
    assert report.calls == [((tmp_path,), {})]


def test_train_anchors_makes_no_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysense.recipes.anchors.run", Recorder(tmp_path / "anchor"))
    assert main(["train", "anchors", "--config", "clip", "--output", str(tmp_path)]) == 0
    assert not (tmp_path / "report").exists()


def test_evaluate_shows_every_headline_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = Recorder(metrics_record(result(), result(metric="top5", value=0.99)))
    monkeypatch.setattr("polysense.recipes.evaluation.run", recipe)
    assert main(["evaluate", "me/x", "--manifest", "a.jsonl", "b.jsonl", "--output", str(tmp_path / "o.json")]) == 0
    assert recipe.calls == [(("me/x", [Path("a.jsonl"), Path("b.jsonl")], tmp_path / "o.json", []), {})]
    out = capsys.readouterr().out
    assert "61.3 [58.0, 64.0]" in out and "99.0" not in out


def test_demo_shows_what_it_says(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polysense.recipes.demo.run", lambda output, say: say(f"into {output} [1, 2]"))
    assert main(["demo", str(tmp_path)]) == 0
    assert capsys.readouterr().out == f"into {tmp_path} [1, 2]\n"


def test_push_publishes_a_stage_or_a_whole_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    commit = SimpleNamespace(commit_url="https://hub/me/x/commit/1")
    stage, run = Recorder(commit), Recorder([commit, commit])
    monkeypatch.setattr("polysense.hub.push_stage", stage)
    monkeypatch.setattr("polysense.hub.push_run", run)
    write_run(tmp_path)
    one = tmp_path / "stages" / "stage-2-depth"
    assert main(["push", str(one), "me/x", "--tag", "v2", "--private"]) == 0
    assert stage.calls == [((one, "me/x"), {"tag": "v2", "private": True})]
    assert main(["push", str(tmp_path), "me/x"]) == 0
    assert run.calls == [((tmp_path, "me/x"), {"private": False})]
    assert capsys.readouterr().out == f"{commit.commit_url}\n" * 3


def test_push_refuses_one_tag_for_many_stages(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["push", str(write_run(tmp_path)), "me/x", "--tag", "v1"]) == 1
    assert "one tag cannot name them all" in capsys.readouterr().err


def test_card_goes_to_a_file_or_to_standard_output(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "stage.json").write_text(json.dumps(stage_record()))
    assert main(["card", str(tmp_path), "-o", str(tmp_path / "card.md")]) == 0
    assert capsys.readouterr().out == f"{tmp_path / 'card.md'}\n"
    assert main(["card", str(tmp_path)]) == 0
    assert capsys.readouterr().out.rstrip("\n") == (tmp_path / "card.md").read_text().rstrip("\n")


def test_world_build_says_what_was_built(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    built = SimpleNamespace(directory=tmp_path, content_hash="ab" * 32, counts={"stills-train": 2400},
                            build_seconds={"depth": 1.5}, wall_seconds=3.0)  # fmt: skip
    build = Recorder(built)
    monkeypatch.setattr("polysense.world.build_world", build)
    assert main(["world", "build", str(tmp_path), "--size", "tiny", "--difficulty", "easy", "--seed", "4"]) == 0
    config = build.calls[0][0][1]
    assert (config.size, config.difficulty, config.seed) == ("tiny", "easy", 4)
    out = capsys.readouterr().out
    assert "stills-train" in out and "2,400" in out and "abababababab" in out


def test_world_build_refuses_an_unknown_size(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["world", "build", str(tmp_path), "--size", "huge"]) == 1
    assert "unknown world size 'huge'" in capsys.readouterr().err


def test_world_verify_and_gallery(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polysense.world.verify_world", Recorder(1234))
    monkeypatch.setattr("polysense.world.gallery.draw_gallery", Recorder(tmp_path / "w.png"))
    assert main(["world", "verify", str(tmp_path)]) == 0
    assert main(["world", "gallery", str(tmp_path), str(tmp_path / "w.png")]) == 0
    out = capsys.readouterr().out
    assert "all 1,234 files are as they were built" in out and out.endswith("w.png\n")


def test_imports_are_found_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_senses_for_test.py").write_text("raise RuntimeError('not today')\n")
    assert main(["embed", "x.png", "--model", "m", "--imports", "broken_senses_for_test"]) == 1
    assert "imports: broken_senses_for_test: the module cannot be imported (RuntimeError: not today)" in (
        capsys.readouterr().err
    )
