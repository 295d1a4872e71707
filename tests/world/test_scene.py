from __future__ import annotations

import numpy as np
import pytest

from polysense.world.attributes import looks
from polysense.world.config import Difficulty
from polysense.world.rng import generator
from polysense.world.scene import Scene, resting_height, sample_scene


def _scenes(name: str, count: int = 12, *, held_out: bool = False) -> list[Scene]:
    level = Difficulty.named(name)
    return [
        sample_scene(lambda part, i=i: generator(0, name, i, part), level, held_out=held_out)  # type: ignore[misc]
        for i in range(count)
    ]


@pytest.mark.parametrize("name", ["easy", "standard"])
def test_the_subject_is_the_object_nearest_to_the_camera_axis(name: str) -> None:
    for scene in _scenes(name):
        spots = scene.camera.project(np.concatenate([body.centre for body in scene.objects]))
        assert int(np.abs(spots).max(axis=1).argmin()) == 0


@pytest.mark.parametrize("name", ["easy", "standard", "hard"])
def test_enough_of_the_subject_is_seen(name: str) -> None:
    for scene in _scenes(name):
        assert scene.geometry.visible_share(0) >= Difficulty.named(name).min_visible
        assert len(scene.geometry.hits[0].pixel) > 20


def test_objects_are_numbered_from_one_and_differ_in_shape_or_colour() -> None:
    counts = set()
    for scene in _scenes("standard"):
        assert [body.number for body in scene.objects] == list(range(1, len(scene.objects) + 1))
        assert len({(body.look.shape, body.look.colour) for body in scene.objects}) == len(scene.objects)
        counts.add(len(scene.objects))
    assert counts == {1, 2, 3}


def test_compositional_subjects_are_held_out_and_the_others_are_not() -> None:
    for scene in _scenes("standard", 6, held_out=True):
        assert scene.objects[0].look in looks(held_out=True)
        assert all(body.look in looks() for body in scene.objects[1:])
    for scene in _scenes("standard", 6):
        assert all(body.look in looks() for body in scene.objects)


def test_a_resting_cube_stands_on_its_face() -> None:
    assert resting_height("cube", np.eye(3, dtype=np.float32)) == pytest.approx(0.57, abs=0.01)
