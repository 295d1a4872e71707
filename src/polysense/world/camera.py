"""A pinhole camera that looks at the middle of the floor."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from jaxtyping import Float

RESOLUTION = 64


@dataclass(frozen=True)
class Camera:
    """Position (3,), rotation (3, 3; rows: the camera's right, down and forward axes), focal length in pixels."""

    position: Float[np.ndarray, 3]
    rotation: Float[np.ndarray, "3 3"]
    focal: float

    @property
    def intrinsics(self) -> tuple[float, float, float, float]:
        """(fx, fy, cx, cy) in pixels; the middle of the top left pixel is (0, 0)."""
        centre = (RESOLUTION - 1) / 2
        return self.focal, self.focal, centre, centre

    def rays(self) -> tuple[Float[np.ndarray, "pixels 3"], Float[np.ndarray, " pixels"]]:
        """Unit directions (pixels, 3) in world axes, and the depth that one metre along each ray makes (pixels,)."""
        steps = (np.arange(RESOLUTION, dtype=np.float32) - (RESOLUTION - 1) / 2) / self.focal
        across, down = np.meshgrid(steps, steps)
        local = np.stack([across.ravel(), down.ravel(), np.ones(RESOLUTION**2)], axis=1).astype(np.float32)
        length = np.sqrt((local * local).sum(axis=1))
        return (local / length[:, None]) @ self.rotation, (1 / length).astype(np.float32)

    def project(self, points: Float[np.ndarray, "n 3"]) -> Float[np.ndarray, "n 2"]:
        """Pixel coordinates (n, 2), measured from the middle of the picture."""
        local = (np.asarray(points, dtype=np.float32) - self.position) @ self.rotation.T
        return np.asarray(self.focal * local[:, :2] / np.maximum(local[:, 2:], 1e-3))


def sample_camera(rng: np.random.Generator, target_height: float = 0.28) -> Camera:
    """A camera two metres or so away, somewhat above the floor, in any direction from which the back wall is seen."""
    distance, elevation, azimuth = rng.uniform(1.75, 2.25), np.radians(rng.uniform(16, 42)), rng.uniform(-0.5, 0.5)
    target = np.array([0.0, 0.0, target_height])
    back = np.array([np.sin(azimuth) * np.cos(elevation), -np.cos(azimuth) * np.cos(elevation), np.sin(elevation)])
    forward = -back
    roll = np.radians(rng.uniform(-4, 4))
    right = np.cross(forward, [0.0, 0.0, 1.0])
    right /= np.linalg.norm(right)
    down = np.cross(forward, right)
    turned = np.cos(roll) * right + np.sin(roll) * down, np.cos(roll) * down - np.sin(roll) * right
    rotation = np.stack([*turned, forward]).astype(np.float32)
    return Camera((target + distance * back).astype(np.float32), rotation, float(rng.uniform(76, 88)))
