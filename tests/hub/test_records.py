"""Records are checked down to the entry that is wrong, and the history ends whatever they say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import CheckpointError
from polysense.hub.records import (
    check_metrics,
    check_stage,
    distinct,
    lineage,
    read_metrics,
    read_stage,
    stage_settings,
    stages_in,
)
from tests.hub.stages import metrics_record, result, stage_record


def write(folder: Path, name: str, parent: str | None) -> Path:
    (folder / name).mkdir()
    (folder / name / "stage.json").write_text(json.dumps(stage_record(name=name, parent=parent)))
    return folder / name


def test_what_was_written_is_read_and_metrics_may_be_missing(tmp_path: Path) -> None:
    folder = write(tmp_path, "a", None)
    assert read_stage(folder) == stage_record(name="a", parent=None)
    assert read_metrics(folder) is None
    (folder / "metrics.json").write_text(json.dumps(metrics_record()))
    assert read_metrics(folder) == metrics_record()


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"seed": True}, "seed is of type bool. Give int."),
        ({"parent": 1}, "parent is of type int. Give str or NoneType."),
        ({"base_model": {"license": None}}, r"base_model: the keys \['name'\] are missing"),
        ({"data": [{"name": "w", "samples": "many", "license": None, "content_hash": None}]},
         r"data\[0\]: samples is of type str"),
        ({"data": ["w"]}, r"data\[0\]: the entry is no JSON object"),
        ({"parameters": {"base": [1, 2, 3]}}, r"parameters: base: the entry is not \[all, trainable\]"),
        ({"parameters": {"base": ["1", "2"]}}, r"parameters: base: the entry is not \[all, trainable\]"),
        ({"parameters": {}}, "no parameters or no senses"),
        ({"modalities": []}, "no parameters or no senses"),
    ],
)  # fmt: skip
def test_a_wrong_entry_of_a_stage_is_named(changes: dict[str, Any], reason: str) -> None:
    with pytest.raises(CheckpointError, match=reason):
        check_stage(stage_record(**changes))


def test_a_result_needs_a_value_but_neither_interval_nor_bound() -> None:
    short = {key: result()[key] for key in ("task", "modality", "dataset", "metric", "value")}
    assert check_metrics(metrics_record(short, result(low=None)))["results"][0] == short
    with pytest.raises(CheckpointError, match=r"results\[1\]: the keys \['value'\] are missing"):
        check_metrics(metrics_record(short, {key: short[key] for key in short if key != "value"}))
    with pytest.raises(CheckpointError, match=r"results\[0\]: high is of type str"):
        check_metrics(metrics_record(result(high="0.9")))


def test_two_data_sets_of_one_name_are_told_apart_once_and_for_all() -> None:
    given = [("a (2)", 0.1), ("a", 0.2), ("a", 0.3)]
    found = distinct([result(dataset=name, value=value) for name, value in given] + [result(dataset="a", metric="x")])
    assert [each["dataset"] for each in found] == ["a (2)", "a", "a (3)", "a"]
    assert [each["value"] for each in found[:3]] == [0.1, 0.2, 0.3] and distinct(found) == found


def test_an_error_names_the_file(tmp_path: Path) -> None:
    (tmp_path / "metrics.json").write_text('{"results": []}')
    with pytest.raises(CheckpointError, match="missing") as caught:
        read_metrics(tmp_path)
    assert caught.value.where == str(tmp_path / "metrics.json")


def test_the_lineage_follows_the_parents_and_not_the_names(tmp_path: Path) -> None:
    write(tmp_path, "b", None)
    write(tmp_path, "a", "b")
    write(tmp_path, "another", "b")
    assert [each["name"] for each in lineage(write(tmp_path, "c", "a"))] == ["b", "a"]


def test_a_stage_that_is_being_written_counts_for_nothing_but_itself(tmp_path: Path) -> None:
    first, hidden = write(tmp_path, "a", None), write(tmp_path, ".b.tmp", "a")
    (write(tmp_path, ".c.tmp", "a") / "stage.json").write_text('{"system": "me')
    assert stages_in(tmp_path) == [first]
    assert [each["name"] for each in lineage(hidden)] == ["a"] and lineage(first) == []


def test_the_lineage_begins_after_a_parent_that_lies_elsewhere(tmp_path: Path) -> None:
    write(tmp_path, "a", "elsewhere")
    assert [each["name"] for each in lineage(write(tmp_path, "b", "a"))] == ["a"]


def test_stages_that_name_each_other_or_themselves_come_once(tmp_path: Path) -> None:
    write(tmp_path, "a", "b")
    assert [each["name"] for each in lineage(write(tmp_path, "b", "a"))] == ["a"]
    assert lineage(write(tmp_path, "c", "c")) == []


@pytest.mark.parametrize("chosen", [{}, {"method": {}}, {"method": "none"}, {"loop": {"steps": 3}}, None])
def test_a_record_that_says_nothing_of_how_its_stage_learned_has_no_settings(chosen: Any) -> None:
    settings = {"options": {"merge": None}}
    assert stage_settings({"hyperparameters": {"method": settings}}) == settings
    assert stage_settings({"hyperparameters": chosen}) == {}
