"""Farthest-point sampling, nearest neighbours and the unit sphere, on single clouds.

Farthest-point sampling runs in the compiled bucket kd-tree of fpsample (Han et al. 2023, "QuickFPS") where that is
exact, and in NumPy otherwise; both give the same indices from the same start.
"""

from __future__ import annotations

import fpsample
import numpy as np
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = Float[np.ndarray, "points 3"]

_SMALL = 256  # points below which NumPy is as quick as building a tree
_LEAF_LEVELS = 5  # height of the bucket tree; 2 ** 5 buckets suit some thousand points
_LATTICE_SHARE = 0.5  # share of repeated coordinates above which equal distances are the rule


def unit_sphere(points: Points) -> Points:
    """Centre the cloud on its mean and scale it so that the farthest point has distance 1.

    A cloud whose points all coincide has no scale; it is centred only.
    """
    centred = points - points.mean(axis=0, dtype=np.float64)
    radius = np.sqrt((centred**2).sum(axis=1).max())
    sphere: Points = (centred / radius if radius > 0 else centred).astype(np.float32)
    return sphere


def farthest_points(points: Points, count: int, start: int = 0) -> Int[np.ndarray, " count"]:
    """Indices of `count` points, each the farthest from those before it; equal distances go to the lowest index.

    Args:
        points: finite coordinates; distances are squared and compared in float32.
        count: at most the number of points.
        start: index of the first pick.

    In clouds whose coordinates repeat (lattices, duplicates) equal distances are the rule and the compiled kernel
    would break ties by its own order, so they take the NumPy path.
    """
    points = np.ascontiguousarray(points, dtype=np.float32)
    if len(points) >= _SMALL and count > 1 and not _is_lattice(points):
        position = _kernel_position(points, start)
        picked = fpsample.bucket_fps_kdline_sampling(points, count, h=_LEAF_LEVELS, start_idx=position)
        # the kernel reads `start_idx` in its own order; were the position wrong, its first pick would tell
        if picked[0] == start:
            return np.asarray(picked, dtype=np.int64)
    return farthest_points_numpy(points, count, start)


def farthest_points_numpy(points: Points, count: int, start: int = 0) -> Int[np.ndarray, " count"]:
    """The reference form of `farthest_points`, one vectorised pass over the cloud per pick."""
    x, y, z = np.ascontiguousarray(points.T, dtype=np.float32)
    nearest = np.full(len(x), np.inf, np.float32)
    picked = np.empty(count, np.int64)
    picked[0] = start
    for i in range(1, count):
        last = picked[i - 1]
        dx, dy, dz = x - x[last], y - y[last], z - z[last]
        np.minimum(nearest, dx * dx + dy * dy + dz * dz, out=nearest)
        picked[i] = nearest.argmax()
    return picked


def nearest_neighbours(
    points: Points, queries: Float[np.ndarray, "queries 3"], count: int
) -> Int[np.ndarray, "queries count"]:
    """Indices of the `count` nearest points of each query, nearest first, equally near ones by index.

    Args:
        count: at most the number of points.
    """
    # a tree split at midpoints is built in half the time, which a few hundred queries do not win back
    tree = cKDTree(points, balanced_tree=False, compact_nodes=False)
    distances, indices = tree.query(queries, k=count, workers=-1)
    distances, indices = distances.reshape(len(queries), count), indices.reshape(len(queries), count)
    if (distances[:, 1:] == distances[:, :-1]).any():
        indices = np.take_along_axis(indices, np.lexsort((indices, distances)), axis=1)
    nearest: Int[np.ndarray, "queries count"] = indices.astype(np.int64)
    return nearest


def neighbour_groups(points: Points, groups: int, size: int, start: int = 0) -> Int[np.ndarray, "groups size"]:
    """Farthest-point centres with their nearest neighbours, as indices; neighbour 0 is the centre itself."""
    centres = farthest_points(points, groups, start)
    members = nearest_neighbours(points, points[centres], size)
    # with duplicates another point can come before the centre: the centre takes its place at the front
    itself = members == centres[:, None]
    place = np.where(itself.any(axis=1), itself.argmax(axis=1), size - 1)
    rows = np.arange(groups)
    members[rows, place] = members[:, 0]
    members[:, 0] = centres
    return members


def rotation(angles: Float[np.ndarray, " 3"]) -> Float[np.ndarray, "3 3"]:
    """Rotation about x, then y, then z, by `angles` in radians."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    turned: NDArray[np.float64] = about_z @ about_y @ about_x
    return turned


def _is_lattice(points: Points) -> bool:
    ordered = np.sort(points, axis=0)
    repeats = (ordered[1:] == ordered[:-1]).mean(axis=0)
    return bool(repeats.max() > _LATTICE_SHARE)


def _kernel_position(points: Points, start: int) -> int:
    """Where the kernel's tree puts point `start`.

    fpsample 1.0 reorders the points while it builds its tree and only then looks up the start index, so the index it
    has to be given is the point's place after the reordering. This follows the point down the tree: split the widest
    axis at the float32 mean, exchange misplaced pairs from both ends.
    """
    columns, order, low = np.ascontiguousarray(points.T), np.arange(len(points)), 0
    position = start
    for _ in range(_LEAF_LEVELS):
        if len(order) == 1:
            break
        axis = int((columns.max(axis=1) - columns.min(axis=1)).argmax())
        values = columns[axis]
        left = values < np.add.accumulate(values)[-1] / np.float32(len(values))
        border = int(np.count_nonzero(left))
        swapped = np.arange(len(order))
        from_left, from_right = np.flatnonzero(~left[:border]), border + np.flatnonzero(left[border:])[::-1]
        swapped[from_left], swapped[from_right] = from_right, from_left
        border = min(max(border, 1), len(order) - 1)
        position = int(np.flatnonzero(order[swapped] == start)[0])
        half = swapped[:border] if position < border else swapped[border:]
        if position >= border:
            low, position = low + border, position - border
        columns, order = columns[:, half], order[half]
    return low + position
