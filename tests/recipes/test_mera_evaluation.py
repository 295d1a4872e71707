"""A MERA checkpoint scored on manifests: by the command line, as its recipe scores it, and by a judge that resumes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from polysense.errors import CheckpointError, ConfigError
from polysense.metrics.judging import LlmJudgeOptions
from polysense.recipes import mera, mera_evaluation
from polysense.recipes.answering import AnswerEvaluator, AnsweringSettings, JudgeSettings
from polysense.testing import tiny_llama, tiny_recipe
from tests.metrics.judging.scripted import Reply, compare, scripted
from tests.models.mera.saved import write_mera


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_recipe(tmp_path_factory.mktemp("parts"), steps=1)


@pytest.fixture(scope="module")
def last(config: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The stage of both senses."""
    return mera.run(str(config), tmp_path_factory.mktemp("run"))


def shown(record: dict[str, Any]) -> dict[tuple[str, ...], float]:
    return {(each["task"], each["modality"], each["metric"]): each["value"] for each in record["results"]}


def test_a_stage_has_the_figures_of_its_recipe_on_the_same_manifest(config: Path, last: Path) -> None:
    settings = AnsweringSettings(max_new_tokens=3)
    record = mera_evaluation.run(str(last), [config.parent / "test.jsonl"], settings=settings)
    assert shown(record) == shown(json.loads((last / "metrics.json").read_text())) and len(shown(record)) == 4
    assert set(record["judgements"]) == {"test: image", "test: depth"}


def test_a_stage_is_scored_by_the_command_line(
    config: Path, last: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest, out = config.parent / "test.jsonl", tmp_path / "scores" / "scores.json"
    assert main(["evaluate", str(last), "--manifest", str(manifest), "--limit", "2", "--output", str(out)]) == 0
    told = capsys.readouterr().out
    assert "captioning" in told and "question answering" in told and told.endswith(f"{out}\n")
    assert [each["count"] for each in json.loads(out.read_text())["results"]] == [2] * 4


def test_manifests_of_one_name_are_told_apart_and_one_is_scored_once(config: Path, last: Path, tmp_path: Path) -> None:
    shutil.copytree(config.parent, tmp_path / "other")
    here, there = config.parent / "test.jsonl", tmp_path / "other" / "test.jsonl"
    settings = AnsweringSettings(limit=2, max_new_tokens=2)
    record = mera_evaluation.run(str(last), [here, there, here], settings=settings)
    names = [f"{path.with_suffix('')}: {sense}" for path in (here, there) for sense in ("image", "depth")]
    assert sorted(record["judgements"]) == sorted(names)
    assert len({(each["dataset"], each["task"]) for each in record["results"]}) == len(record["results"]) == 8


def test_senses_that_the_checkpoint_lacks_are_left_out(config: Path, last: Path) -> None:
    first = next(each for each in last.parent.iterdir() if each.name.startswith("stage-1"))
    settings = AnsweringSettings(limit=4, max_new_tokens=2, tokenizer="whitespace")
    record = mera_evaluation.run(str(first), [config.parent / "test.jsonl"], settings=settings)
    assert {(each["modality"], each["metric"].partition(" (")[0]) for each in record["results"]} == {
        ("image", "CIDEr-D"), ("image", "accuracy"),
    }  # fmt: skip
    assert [each["count"] for each in record["results"]] == [4, 4]
    assert record["results"][0]["metric"] == "CIDEr-D (whitespace)"


def test_recorded_verdicts_are_never_asked_for_again(config: Path, last: Path, tmp_path: Path) -> None:
    with scripted(compare) as endpoint:
        judge = JudgeSettings(model="tiny-judge", options=LlmJudgeOptions(base_url=endpoint.url))
        settings = AnsweringSettings(limit=3, max_new_tokens=3, judge=judge)
        given = str(last), [config.parent / "test.jsonl"], tmp_path / "scores.json"
        before = mera_evaluation.run(*given, settings=settings)
        asked = len(endpoint.asked)
        assert asked > 0 and (tmp_path / "scores.verdicts.jsonl").exists()
        again = mera_evaluation.run(*given, settings=settings)
        assert len(endpoint.asked) == asked and shown(again) == shown(before)
        assert all("LLM judge tiny-judge" in each["judge"] for each in again["judgements"].values())


def test_answers_outlast_a_judge_that_refuses(
    config: Path, last: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    given, scores = (str(last), [config.parent / "test.jsonl"]), tmp_path / "scores.json"

    def evaluated(url: str, output: Path = scores) -> dict[str, Any]:
        judge = JudgeSettings(model="tiny-judge", options=LlmJudgeOptions(base_url=url))
        settings = AnsweringSettings(limit=3, max_new_tokens=3, judge=judge)
        return mera_evaluation.run(*given, output, settings=settings)

    refuse = pytest.raises(ConfigError, match="refuses every request")
    with scripted(lambda asked: Reply(status=401)) as endpoint, refuse:
        evaluated(endpoint.url)
    (kept,) = (tmp_path / "scores.answers").glob("*/*.json")  # of the data set that was to be judged
    assert len(json.loads(kept.read_text())) == 6 and not scores.exists()
    with scripted(compare) as endpoint:
        elsewhere = evaluated(endpoint.url, tmp_path / "elsewhere.json")
        evaluated(endpoint.url)  # which asks about the other sense
        monkeypatch.setattr(AnswerEvaluator, "answers", pytest.fail)
        assert shown(evaluated(endpoint.url)) == shown(elsewhere)


def test_a_judge_without_a_key_is_refused_before_anything_is_asked(
    config: Path, last: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("OPENAI_API_KEY", raising=False)
    monkeypatch.delenv("OPENAI_BASE_URL", raising=False)
    monkeypatch.setattr(mera_evaluation, "AnswerEvaluator", pytest.fail)
    with pytest.raises(ConfigError, match="there is no key for OpenAI"):
        mera_evaluation.run(str(last), [config.parent / "test.jsonl"],
                            settings=AnsweringSettings(judge=JudgeSettings(model="m")))  # fmt: skip


def test_manifests_and_checkpoints_that_cannot_be_scored_are_named(tmp_path: Path) -> None:
    folder = write_mera(tmp_path / "mera")
    with pytest.raises(ConfigError, match="there is no manifest to evaluate on"):
        mera_evaluation.run(str(folder), [])
    row = {"id": "a", "media": {"depth": "a.png"}, "captions": {"depth": ["red"]}}
    (tmp_path / "m.jsonl").write_text(json.dumps(row) + "\n")
    with pytest.raises(ConfigError, match=r"m.jsonl: there is nothing to ask about image"):
        mera_evaluation.run(str(folder), [tmp_path / "m.jsonl"])
    llama: Any = tiny_llama()
    llama.save_pretrained(tmp_path / "llama")
    with pytest.raises(CheckpointError, match="not of MERA"):
        mera_evaluation.run(str(tmp_path / "llama"), [tmp_path / "m.jsonl"])


def test_prompts_are_those_of_the_stages_recipe(last: Path, tmp_path: Path) -> None:
    assert mera_evaluation.conversations_of(last).instructions == ("what is this ?",)
    assert mera_evaluation.conversations_of(tmp_path).suffix == "Answer briefly."
