from __future__ import annotations

import numpy as np

from polysense.world.camera import RESOLUTION, Camera, sample_camera


def _straight() -> Camera:
    """At the origin, looking along y; right is x and down is -z."""
    rotation = np.array([[1, 0, 0], [0, 0, -1], [0, 1, 0]], dtype=np.float32)
    return Camera(np.zeros(3, dtype=np.float32), rotation, 64.0)


def test_projection_worked_by_hand() -> None:
    spots = _straight().project(np.array([[0, 2, 0], [1, 4, 0], [0, 2, 0.5]], dtype=np.float32))
    np.testing.assert_allclose(spots, [[0, 0], [16, 0], [0, -16]], atol=1e-5)


def test_a_point_along_a_ray_projects_onto_the_rays_pixel() -> None:
    camera = sample_camera(np.random.default_rng(1))
    directions, forwardness = camera.rays()
    pixel = 17 * RESOLUTION + 40
    point = camera.position + 2.5 * directions[pixel]
    centre = (RESOLUTION - 1) / 2
    np.testing.assert_allclose(camera.project(point[None])[0], [40 - centre, 17 - centre], atol=1e-3)
    depth = (point - camera.position) @ camera.rotation[2]
    np.testing.assert_allclose(depth, 2.5 * forwardness[pixel], rtol=1e-5)


def test_intrinsics_are_in_pixels_with_the_centre_between_pixels() -> None:
    assert _straight().intrinsics == (64.0, 64.0, 31.5, 31.5)


def test_sampled_cameras_have_orthonormal_axes_and_stand_above_the_floor() -> None:
    rng = np.random.default_rng(0)
    for _ in range(20):
        camera = sample_camera(rng)
        np.testing.assert_allclose(camera.rotation @ camera.rotation.T, np.eye(3), atol=1e-5)
        assert camera.position[2] > 0.4
