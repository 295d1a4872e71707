from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.errors import ConfigError
from polysense.recipes.codes import CodeSequences
from polysense.recipes.comet_downstream import DownstreamSettings, score_codes
from polysense.recipes.config import build
from tests.recipes.code_samples import EVENTS, LabelEncoder, clips, write_clips


def settings(folder: Path) -> DownstreamSettings:
    data = write_clips(folder, "clips", list(clips(20)))
    spec = {
        "transfer": {"events": {"task": "classification", "classes": "seconds", "train": data,
                                "tests": {"clips": data}, "head": {"epochs": 1}}},
        "retrieval": {"pairs": {"data": data, "senses": ["video", "text"], "pool": 20},
                      "unseen": {"data": data, "senses": ["image", "audio"]}},
        "activation": {"data": data},
    }  # fmt: skip
    return build(DownstreamSettings, spec, "downstream")


def test_all_protocols_whose_senses_are_there_are_scored(tmp_path: Path) -> None:
    found = score_codes(settings(tmp_path), LabelEncoder(), ["video", "audio", "text"], tmp_path, size=8)
    tasks = {each.task for each in found.results}
    assert tasks == {"classification video to audio", "classification audio to video",
                     "retrieval video to text", "retrieval text to video"}  # fmt: skip
    assert found.activation is not None
    assert found.activation.level.tolist() == [3, 3, 3, 3, 0, 0, 0, 0]
    record = json.loads(json.dumps(found.record(0)))
    assert len(record["results"]) == len(found.results)
    assert record["codes"]["active_in"] == {"0": 0.5, "1": 0, "2": 0, "3": 0.5} and record["codes"]["dead"] == 0.5
    assert set(record["codes"]["perplexity"]) == {"video", "audio", "text"}
    assert 1 < record["codes"]["perplexity"]["video"] <= len(EVENTS)


def test_what_needs_a_later_sense_waits(tmp_path: Path) -> None:
    found = score_codes(settings(tmp_path), LabelEncoder(), ["video", "text"], tmp_path, size=8)
    assert {each.task.split()[0] for each in found.results} == {"retrieval"} and found.activation is None
    assert "codes" not in found.record(0)


def test_an_error_names_its_protocol(tmp_path: Path) -> None:
    def vectors_alone(sense: str, dataset: Any) -> CodeSequences:
        return CodeSequences(torch.rand(len(dataset), 4, 6))

    with pytest.raises(ConfigError, match=r"activation.*without the numbers"):
        score_codes(settings(tmp_path), vectors_alone, ["video", "audio", "text"], tmp_path, size=8)
    with pytest.raises(ConfigError, match="retrieval: unseen"):
        score_codes(settings(tmp_path), LabelEncoder(), ["image", "audio"], tmp_path, size=8)
