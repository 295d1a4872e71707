from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
import torch

from polysense.data import MediaRef, Mixture, Sample, Source
from polysense.data.feature_sequences import (
    FeatureSequences,
    SequenceBatches,
    TextChoice,
    phrases_key,
    stack_sequences,
)
from polysense.data.feature_store import FeatureStore
from polysense.errors import ConfigError, FeatureShapeError, ManifestError


@dataclass(frozen=True)
class Clips:
    """Five clips with two captions each; the first three can be narrated."""

    count: int = 5

    def __len__(self) -> int:
        return self.count

    def __getitem__(self, index: int) -> Sample:
        narrated = {"narrations": {"video": [f"step {index} {t}" for t in range(3)]}} if index < 3 else {}
        captions = {"video": (f"clip {index}", f"film {index}")}
        return Sample(f"clip-{index}", {"video": MediaRef("x.mp4")}, {"video": f"class {index}"}, captions, narrated)

    def labels(self, modality: str) -> Sequence[str | None]:
        return [f"class {index}" for index in range(self.count)]


def stores(folder: Path, *, missing: str = "") -> dict[str, FeatureStore]:
    """Video (3 steps, 2 x 2 cells of 4 values) numbered by clip, and texts of 1 to 3 steps."""
    video, text = FeatureStore(folder, "video"), FeatureStore(folder, "text")
    wanted = {f"clip-{i}": torch.full((3, 2, 2, 4), float(i)) for i in range(5) if f"clip-{i}" != missing}
    video.fill({name: value.clone for name, value in wanted.items()})
    told = [*TextChoice(captions="video").of(Clips()), *TextChoice(captions="video", narrated=0.6).of(Clips())]
    texts = {phrases_key(each): torch.full((len(each), 4), float(len(each))) for texts in told for each in texts}
    text.fill({name: value.clone for name, value in texts.items()})
    return {"video": video, "text": text}


def test_a_sample_is_told_in_sentences_or_step_by_step() -> None:
    told = TextChoice(captions="video", narrated=0.4).of(Clips())
    narrated = [index for index, texts in enumerate(told) if len(texts[0]) == 3]
    assert len(narrated) == 2 and set(narrated) <= {0, 1, 2}
    assert told[4] == (("clip 4",), ("film 4",))
    assert told[narrated[0]] == (tuple(f"step {narrated[0]} {t}" for t in range(3)),)
    more = TextChoice(captions="video", narrated=0.6).of(Clips())
    assert all(len(more[index][0]) == 3 for index in narrated)  # a larger share drops none


@pytest.mark.parametrize("share", [-0.2, 0.8, 1.2])
def test_no_more_samples_are_narrated_than_can_be(share: float) -> None:
    with pytest.raises(ConfigError, match="are to be narrated, and 3 can be"):
        TextChoice(captions="video", narrated=share).of(Clips())


def test_a_sample_has_its_sequences_and_all_else_that_its_row_has(tmp_path: Path) -> None:
    pairs = FeatureSequences(Clips(), stores(tmp_path), TextChoice(captions="video").of(Clips()))
    sample = pairs[3]
    video, text = (sample.media[sense].source for sense in ("video", "text"))
    assert isinstance(video, tuple) and len(video) == 1 and video[0].shape == (3, 2, 2, 4) and video[0].mean() == 3
    assert isinstance(text, tuple) and len(text) == 2
    assert (sample.id, sample.labels) == ("clip-3", {"video": "class 3"})
    assert pairs.senses == ("video", "text") and pairs.left_out == 0


def test_samples_that_lack_a_sense_are_left_out_and_counted(tmp_path: Path) -> None:
    pairs = FeatureSequences(Clips(), stores(tmp_path, missing="clip-1"), TextChoice(captions="video").of(Clips()))
    assert (len(pairs), pairs.left_out) == (4, 1)
    assert [pairs[index].id for index in range(4)] == ["clip-0", "clip-2", "clip-3", "clip-4"]
    assert list(pairs.labels("video")) == ["class 0", "class 2", "class 3", "class 4"]
    with pytest.raises(ManifestError, match="no sample has all of audio"):
        FeatureSequences(Clips(), {"audio": FeatureStore(tmp_path, "audio")})


def test_text_needs_the_texts_of_every_sample(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"TextChoice\.of"):
        FeatureSequences(Clips(), stores(tmp_path))


def test_nothing_is_read_from_a_stage_that_is_over(tmp_path: Path) -> None:
    pairs = FeatureSequences(Clips(), stores(tmp_path), TextChoice(captions="video").of(Clips()))
    pairs.close()
    for read in (lambda: pairs[0], lambda: pairs.labels("video")):
        with pytest.raises(ManifestError, match="a stage that is over is not accessible"):
            read()


def test_a_mixture_makes_batches_of_them(tmp_path: Path) -> None:
    pairs = FeatureSequences(Clips(), stores(tmp_path), TextChoice(captions="video", narrated=0.6).of(Clips()))
    source = Source(name="pairs", modality="video", anchors=("text",), dataset=pairs, batch_size=4)
    mixture = Mixture([source], SequenceBatches(steps=3), seed=0)
    (batch,) = mixture.build(0)
    video, text = batch.features["video"], batch.features["text"]
    assert video["sequence"].shape == (4, 3, 2, 2, 4) and video["mask"].all()
    assert text["sequence"].shape == (4, 3, 4) and text["mask"].sum(dim=1).tolist() == [
        3 if int(sample.id[-1]) < 3 else 1 for sample in batch.samples
    ]
    assert [int(row.mean()) for row in video["sequence"]] == [int(sample.id[-1]) for sample in batch.samples]
    assert torch.equal(mixture.build(0)[0].features["text"]["sequence"], text["sequence"])


def test_one_of_the_texts_is_drawn_in_training_and_the_first_taken_elsewhere() -> None:
    texts = (torch.zeros(1, 2), torch.ones(1, 2))
    batches = SequenceBatches(steps=1)
    drawn = {
        float(batches("text", [texts], rngs=[np.random.default_rng(seed)])["sequence"].sum()) for seed in range(20)
    }  # fmt: skip
    assert drawn == {0.0, 2.0} and float(batches("text", [texts])["sequence"].sum()) == 0


def test_short_sequences_are_filled_up_with_zeros() -> None:
    batch = stack_sequences([torch.ones(1, 2), torch.ones(3, 2)], 3)
    assert batch["sequence"][..., 0].tolist() == [[1, 0, 0], [1, 1, 1]]
    assert batch["mask"].tolist() == [[True, False, False], [True, True, True]]


@pytest.mark.parametrize("odd", [torch.ones(2, 3), torch.ones(4, 2)])
def test_sequences_that_fit_no_batch_are_refused(odd: torch.Tensor) -> None:
    with pytest.raises(FeatureShapeError, match="sequences of audio have steps of shapes"):
        SequenceBatches(steps=3)("audio", [(torch.ones(2, 2),), (odd,)])
