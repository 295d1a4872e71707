from __future__ import annotations

from polysense.world.rng import generator


def test_the_key_alone_decides_the_stream() -> None:
    first = generator(0, "still", "train", 7, "image").uniform(size=3)
    generator(0, "still", "train", 8, "image").uniform(size=100)
    assert (generator(0, "still", "train", 7, "image").uniform(size=3) == first).all()


def test_every_part_of_the_key_matters() -> None:
    keys = [(0, "still", 1), (1, "still", 1), (0, "clip", 1), (0, "still", 11), (0, "still1", "")]
    assert len({generator(*key).integers(2**63) for key in keys}) == len(keys)


def test_the_stream_is_the_same_on_every_machine() -> None:
    assert generator("pinned").integers(1000, size=4).tolist() == PINNED


PINNED = [612, 225, 913, 350]
