from __future__ import annotations

from pathlib import Path

import pytest
import torch

from polysense.data import Manifest, SampleDataset
from polysense.errors import ConfigError, FeatureShapeError, ManifestError
from polysense.recipes.codes import CodeSequences, Sentences, encoded
from tests.recipes.code_samples import LabelEncoder, clips, write_clips


def manifest(folder: Path, count: int = 3) -> Manifest:
    rows = list(clips(count))
    del rows[-1]["captions"]["audio"]
    return Manifest(folder / write_clips(folder, "clips", rows)["manifest"])


def test_a_sequence_is_the_unit_mean_of_its_real_steps() -> None:
    vectors = torch.tensor([[[3.0, 0.0], [0.0, 4.0]], [[0.0, 2.0], [9.0, 9.0]]])
    codes = CodeSequences(vectors, mask=torch.tensor([[True, True], [True, False]]))
    torch.testing.assert_close(codes.pooled, torch.tensor([[0.6, 0.8], [0.0, 1.0]]))


@pytest.mark.parametrize("value", [float("nan"), float("inf")])
def test_values_that_are_not_finite_are_refused_with_their_sample(value: float) -> None:
    vectors = torch.zeros(3, 2, 4)
    vectors[1, 1, 2] = value
    with pytest.raises(FeatureShapeError, match="sample 1 of 3"):
        CodeSequences(vectors)


def test_a_sequence_without_steps_and_parts_of_other_lengths_are_refused() -> None:
    with pytest.raises(FeatureShapeError, match="sample 0 of 1"):
        CodeSequences(torch.zeros(1, 2, 4), mask=torch.zeros(1, 2, dtype=torch.bool))
    with pytest.raises(FeatureShapeError, match="indices"):
        CodeSequences(torch.zeros(1, 2, 4), torch.zeros(1, 3, dtype=torch.int64))


def test_captions_are_samples_of_their_own(tmp_path: Path) -> None:
    sentences = Sentences(manifest(tmp_path), "video")
    assert isinstance(sentences, SampleDataset) and len(sentences) == 6
    assert sentences.owners.tolist() == [0, 0, 1, 1, 2, 2]
    assert sentences[3].id == "clip-0-1/video/1" and sentences[3].ref("text").open() == "something"
    assert Sentences(manifest(tmp_path), "video", each=1).owners.tolist() == [0, 1, 2]


def test_a_sample_without_a_caption_is_named(tmp_path: Path) -> None:
    with pytest.raises(ManifestError, match="clip-0-2"):
        len(Sentences(manifest(tmp_path), "audio"))


def test_an_encoder_may_not_leave_samples_out(tmp_path: Path) -> None:
    dataset, encoder = manifest(tmp_path), LabelEncoder()
    assert len(encoded(encoder, "video", dataset)) == 3
    with pytest.raises(ConfigError, match="3 samples were encoded as 2"):
        encoded(lambda sense, data: CodeSequences(torch.zeros(2, 4, 6)), "video", dataset)
