from __future__ import annotations

from collections.abc import Callable

import numpy as np

from polysense.world.attributes import RGB, Look
from polysense.world.camera import sample_camera
from polysense.world.config import Difficulty
from polysense.world.render import compose, trace
from polysense.world.scene import sample_body
from polysense.world.shade import develop, sample_backdrop, sample_light, shade

Stream = Callable[[str], np.random.Generator]


def _picture(stream: Stream, level: Difficulty, colour: str) -> tuple[np.ndarray, np.ndarray]:
    camera = sample_camera(stream("camera"))
    directions, _ = camera.rays()
    backdrop = sample_backdrop(stream("backdrop"), level, camera, directions)
    body = sample_body(stream("body"), Look("cube", colour, "large", "ceramic"), level, number=1)
    geometry = compose([body], [trace(body, camera, directions)], backdrop.distance)
    light = sample_light(stream("light"), level)
    linear = shade([body], geometry, camera, directions, backdrop, light)
    return develop(linear, stream("noise"), level), geometry.masks([body])


def test_a_thing_looks_as_its_colour_says(stream: Stream) -> None:
    for colour in ("red", "green", "blue"):
        picture, masks = _picture(stream, Difficulty.named("easy"), colour)
        seen = picture[masks == 1].mean(0)
        assert int(seen.argmax()) == int(np.argmax(RGB[colour]))


def test_a_harder_world_has_a_noisier_picture(stream: Stream) -> None:
    def roughness(name: str) -> float:
        picture, _ = _picture(stream, Difficulty.named(name), "red")
        return float(np.abs(np.diff(picture[0, :12].astype(float), axis=1)).mean())

    assert roughness("easy") < roughness("standard") < roughness("hard")


def test_every_ray_ends_on_the_floor_or_the_wall(stream: Stream, standard: Difficulty) -> None:
    for seed in range(10):
        camera = sample_camera(np.random.default_rng(seed))
        directions, _ = camera.rays()
        backdrop = sample_backdrop(stream("backdrop"), standard, camera, directions)
        assert np.isfinite(backdrop.distance).all()
        assert (backdrop.distance > 0.3).all()
        np.testing.assert_allclose(backdrop.place[backdrop.floor, 2], 0, atol=1e-4)
