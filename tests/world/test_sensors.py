from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from polysense.world.config import Difficulty
from polysense.world.rng import generator
from polysense.world.scene import Scene, sample_scene
from polysense.world.sensors import POINTS, WARMTH, depth_picture, point_cloud, thermal_picture

EASY = Difficulty.named("easy")


@pytest.fixture(scope="module")
def scene() -> Scene:
    return sample_scene(lambda part: generator(3, part), EASY, held_out=False)


def test_depth_is_in_millimetres_along_the_optical_axis(scene: Scene) -> None:
    depth = depth_picture(scene, np.random.default_rng(0), replace(EASY, depth_noise=0.0)).ravel()
    pixel = int(scene.geometry.hits[0].pixel[0])
    expected = 1000 * scene.geometry.distance[0, pixel] * scene.forwardness[pixel]
    assert depth.dtype == np.uint16
    assert abs(int(depth[pixel]) - expected) <= 0.5


def test_holes_read_zero_and_are_no_more_than_allowed(scene: Scene) -> None:
    depth = depth_picture(scene, np.random.default_rng(0), replace(EASY, depth_holes=0.3))
    assert 0 < (depth == 0).mean() <= 0.3


def test_the_subject_is_as_warm_as_its_material_makes_it(scene: Scene) -> None:
    thermal = thermal_picture(scene, np.random.default_rng(0), EASY) / 100
    mask = scene.geometry.masks(scene.bodies)[0] == 1
    excess = float(np.median(thermal[mask]) - np.median(thermal[~mask]))
    assert excess == pytest.approx(WARMTH[scene.objects[0].look.material], rel=0.35)


def test_a_cloud_has_1024_points_around_the_subject(scene: Scene) -> None:
    points, colours = point_cloud(scene, np.random.default_rng(0), EASY)
    assert points.shape == colours.shape == (POINTS, 3)
    near = np.linalg.norm(points, axis=1) <= 1.05 * scene.objects[0].radius
    assert near.mean() > 0.85
    assert points.dtype == np.float32


def test_a_harder_cloud_lacks_a_part_of_the_surface(scene: Scene) -> None:
    def emptiest_direction(missing: float) -> float:
        level = replace(EASY, point_missing=missing, point_strays=0.0)
        points, _ = point_cloud(scene, np.random.default_rng(0), level)
        return float(np.linalg.norm(points.mean(0)) / scene.objects[0].radius)

    assert emptiest_direction(0.6) > emptiest_direction(0.0) + 0.05
