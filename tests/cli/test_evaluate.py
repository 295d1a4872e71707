"""`polysense evaluate` hands checkpoint and manifests to the checkpoint's system, and shows the headline figures."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from polysense.metrics.judging import LlmJudgeOptions
from polysense.recipes.answering import AnsweringSettings, JudgeSettings
from tests.cli.stand_ins import stand_in
from tests.hub.stages import metrics_record, result


@pytest.fixture(autouse=True)
def kind(monkeypatch: pytest.MonkeyPatch) -> Any:
    """The checkpoint's type of model: UniAlign, unless a test says otherwise."""
    return stand_in(monkeypatch, "polysense.cli.evaluate.model_type", "unialign")


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
    assert main(words) == 1 and "--protocols: this option is for checkpoints of comet" in capsys.readouterr().err
    kind.return_value = "comet"
    assert main(words) == 0
    asked = {"protocols": "downstream-world", "root": Path("world"), "revision": None}
    recipe.assert_called_once_with("x", [], None, [], **asked)
    assert main(["evaluate", "x", "--manifest", "a.jsonl", "--data-root", "world"]) == 1
    assert "--data-root: the data sets of a manifest lie beside it" in capsys.readouterr().err
    assert main([*words, "--composed", "audio+video"]) == 1
    assert "--composed: this option is for checkpoints of unialign" in capsys.readouterr().err


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


def test_answers_are_judged_as_the_options_say(monkeypatch: pytest.MonkeyPatch, kind: Any) -> None:
    recipe = stand_in(monkeypatch, "polysense.recipes.mera_evaluation.run", metrics_record())
    kind.return_value = "mera"
    assert main(["evaluate", "x", "--manifest", "a.jsonl"]) == 0
    recipe.assert_called_once_with("x", [Path("a.jsonl")], None, [], settings=AnsweringSettings(), revision=None)
    words = ["--judge", "m", "--judge-url", "http://localhost:1/v1", "--tokenizer", "whitespace", "--limit", "7"]
    assert main(["evaluate", "x", "--manifest", "a.jsonl", *words]) == 0
    judge = JudgeSettings(model="m", options=LlmJudgeOptions(base_url="http://localhost:1/v1"))
    settings = AnsweringSettings(limit=7, tokenizer="whitespace", judge=judge)
    assert recipe.call_args.kwargs["settings"] == settings


def test_too_little_judged_is_no_success(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    kind.return_value, out = "mera", tmp_path / "o.json"
    recipe = stand_in(monkeypatch, "polysense.recipes.mera_evaluation.run")
    for complete, code in ((True, 0), (False, 1)):
        judgements = {"a": {"complete": True}, "b": {"complete": complete}}
        recipe.return_value = metrics_record(result(), judgements=judgements)
        assert main(["evaluate", "x", "--manifest", "a.jsonl", "--judge", "m", "--output", str(out)]) == code
        shown = capsys.readouterr().out
        assert "61.3" in shown and shown.endswith(f"{out}\n")


@pytest.mark.parametrize(
    ("model", "words", "message"),
    [
        ("unialign", ["--judge", "m"], "--judge: this option is for checkpoints of mera"),
        ("comet", ["--limit", "3"], "--limit: this option is for checkpoints of mera"),
        ("mera", ["--data-root", "world"], "--data-root: this option is for checkpoints of comet"),
        ("unialign", ["--data-root", "."], "--data-root: this option is for checkpoints of comet"),
        ("mera", ["--protocols", "world"], "--protocols: this option is for checkpoints of comet"),
        ("mera", ["--judge-url", "http://localhost/v1"], "--judge-url: there is no model to ask there"),
        ("llama", [], "x: a model of type 'llama' cannot be scored"),
    ],
)
def test_what_does_not_go_with_the_checkpoint_is_refused(
    model: str, words: list[str], message: str, capsys: pytest.CaptureFixture[str], kind: Any
) -> None:
    kind.return_value = model
    assert main(["evaluate", "x", "--manifest", "a.jsonl", *words]) == 1
    assert message in capsys.readouterr().err
