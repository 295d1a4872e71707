from __future__ import annotations

import numpy as np

from polysense.data.rng import keyed_int, keyed_rng, sample_rng, step_seed


def test_equal_keys_give_equal_streams_whatever_was_drawn_before() -> None:
    first = sample_rng(1, 2, "dog/3", "audio")
    np.random.default_rng(0).normal(size=100)
    assert np.array_equal(first.normal(size=5), sample_rng(1, 2, "dog/3", "audio").normal(size=5))


def test_every_part_of_the_key_matters() -> None:
    keys = [(1, 2, "a", "x"), (2, 2, "a", "x"), (1, 3, "a", "x"), (1, 2, "b", "x"), (1, 2, "a", "y"), (1, 2, "ax", "")]
    draws = {float(sample_rng(*key).random()) for key in keys}
    assert len(draws) == len(keys)


def test_keys_cannot_be_confused_by_their_separators() -> None:
    assert keyed_int("a", "b") != keyed_int("a', 'b") != keyed_int("ab")
    assert keyed_int(1) != keyed_int("1")


def test_the_streams_are_the_same_on_every_machine() -> None:
    assert keyed_int("polysense", 1) == 0x4C492BD06A20312F
    assert keyed_rng("polysense").integers(0, 1000, size=4).tolist() == [367, 891, 175, 402]


def test_step_seeds_fit_torch_and_differ_between_ranks_and_steps() -> None:
    seeds = {step_seed(0, step, rank) for step in range(50) for rank in range(4)}
    assert len(seeds) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
