"""Evaluation on embeddings made by hand."""

from __future__ import annotations

import errno
import json
import shutil
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.data import MediaRef, Sample
from polysense.errors import CheckpointError, ConfigError, MediaError, UnknownModalityError
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import evaluation
from polysense.recipes.evaluation import EvaluationSettings, Evaluator, Result, metrics_record, unique_pool
from polysense.recipes.sources import DatasetSettings
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


def test_a_limited_test_is_told_apart_by_the_classes_of_all(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = Rows([("cup", 80, 0), ("cup", 10, 0), ("box", 100, 0), ("jar", 170, 0)])  # the first is nearest to "box"
    settings = EvaluationSettings(splits={"test": [DatasetSettings(manifest="rows.jsonl")]}, limit=2)
    monkeypatch.setattr(DatasetSettings, "open", lambda *_: rows)
    scorer = Evaluator(Plane(), Angles(), settings)
    monkeypatch.setattr(Plane, "modalities", ("audio",), raising=False)
    top1 = scorer.run(Path())[0]
    assert (top1.metric, top1.value, top1.count) == ("top1", 0.5, 2) and top1.chance == pytest.approx(1 / 3)


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


def test_a_record_tells_data_sets_of_one_name_apart() -> None:
    one = Result(task="retrieval", modality="audio", dataset="mine", metric="R@1", value=0.5, chance=0.1, count=10)
    record = metrics_record([one, replace(one, value=0.7)], 0)
    assert [(each["dataset"], each["value"]) for each in record["results"]] == [("mine", 0.5), ("mine (2)", 0.7)]


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


def test_a_checkpoint_without_its_processor_is_refused(joint: Path, parts: Parts, tmp_path: Path) -> None:
    without = shutil.ignore_patterns("processor_config.json", "MANIFEST.json")
    shutil.copytree(stages(joint)[1], tmp_path / "bare", ignore=without)
    with pytest.raises(CheckpointError, match="bare: the processor cannot be loaded"):
        evaluation.run(str(tmp_path / "bare"), [parts.world / "manifests/stills-test.jsonl"])


def test_a_disk_that_is_full_in_the_end_is_told(
    joint: Path, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(path: Path, content: str) -> None:
        raise OSError(errno.ENOSPC, "no space left")

    monkeypatch.setattr(evaluation, "write_whole", full)
    path = parts.world / "manifests/stills-test.jsonl"
    with pytest.raises(ConfigError, match=r"x\.json: it cannot be written \(no space left\)"):
        evaluation.run(str(stages(joint)[1]), [path], tmp_path / "x.json")


def test_a_checkpoint_is_scored_where_it_works_fastest(
    joint: Path, parts: Parts, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[Any] = []

    def to(model: UniAlignModel, *where: Any) -> UniAlignModel:
        moved.append(where)
        return model

    monkeypatch.setattr(evaluation, "best_device", lambda: torch.device("cuda"))
    monkeypatch.setattr(UniAlignModel, "to", to)
    evaluation.run(str(stages(joint)[1]), [parts.world / "manifests/stills-test.jsonl"])
    assert (torch.device("cuda"),) in moved


def test_composed_queries_are_scored_where_a_manifest_has_their_senses(joint: Path, parts: Parts) -> None:
    stage, clips = str(stages(joint)[1]), parts.world / "manifests/clips-test.jsonl"
    record = evaluation.run(stage, [clips], composed=[("audio", "video")])
    tasks = {result["task"] for result in record["results"]}
    assert tasks >= {"retrieval audio+video to text", "retrieval text to audio+video"}
    with pytest.raises(UnknownModalityError, match="composed: unknown modality 'smell'"):
        evaluation.run(stage, [clips], composed=[("audio", "smell")])
    with pytest.raises(ConfigError, match=r"composed: no sample has depth\+audio and captions of each"):
        evaluation.run(stage, [clips], composed=[("depth", "audio")])


def manifest(parts: Parts, path: Path, change: Callable[[int, dict[str, Any]], object]) -> Path:
    """A manifest of the world's test stills, each row changed; it lies where their media are found."""
    lines = (parts.world / "manifests/stills-test.jsonl").read_text().splitlines()
    rows = [json.loads(line) for line in lines]
    for number, row in enumerate(rows):
        change(number, row)
    for sense in ("image", "depth", "point_cloud"):
        (path.parent / "media").mkdir(parents=True, exist_ok=True)
        shutil.copytree(parts.world / "media" / sense, path.parent / "media" / sense, dirs_exist_ok=True)
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def counts(record: dict[str, Any]) -> dict[tuple[str, str], int]:
    return {(each["modality"], each["task"].split()[0]): each["count"] for each in record["results"]}


def test_every_sense_is_scored_on_the_samples_that_have_it(joint: Path, parts: Parts, tmp_path: Path) -> None:
    def change(number: int, row: dict[str, Any]) -> None:
        if number < 4:
            del row["media"]["depth"]
        if 4 <= number < 8:
            del row["media"]["image"], row["captions"]["depth"]
        if number == 9:
            row["captions"], row["semantics"] = {}, ["of another kind"]

    record = evaluation.run(str(stages(joint)[1]), [manifest(parts, tmp_path / "mixed.jsonl", change)])
    found = counts(record)
    rows = [json.loads(line) for line in (tmp_path / "mixed.jsonl").read_text().splitlines()]
    labelled = [row for row in rows if "depth" in row["media"] and "depth" in row["labels"]]
    assert found["depth", "zero-shot"] == len(labelled) and ("image", "retrieval") in found
    told = {row["semantics"]["depth"] for row in rows if "depth" in row["media"] and row["captions"].get("depth")}
    assert found["depth", "retrieval"] == len(told)


def test_a_manifest_without_anything_to_score_is_refused(joint: Path, parts: Parts, tmp_path: Path) -> None:
    mute = manifest(parts, tmp_path / "mute.jsonl", lambda _, row: row.update(captions={}, labels={}))
    with pytest.raises(ConfigError, match=r"mute\.jsonl: no sample has a label or a caption of image, "):
        evaluation.run(str(stages(joint)[1]), [mute])
    with pytest.raises(ConfigError, match=r"composed: no sample has image\+depth and captions of each"):
        mute = manifest(parts, tmp_path / "silent.jsonl", lambda _, row: row.update(captions={}))
        evaluation.run(str(stages(joint)[1]), [mute], composed=[("image", "depth")])


def test_media_lie_beside_a_manifest_however_it_is_named(
    joint: Path, parts: Parts, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage, path = str(stages(joint)[1]), parts.world / "manifests/stills-test.jsonl"
    expected = evaluation.run(stage, [path])["results"]
    monkeypatch.chdir(path.parent)
    assert evaluation.run(stage, [Path(path.name)])["results"] == expected
    monkeypatch.chdir(tmp_path)
    link = manifest(parts, tmp_path / "stills.jsonl", lambda *_: None).with_name("stills-test.jsonl")
    link.symlink_to("stills.jsonl")
    assert evaluation.run(stage, [link])["results"] == expected
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "stills-test.jsonl").symlink_to(path)
    with pytest.raises(MediaError, match=r"elsewhere/media/image/.*does not exist"):
        evaluation.run(stage, [elsewhere / "stills-test.jsonl"])


def test_manifests_of_one_name_are_told_apart_and_one_is_named_once() -> None:
    here, there, other = Path("a/test.jsonl"), Path("b/test.jsonl"), Path("b/train.jsonl")
    assert evaluation.named([here, there, here, other]) == {here: "a/test", there: "b/test", other: "train"}
