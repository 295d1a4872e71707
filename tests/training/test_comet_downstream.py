"""The downstream configs on small local files of the published schemas, and on a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from datasets import Dataset

from polysense.data import SampleDataset
from polysense.recipes.codes import CodeSequences
from polysense.recipes.comet_downstream import DownstreamSettings, score_codes
from polysense.recipes.comet_segmentation import SegmentationSettings, segmentation_results
from polysense.recipes.config import read_config
from polysense.world import WorldConfig, build_world

AVE = """Male speech, man speaking&aa&good&0&10
Bark&bb&good&2&5
Church bell&cc&good&0&9
"""
AVVP = """filename\tonset\toffset\tevent_labels
x_0_10\t0\t8\tSpeech
x_0_10\t5\t10\tDog
y_3_13\t1\t4\tBlender
"""


def write_published(root: Path) -> None:
    for folder in ("AVE_Dataset", "AVVP", "msvd", "clotho", "flickr-sound", "coco", "valor"):
        (root / folder).mkdir()
    (root / "AVE_Dataset/trainSet.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + AVE)
    (root / "AVE_Dataset/testSet.txt").write_text(AVE)
    for sense in ("audio", "visual"):
        (root / f"AVVP/AVVP_eval_{sense}.csv").write_text(AVVP)
    (root / "msvd/test.csv").write_text("video_name,caption\nv1,a cat sleeps\nv2,a man sings\n")
    names = ",".join(f"caption_{number}" for number in range(1, 6))
    texts = [",".join(f"sound {row} {number}" for number in range(5)) for row in range(3)]
    rows = "".join(f"{row}.wav,{text}\n" for row, text in enumerate(texts))
    (root / "clotho/clotho_captions_evaluation.csv").write_text(f"file_name,{names}\n{rows}")
    (root / "flickr-sound/test.csv").write_text("filename\n11.wav\n22.wav\n")
    Dataset.from_dict(
        {"filepath": ["val2014"] * 2, "filename": ["a.jpg", "b.jpg"], "sentences": [["one", "two"], ["three", "four"]]}
    ).to_parquet(root / "coco/test-0.parquet")
    clip = {"bytes": b"x", "path": None}
    Dataset.from_dict({"video": [clip] * 2, "audio": [clip] * 2, "description": ["a", "b"]}).to_parquet(
        root / "valor/test-0.parquet"
    )


class NumberedEncoder:
    """Ten steps of a code that is the sample's number, and a record of what was encoded."""

    def __init__(self) -> None:
        self.seen: dict[str, list[Any]] = {}

    def __call__(self, sense: str, dataset: SampleDataset) -> CodeSequences:
        samples = [dataset[index] for index in range(len(dataset))]
        self.seen.setdefault(sense, []).append(samples)
        indices = torch.arange(len(samples))[:, None].expand(-1, 10) % 16
        return CodeSequences(torch.nn.functional.one_hot(indices, 16).float(), indices)


def test_the_papers_protocols_run_on_the_published_schemas(tmp_path: Path) -> None:
    write_published(tmp_path)
    quick = [f"transfer.{name}.head.epochs=1" for name in ("ave", "avvp", "ave-avvp")]
    settings = read_config(DownstreamSettings, "comet", "downstream-paper", quick)
    encode, senses = NumberedEncoder(), ["video", "audio", "text", "image"]
    found = score_codes(settings, encode, senses, tmp_path, size=16)
    counts = {(each.dataset, each.task): each.count for each in found.results}
    assert counts["AVE train (published)", "classification video to audio"] == 3
    assert counts["AVE test", "classification audio to video"] == 3
    assert counts["AVVP eval (published)", "localisation video to audio"] == 1  # the shared classes leave one clip
    assert counts["clotho", "retrieval text to audio"] == 15 and counts["clotho", "retrieval audio to text"] == 3
    assert counts["mscoco-1k", "retrieval text to image"] == 2
    assert counts["flickr-sound", "retrieval image to audio"] == 2 and counts["msvd", "retrieval video to text"] == 2
    pictures = [sample.media["image"].source for samples in encode.seen["image"] for sample in samples]
    assert {str(path.relative_to(tmp_path.resolve())) for path in pictures} == {
        "coco/val2014/a.jpg", "coco/val2014/b.jpg", "flickr-sound/image/11.jpg", "flickr-sound/image/22.jpg"
    }  # fmt: skip
    assert found.activation is not None and found.activation.senses == ("video", "audio", "text")


def test_clothos_published_subset_is_its_first_209_sounds() -> None:
    settings = read_config(DownstreamSettings, "comet", "downstream-paper")
    subset, full = settings.retrieval["clotho-209 (published)"], settings.retrieval["clotho"]
    assert subset.data.limit == 209 and full.data.limit is None and subset.data.csv == full.data.csv


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("world")
    counts = {"clips": {"train": 4, "test": 4, "compositional": 2}, "stills": {"test": 6, "train": 6}}
    build_world(root, WorldConfig(size="few", counts=counts, seed=5))
    return root


def test_the_worlds_protocols_run_on_its_manifests(world: Path) -> None:
    quick = [f"transfer.{name}.head.epochs=1" for name in ("events", "seconds")]
    settings = read_config(DownstreamSettings, "comet", "downstream-world", quick)
    found = score_codes(settings, NumberedEncoder(), ["video", "audio", "text", "image"], world, size=16)
    tasks = {(each.task, each.dataset) for each in found.results}
    for pair in ("video to audio", "audio to video"):
        assert {(f"classification {pair}", "test"), (f"classification {pair}", "train (published)"),
                (f"localisation {pair}", "test"), (f"localisation {pair}", "compositional")} <= tasks  # fmt: skip
    assert ("retrieval image to audio", "image-audio") in tasks and ("retrieval text to image", "image-text") in tasks
    assert found.activation is not None


def test_films_are_segmented_frame_by_frame(world: Path) -> None:
    few = [
        "train=[{manifest: manifests/clips-train.jsonl}, {manifest: manifests/stills-train.jsonl, limit: 2}]",
        "tests={clips: {manifest: manifests/clips-test.jsonl}}", "head.epochs=1",
    ]  # fmt: skip
    settings = read_config(SegmentationSettings, "comet", "segmentation-world", few)
    _, results = segmentation_results(settings, NumberedEncoder(), world)
    assert {(each.task, each.metric) for each in results} == {
        ("segmentation text to text", metric) for metric in ("J", "F", "J&F")
    }  # fmt: skip
    assert all(0 <= each.value <= 1 for each in results)
