"""`polysense evaluate` hands over checkpoint and manifests, and shows the headline figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from tests.cli.stand_ins import stand_in
from tests.hub.stages import metrics_record, result


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Whether the checkpoint is one of COMET's: not, unless a test says so."""
    return stand_in(monkeypatch, "polysense.cli.evaluate.is_comet", False)


def test_every_headline_is_shown_with_its_interval(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    record = metrics_record(result(), result(metric="top5", value=0.99))
    recipe, out = stand_in(monkeypatch, "polysense.recipes.evaluation.run", record), tmp_path / "o.json"
    assert main(["evaluate", "me/x", "--manifest", "a.jsonl", "b.jsonl", "--output", str(out)]) == 0
    recipe.assert_called_once_with("me/x", [Path("a.jsonl"), Path("b.jsonl")], out, [], revision=None, composed=[])
    shown = capsys.readouterr().out
    assert "61.3 [58.0, 64.0]" in shown and "99.0" not in shown and shown.endswith(f"{out}\n")


def test_manifests_may_be_named_one_by_one_and_nothing_need_be_written(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.evaluation.run", metrics_record())
    words = ["evaluate", "x", "--manifest", "a.jsonl", "--manifest", "b.jsonl", "--imports", "json"]
    assert main(words) == 0
    recipe.assert_called_once_with("x", [Path("a.jsonl"), Path("b.jsonl")], None, ["json"], revision=None, composed=[])
    assert "None" not in capsys.readouterr().out


def test_codes_are_scored_by_protocols_or_on_manifests(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.comet_evaluation.run", metrics_record())
    words = ["evaluate", "x", "--protocols", "downstream-world", "--data-root", "world"]
    assert main(words) == 1 and "--protocols: these protocols score codes" in capsys.readouterr().err
    kind.return_value = True
    assert main(words) == 0
    asked = {"protocols": "downstream-world", "root": Path("world"), "revision": None}
    recipe.assert_called_once_with("x", [], None, [], **asked)
    assert main([*words, "--composed", "audio+video"]) == 1
    assert "--composed: senses are composed as embeddings" in capsys.readouterr().err


def test_a_published_stage_and_composed_queries_may_be_asked_for(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.evaluation.run", metrics_record(result()))
    words = ["evaluate", "me/x", "--manifest", "a.jsonl", "--revision", "stage-2"]
    assert main([*words, "--composed", "audio+video", "--composed", "depth+image+text"]) == 0
    kind.assert_called_once_with("me/x", "stage-2")
    composed = [("audio", "video"), ("depth", "image", "text")]
    recipe.assert_called_once_with("me/x", [Path("a.jsonl")], None, [], revision="stage-2", composed=composed)
    for wrong in ("audio", "audio+", "audio+audio"):
        with pytest.raises(SystemExit):
            main([*words, "--composed", wrong])
        assert "two or more different senses" in capsys.readouterr().err
