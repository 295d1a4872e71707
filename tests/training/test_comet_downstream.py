"""The downstream configs on small local files of the published schemas, and on a world."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.data import SampleDataset
from polysense.recipes.codes import CodeSequences
from polysense.recipes.comet_downstream import DownstreamSettings, score_codes
from polysense.recipes.config import read_config
from polysense.world import WorldConfig, build_world
from tests.training.comet_samples import write_downstream


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
    write_downstream(tmp_path)
    quick = [f"transfer.{name}.head.epochs=1" for name in ("ave", "avvp", "avvp-splits", "ave-avvp")]
    settings = read_config(DownstreamSettings, "comet", "downstream-paper", quick)
    encode, senses = NumberedEncoder(), ["video", "audio", "text", "image"]
    found = score_codes(settings, encode, senses, tmp_path, size=16)
    figures = [(each.dataset, each.task, each.metric) for each in found.results]
    assert len(figures) == len(set(figures)), "each is told apart by its name"
    counts = {(each.dataset, each.task): each.count for each in found.results}
    assert counts["AVE train (published)", "classification video to audio"] == 3
    assert counts["AVE test", "classification audio to video"] == 3
    assert counts["AVVP test", "localisation audio to video"] == 1  # one clip of each split
    assert counts["AVVP eval (published)", "localisation video to audio"] == 2
    shared = "AVE to AVVP eval (published)"
    assert counts[shared, "localisation video to audio"] == 1  # the shared classes leave one clip
    assert counts["clotho", "retrieval text to audio"] == 15 and counts["clotho", "retrieval audio to text"] == 3
    assert counts["mscoco-1k", "retrieval text to image"] == 2
    assert counts["flickr-sound", "retrieval image to audio"] == 2 and counts["msvd", "retrieval video to text"] == 2
    pictures = [sample.media["image"].source for samples in encode.seen["image"] for sample in samples]
    assert {str(path.relative_to(tmp_path.resolve())) for path in pictures} == {
        "coco/vgg19/a.npy", "coco/vgg19/b.npy", "flickr-sound/vgg19/11.npy", "flickr-sound/vgg19/22.npy"
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


def test_films_are_segmented_frame_by_frame_once_speech_is_known(world: Path) -> None:
    few = [
        "segmentation.stills.train=[{manifest: manifests/clips-train.jsonl}, "
        "{manifest: manifests/stills-train.jsonl, limit: 2}]",
        "segmentation.stills.tests={clips: {manifest: manifests/clips-test.jsonl}}",
        "segmentation.stills.head.epochs=1",
    ]
    settings = read_config(DownstreamSettings, "comet", "segmentation-world", few)
    assert not score_codes(settings, NumberedEncoder(), ["text", "video"], world, size=16).results
    results = score_codes(settings, NumberedEncoder(), ["text", "speech"], world, size=16).results
    assert {(each.task, each.metric) for each in results} == {
        ("segmentation text to text", metric) for metric in ("J", "F", "J&F")
    }  # fmt: skip
    assert all(0 <= each.value <= 1 for each in results)
