"""Evaluation on embeddings made by hand."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.data import MediaRef, Sample
from polysense.errors import ConfigError, UnknownModalityError
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import evaluation
from polysense.recipes.evaluation import EvaluationSettings, Evaluator, unique_pool
from tests.recipes.fixtures import Parts, stages

# text and senses share a plane: every word, file and class is a direction in it, given in degrees
CLASSES = {"cup": 0, "box": 90, "jar": 180}
ANGLES = CLASSES | {f"one {each}": angle for each, angle in CLASSES.items()}
ANGLES |= {f"one {each} and one {each}": angle for each, angle in CLASSES.items()}


class Plane(UniAlignModel):
    """Embeds what `Angles` gives."""

    device = torch.device("cpu")

    def __init__(self) -> None:
        torch.nn.Module.__init__(self)

    def embed(self, modality: str, features: Any, mask: Tensor | None = None) -> Tensor:
        return torch.as_tensor(features["values"])


class Angles(UniAlignProcessor):
    """A processor whose sources are degrees, or words that have some."""

    def __init__(self) -> None:
        self.templates = {"audio": ["{}"]}

    def features(self, modality: str, sources: Sequence[Any], **_: Any) -> dict[str, Tensor]:
        degrees = [ANGLES[source] if isinstance(source, str) else source for source in sources]
        radians = torch.deg2rad(torch.tensor([float(each) for each in degrees]))
        return {"values": torch.stack([radians.cos(), radians.sin()], dim=-1)}


@dataclass
class Rows:
    """Samples of audio and video at given angles."""

    rows: Sequence[tuple[str, float, float]]  # label, angle of the audio, angle of the video

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: int) -> Sample:
        label, audio, video = self.rows[index]
        captions = {"audio": (f"one {label}",), "video": (f"one {label}",)}
        return Sample(str(index), {"audio": MediaRef(audio), "video": MediaRef(video)}, {"audio": label}, captions)

    def labels(self, modality: str) -> Sequence[str | None]:
        return [label if modality == "audio" else None for label, _, _ in self.rows]


def evaluator() -> Evaluator:
    return Evaluator(Plane(), Angles(), EvaluationSettings(ks=(1, 2), batch_size=2))


def test_zero_shot_accuracy_counts_the_nearest_class() -> None:
    rows = Rows([("cup", 20, 0), ("box", 100, 0), ("jar", 20, 0), ("cup", 350, 0)])  # the third is nearest to "cup"
    top1, top5 = evaluator().zero_shot(rows, "audio", "test", upper_bound=0.9)
    assert (top1.metric, top1.value, top1.count, top1.upper_bound) == ("top1", 0.75, 4, 0.9)
    assert top1.chance == pytest.approx(1 / 3) and (top5.value, top5.chance, top5.upper_bound) == (1.0, 1.0, None)
    assert top1.low is not None and top1.high is not None and top1.low < 0.75 < top1.high


def test_retrieval_is_scored_both_ways() -> None:
    rows = Rows([("cup", 5, 0), ("box", 20, 0), ("jar", 170, 0)])
    found = {(each.task, each.metric): each.value for each in evaluator().retrieval(rows, ["audio"], "text", "test")}
    # 20 degrees is nearer to "one cup" (0) than to its own "one box" (90); every text finds its own first
    assert found == {
        ("retrieval audio to text", "R@1"): pytest.approx(2 / 3), ("retrieval audio to text", "R@2"): 1.0,
        ("retrieval text to audio", "R@1"): 1.0, ("retrieval text to audio", "R@2"): 1.0,
    }  # fmt: skip


def test_a_composed_query_is_the_mean_of_its_senses() -> None:
    rows = Rows([("cup", 60, -60), ("box", 60, 100), ("jar", 180, 180)])  # means: 0, 80 and 180 degrees

    def first(*senses: str) -> list[float]:
        found = evaluator().retrieval(rows, senses, "text", "test")
        return [each.value for each in found if each.metric == "R@1"]

    assert first("audio", "video") == [1.0, 1.0] and first("audio")[0] < 1


def test_embeddings_of_a_data_set_that_is_gone_are_not_taken_for_anothers() -> None:
    scorer = evaluator()
    for angle in (0.0, 90.0, 180.0):
        rows = Rows([("cup", angle, 0)] * 2)
        expected = torch.tensor([torch.deg2rad(torch.tensor(angle)).cos()] * 2)
        assert torch.allclose(scorer.embed(rows, "audio")[:, 0], expected, atol=1e-6)
        del rows


def test_a_pool_holds_no_meaning_twice_and_is_the_same_for_all() -> None:
    rows = Rows([("cup", 0, 0), ("cup", 1, 0), ("box", 2, 0), ("jar", 3, 0)])
    pool = unique_pool(rows, ["audio"], 10)
    assert sorted(pool[row].labels["audio"] for row in range(len(pool))) == ["box", "cup", "jar"]
    assert pool.indices == unique_pool(rows, ["audio"], 10).indices and len(unique_pool(rows, ["audio"], 2)) == 2


def test_a_checkpoint_is_scored_on_manifests(joint: Path, parts: Parts, tmp_path: Path) -> None:
    path = parts.world / "manifests/stills-test.jsonl"
    record = evaluation.run(str(stages(joint)[1]), [path], tmp_path / "scores/x.json")
    assert record == json.loads((tmp_path / "scores/x.json").read_text())
    assert {result["modality"] for result in record["results"]} == {"image", "depth", "point_cloud"}
    assert {result["dataset"] for result in record["results"]} == {"stills-test"}
    assert record["seed"] == json.loads((stages(joint)[1] / "stage.json").read_text())["seed"]
    with pytest.raises(ConfigError, match="no manifest"):
        evaluation.run(str(stages(joint)[1]), [])
    with pytest.raises(ConfigError, match=r"nope/x\.json: it cannot be written"):
        evaluation.run("nowhere", [path], Path("/proc/nope/x.json"))


def test_composed_queries_are_scored_where_a_manifest_has_their_senses(joint: Path, parts: Parts) -> None:
    stage, clips = str(stages(joint)[1]), parts.world / "manifests/clips-test.jsonl"
    record = evaluation.run(stage, [clips], composed=[("audio", "video")])
    tasks = {result["task"] for result in record["results"]}
    assert tasks >= {"retrieval audio+video to text", "retrieval text to audio+video"}
    with pytest.raises(UnknownModalityError, match="composed: unknown modality 'smell'"):
        evaluation.run(stage, [clips], composed=[("audio", "smell")])
    with pytest.raises(ConfigError, match=r"composed: no manifest holds depth\+audio"):
        evaluation.run(stage, [clips], composed=[("depth", "audio")])
