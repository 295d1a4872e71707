from __future__ import annotations

from collections.abc import Sequence

import pytest

from polysense.continual import draw_replay, join_replay
from polysense.data import Sample, Subset
from polysense.errors import ConfigError


class Rows:
    """A data set of samples that have only their ids."""

    def __init__(self, ids: Sequence[str]) -> None:
        self.ids = ids

    def __len__(self) -> int:
        return len(self.ids)

    def __getitem__(self, index: int) -> Sample:
        return Sample(id=self.ids[index], media={})

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * len(self)


def rows(count: int) -> Rows:
    return Rows([f"sample-{number}" for number in range(count)])


def ids(subset: Subset) -> list[str]:
    return [subset[index].id for index in range(len(subset))]


def test_every_data_set_gives_its_share() -> None:
    drawn = draw_replay({"coco": rows(200), "ok-vqa": rows(55)}, 0.1, seed=0)
    assert {name: len(subset) for name, subset in drawn.items()} == {"coco": 20, "ok-vqa": 6}
    assert all(len(set(ids(subset))) == len(subset) for subset in drawn.values())


def test_the_draw_depends_on_neither_the_order_of_rows_nor_that_of_data_sets() -> None:
    forward = draw_replay({"a": rows(50), "b": rows(40)}, 0.2, seed=3)
    backward = draw_replay({"b": rows(40), "a": Rows(rows(50).ids[::-1])}, 0.2, seed=3)
    assert {name: ids(each) for name, each in forward.items()} == {name: ids(each) for name, each in backward.items()}


def test_seeds_and_data_sets_draw_different_samples() -> None:
    drawn = draw_replay({"a": rows(100), "b": rows(100)}, 0.1, seed=0)
    again = draw_replay({"a": rows(100)}, 0.1, seed=1)
    assert len({tuple(ids(each)) for each in (drawn["a"], drawn["b"], again["a"])}) == 3


def test_a_smaller_share_is_part_of_a_larger_one() -> None:
    small, large = (draw_replay({"a": rows(100)}, share, seed=0)["a"] for share in (0.01, 0.1))
    assert ids(small) == ids(large)[:1]
    assert sorted(ids(draw_replay({"a": rows(9)}, 1.0, seed=0)["a"])) == sorted(rows(9).ids)


def test_samples_are_drawn_uniformly() -> None:
    hits = [0] * 20
    for seed in range(400):
        for index in draw_replay({"a": rows(20)}, 0.25, seed)["a"].indices:
            hits[index] += 1
    assert all(60 < hit < 140 for hit in hits)  # 100 expected, deviation 8.7


def test_the_rival_keeps_the_stage_whole_and_adds_the_earlier_share() -> None:
    current, earlier = {"msvd": rows(30)}, {"coco": rows(100), "ok-vqa": rows(50)}
    joined = join_replay(current, earlier, 0.1, seed=0)
    assert {name: len(each) for name, each in joined.items()} == {"msvd": 30, "coco": 10, "ok-vqa": 5}
    assert joined["msvd"] is current["msvd"]
    assert joined["coco"] == draw_replay({"coco": earlier["coco"]}, 0.1, seed=0)["coco"]


def test_an_empty_replay_set_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"ok-vqa: a share of 0\.01 of its 40 samples is less than one sample"):
        draw_replay({"coco": rows(100), "ok-vqa": rows(40)}, 0.01, seed=0)
    with pytest.raises(ConfigError, match=r"no data sets to replay 0\.01 of"):
        join_replay({"coco": rows(100)}, {}, 0.01, seed=0)
    with pytest.raises(ConfigError, match=r"the replay share is 10\.0"):
        draw_replay({"coco": rows(100)}, 10.0, seed=0)
    with pytest.raises(ConfigError, match="coco: the data set is the stage's own and an earlier one"):
        join_replay({"coco": rows(9)}, {"coco": rows(9)}, 1.0, seed=0)
