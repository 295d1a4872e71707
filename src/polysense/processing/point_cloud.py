"""Point clouds as groups of neighbours on the unit sphere (Point-BERT, ULIP, ViT-Lens; method-facts 1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from polysense.errors import MediaError
from polysense.processing import geometry, media
from polysense.processing.arrays import in_memory_array
from polysense.processing.base import Facts, ModalityProcessor
from polysense.processing.point_files import from_array, read_cloud


@dataclass(frozen=True, kw_only=True)
class PointCloudProcessor(ModalityProcessor):
    """Farthest-point centres with their nearest neighbours, absolute coordinates, the centre first.

    Colour belongs to the modality's spec, since the tokenizer must agree: 3 channels are x, y, z; 6 add red, green,
    blue in 0 to 1. `dataclasses.replace(get_modality("point_cloud"), channels=6)` asks for colour.

    Attributes:
        num_points: clouds with more points are thinned out to that many: by farthest-point sampling, or in training
            by a random draw. Smaller clouds stay as they are.
        num_groups: centres; 196 gives CLIP-ViT-B/16's number of tokens, 512 is Point-BERT's.
        group_size: neighbours of a centre, itself included.
        min_points: clouds with fewer points are refused.
        dropout: in training, largest share of points dropped (drawn uniformly from 0).
        scale_range: in training, range of the random scale.
        shift: in training, largest shift along each axis, in radii of the unit sphere.
        jitter_angle: in training, standard deviation in radians of small rotations about all axes, cut at three.
        up_axis: 0, 1 or 2: the axis about which training clouds are turned by any angle; -1 for none.
    """

    kind: ClassVar[str] = "points"
    fact_names: ClassVar[tuple[str, ...] | None] = ()

    num_points: int = 8192
    num_groups: int = 196
    group_size: int = 32
    min_points: int = 32
    dropout: float = 0.875
    scale_range: tuple[float, float] = (0.8, 1.25)
    shift: float = 0.1
    jitter_angle: float = 0.06
    up_axis: int = 1

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.channels in (3, 6), "channels", "3 (coordinates) or 6 (coordinates and colours)")
        self._require(1 <= self.num_groups <= self.num_points, "num_groups", "between 1 and num_points")
        self._require(1 <= self.group_size <= self.num_points, "group_size", "between 1 and num_points")
        self._require(self.min_points >= 2, "min_points", "at least 2")
        self._require(0 <= self.dropout < 1, "dropout", "a share below 1")
        self._require(0 < self.scale_range[0] <= self.scale_range[1], "scale_range", "two ordered positive numbers")
        self._require(self.shift >= 0 and self.jitter_angle >= 0, "shift and jitter_angle", "0 or more")
        self._require(self.up_axis in (-1, 0, 1, 2), "up_axis", "0, 1, 2, or -1 for none")

    def load(self, source: Any, facts: Facts | None = None) -> Float[np.ndarray, "points channels"]:
        """Points as stored; `from_array` tells of clouds that are moved.

        Args:
            source: path, bytes or binary file of PLY, PCD or .npy; or an array `points 3` or `points 6`.
            facts: not used.

        Raises:
            MediaError: unreadable, fewer points than `min_points`, coordinates that are not finite or all the same,
                or no colours where the spec asks for them.
        """
        name, colour = media.source_name(source), self.channels == 6
        if (array := in_memory_array(source)) is not None:
            points = from_array(array, name, colour=colour)
        else:
            with media.open_media(source, media.CLOUDS) as opened:
                points = read_cloud(opened, colour=colour)
        if len(points) < self.min_points:
            raise MediaError(f"has {len(points)} points, fewer than the {self.min_points} that are needed", where=name,
                             fix="Sample the surface more densely, or lower min_points.")  # fmt: skip
        if not np.isfinite(points).all():
            bad = int((~np.isfinite(points).all(axis=1)).sum())
            raise MediaError(f"has {bad} points that are not finite", where=name, fix="Remove the invalid points.")
        if (points[:, :3] == points[0, :3]).all():
            raise MediaError("has all its points in one place", where=name, fix="Check how the cloud was written.")
        return points

    def features(
        self, raw: Float[np.ndarray, "points channels"], rng: np.random.Generator | None = None
    ) -> Float[Tensor, "groups neighbours channels"]:
        """Unit sphere, then groups; with `rng`, thinned out at random, turned, scaled and shifted."""
        points = self._thinned(raw, rng)
        xyz = geometry.unit_sphere(points[:, :3])
        start = 0
        if rng is not None:
            kept = rng.random(len(xyz)) >= rng.uniform(0, self.dropout)
            kept[int(rng.integers(len(xyz)))] = True
            points, xyz = points[kept], self._moved(xyz[kept], rng)
            start = int(rng.integers(len(xyz)))
        # clouds smaller than a group, or than the number of groups, repeat their points in order
        repeated = np.resize(np.arange(len(xyz)), max(len(xyz), self.num_groups, self.group_size))
        members = repeated[geometry.neighbour_groups(xyz[repeated], self.num_groups, self.group_size, start)]
        values = np.concatenate([xyz, points[:, 3:]], axis=1)
        return torch.from_numpy(values[members].astype(np.float32))

    def _thinned(
        self, points: Float[np.ndarray, "points channels"], rng: np.random.Generator | None
    ) -> Float[np.ndarray, "kept channels"]:
        if len(points) <= self.num_points:
            return points
        if rng is not None:
            return points[rng.choice(len(points), self.num_points, replace=False)]
        centres = geometry.farthest_points(geometry.unit_sphere(points[:, :3]), self.num_points)
        thinned: Float[np.ndarray, "kept channels"] = points[centres]
        return thinned

    def _moved(self, xyz: Float[np.ndarray, "points 3"], rng: np.random.Generator) -> Float[np.ndarray, "points 3"]:
        limit = 3 * self.jitter_angle
        turn = geometry.rotation(np.clip(rng.normal(0, self.jitter_angle, 3), -limit, limit))
        if self.up_axis >= 0:
            turn = turn @ geometry.rotation(np.eye(3)[self.up_axis] * rng.uniform(0, 2 * np.pi))
        scale, shift = rng.uniform(*self.scale_range), rng.uniform(-self.shift, self.shift, 3)
        moved: Float[np.ndarray, "points 3"] = (xyz @ turn.T * scale + shift).astype(np.float32)
        return moved
