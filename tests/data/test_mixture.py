from __future__ import annotations

import logging
from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.data import Batch, Mixture, Source
from polysense.errors import ConfigError, ManifestError, QuotaExceededError
from polysense.testing.toy import ToyDataset, toy_mixture, toy_processor


def values(batch: Batch) -> Tensor:
    return batch.features[batch.modality][f"{batch.modality}_values"]


def test_every_micro_step_mixes_the_modalities_and_their_anchors() -> None:
    mixture = toy_mixture(4)
    audio, depth = mixture.build(0)
    assert mixture.slots == ("audio", "depth") == (audio.modality, depth.modality)
    assert audio.features["image"]["image_values"].shape == values(audio).shape == (4, 6)
    assert audio.labels[0] in {"class 0", "class 1", "class 2"} and audio.captions[0] in {"one", "two", "three"}
    assert audio.ids[0].startswith("audio-set/audio-")


def test_any_step_can_be_built_alone_and_is_always_the_same() -> None:
    first, second = toy_mixture(), toy_mixture()
    for index in range(20):
        first.build(index)
    for a, b in zip(first.build(7), second.build(7), strict=True):
        assert a.ids == b.ids and a.captions == b.captions and torch.equal(values(a), values(b))
    assert toy_mixture(seed=1).build(7)[0].ids != first.build(7)[0].ids


@pytest.mark.parametrize("index", [0, 3, 9])
def test_the_ranks_side_by_side_are_one_process_with_the_doubled_batch(index: int) -> None:
    ranks = [toy_mixture(4).build(index, rank, 2) for rank in range(2)]
    together = toy_mixture(4).whole(index, 2)
    for slot, whole in enumerate(toy_mixture(8).build(index)):
        assert ranks[0][slot].ids + ranks[1][slot].ids == whole.ids == together[slot].ids
        assert torch.equal(torch.cat([values(ranks[0][slot]), values(ranks[1][slot])]), values(whole))
        assert torch.equal(values(together[slot]), values(whole))


def test_nothing_is_lost_or_doubled_within_an_epoch() -> None:
    mixture = toy_mixture(4, lengths=(24, 16))
    ids = [name for index in range(3) for rank in range(2) for name in mixture.build(index, rank, 2)[0].ids]
    assert len(ids) == len(set(ids)) == 24


def test_every_sample_comes_once_in_batches_of_which_the_last_is_smaller() -> None:
    batches = list(toy_mixture(4, lengths=(10, 3)).once())
    assert [len(batch) for batch in batches] == [4, 4, 2, 3]
    assert [batch.modality for batch in batches] == ["audio"] * 3 + ["depth"]
    assert len({name for batch in batches for name in batch.ids}) == 13
    assert {epoch for batch in batches for epoch in batch.epochs} == {0}


def test_augmentation_differs_between_epochs_and_can_be_turned_off() -> None:
    augmented, plain = toy_mixture(8, lengths=(8, 8)), toy_mixture(8, lengths=(8, 8), augment=False)

    def by_id(mixture: Mixture, index: int) -> dict[str, Tensor]:
        batch = mixture.build(index)[0]
        return dict(zip(batch.ids, values(batch), strict=True))

    first, second = by_id(augmented, 0), by_id(augmented, 1)
    assert first.keys() == second.keys() and all(not torch.equal(first[key], second[key]) for key in first)
    first, second = by_id(plain, 0), by_id(plain, 1)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_the_longest_source_sets_the_epoch_and_repeats_count() -> None:
    def source(name: str, length: int, **more: Any) -> Source:
        return Source(name=name, modality="audio", dataset=ToyDataset("audio", length), batch_size=4, **more)

    mixture = Mixture([source("large", 30), source("small", 10, repeat=5)], toy_processor, seed=0)
    assert mixture.steps_per_epoch() == 13 and mixture.steps_per_epoch(world=2) == 7
    balanced = Mixture([source("large", 30, per_class=4)], toy_processor, seed=0)
    assert balanced.steps_per_epoch() == 3


def test_an_unusable_sample_is_replaced_by_the_same_one_every_time(caplog: pytest.LogCaptureFixture) -> None:
    mixture, again = toy_mixture(8, broken=[3]), toy_mixture(8, broken=[3])
    steps = [mixture.build(index)[0] for index in range(8)]
    hit = next(index for index, batch in enumerate(steps) if batch.skipped)
    other = again.build(hit)[0]
    assert other.ids == steps[hit].ids and torch.equal(values(other), values(steps[hit]))
    assert len(set(other.ids)) == 8 and "audio-set/audio-3" not in other.ids
    assert other.skipped[0].sample == "audio-3" and "not finite" in other.skipped[0].reason
    untouched = toy_mixture(8).build(hit)[0]
    assert sum(a != b for a, b in zip(untouched.ids, other.ids, strict=True)) == 1
    with caplog.at_level(logging.WARNING):
        mixture.account([steps[hit], steps[hit]])
    assert mixture.skipped == {"audio-set": 1, "depth-set": 0}
    assert len(caplog.records) == 1 and "audio-3" in caplog.text and "not finite" in caplog.text


def test_too_many_unusable_samples_stop_the_run() -> None:
    mixture = toy_mixture(4, broken=range(8), lengths=(29, 17))
    with pytest.raises(QuotaExceededError, match=r"audio-set: 6 of 29 samples cannot be used"):
        for index in range(30):
            mixture.account(mixture.build(index)[:1])


def test_a_source_without_any_usable_sample_ends_with_the_reason() -> None:
    with pytest.raises(QuotaExceededError, match=r"32 samples in a row .*not finite"):
        toy_mixture(4, broken=range(29)).build(0)


def test_a_missing_modality_is_an_error_of_the_data_set_and_not_skipped() -> None:
    mixture = toy_mixture()
    wrong = replace(mixture.sources[0], anchors=("text",))
    with pytest.raises(ManifestError, match="no media of modality 'text'"):
        Mixture([wrong], toy_processor, seed=0).build(0)


def test_unusable_mixtures_are_refused() -> None:
    source = toy_mixture().sources[0]
    with pytest.raises(ConfigError, match="different names"):
        Mixture([source, source], toy_processor, seed=0)
    with pytest.raises(ConfigError, match="different names"):
        Mixture([], toy_processor, seed=0)
    with pytest.raises(ConfigError, match="batch_size 0"):
        replace(source, batch_size=0)
    with pytest.raises(ConfigError, match="anchor"):
        replace(source, anchors=("audio",))


def test_a_batch_moves_with_all_its_features() -> None:
    batch = toy_mixture().build(0)[0].to(torch.device("meta"))
    assert {tensor.device.type for tensors in batch.features.values() for tensor in tensors.values()} == {"meta"}
    assert len(batch) == 4


def test_a_batch_tells_the_epoch_of_every_sample() -> None:
    mixture = toy_mixture(4, lengths=(6, 4))
    first, second = mixture.build(0)[0], mixture.build(1)[0]
    assert first.epochs == (0, 0, 0, 0) and second.epochs == (0, 0, 1, 1)


def test_batches_can_be_of_samples_of_one_length() -> None:
    source = Source(name="set", modality="audio", dataset=ToyDataset("audio", 12), batch_size=4,
                    length=lambda sample, epoch: int(sample.id.rpartition("-")[2]) % 3)  # fmt: skip
    mixture = Mixture([source], toy_processor, seed=0)
    batches = [mixture.build(index)[0] for index in range(3)]
    assert sorted(name for batch in batches for name in batch.ids) == sorted(f"set/audio-{n}" for n in range(12))
    assert all(len({int(name.rpartition("-")[2]) % 3 for name in batch.ids}) == 1 for batch in batches)
    assert "grouped by length" in str(mixture.signature) and "grouped" not in str(toy_mixture().signature)


def test_a_source_that_takes_part_now_and_then_is_still_gone_through_in_order() -> None:
    whole = toy_mixture(2)
    audio, depth = whole.sources
    mixture = Mixture([audio, replace(depth, every=3, weight=0.5)], toy_processor, seed=0)
    steps = [mixture.build(index) for index in range(6)]
    assert [len(depth) for _, depth in steps] == [0, 0, 2, 0, 0, 2] and all(len(audio) == 2 for audio, _ in steps)
    taken = [depth for _, depth in steps if len(depth)]
    assert [each.ids for each in taken] == [whole.build(index)[1].ids for index in range(2)]
    assert {each.weight for each in taken} == {0.5}
    alone, rarely = (Mixture([each], toy_processor, seed=0) for each in (depth, mixture.sources[1]))
    assert rarely.steps_per_epoch() == 3 * alone.steps_per_epoch()
