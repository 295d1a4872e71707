"""Farthest-point sampling, nearest neighbours and the unit sphere, on single clouds.

Farthest-point sampling runs in the compiled bucket kd-tree of torch-quickfps (Han et al. 2023, "QuickFPS") where that
is exact, and in NumPy otherwise; both give the same indices from the same start. The kernel leaves the interpreter
free, so that the loader's threads prepare clouds side by side.
"""

from __future__ import annotations

import importlib
from functools import lru_cache
from importlib.util import find_spec
from math import isqrt
from types import ModuleType

import numpy as np
import torch
from jaxtyping import Float, Int
from numpy.typing import NDArray
from scipy.spatial import cKDTree

Points = Float[np.ndarray, "points 3"]

_SMALL = 256  # points below which NumPy is as quick as building a tree
_LEAF_LEVELS = 5  # height of the bucket tree; 2 ** 5 buckets suit some thousand points
_LEAF = 24  # points in a leaf of the tree of neighbours
_LATTICE_SHARE = 0.5  # share of repeated coordinates above which equal distances are the rule
_GLANCE = 8  # times the root of the number of points: as many show some thirty pairs where every point is doubled

_kernel: ModuleType | None = importlib.import_module("torch_quickfps") if find_spec("torch_quickfps") else None
"""There is none for some platforms (see pyproject.toml)."""


def unit_sphere(points: Points) -> Points:
    """Centre the cloud on its mean and scale it so that the farthest point has distance 1.

    A cloud whose points all coincide has no scale; it is centred only.
    """
    centred = points - points.mean(axis=0, dtype=np.float64)
    radius = np.sqrt((centred**2).sum(axis=1).max())
    sphere: Points = (centred / radius if radius > 0 else centred).astype(np.float32)
    return sphere


def farthest_points(
    points: Float[np.ndarray, "*clouds points 3"], count: int, start: int = 0
) -> Int[np.ndarray, "*clouds count"]:
    """Indices of `count` points, each the farthest from those before it; equal distances go to the lowest index.

    Several clouds of one size are sampled side by side.

    Args:
        points: finite coordinates; distances are squared and compared in float32.
        count: at most the number of points.
        start: index of the first pick.

    In clouds whose coordinates repeat (lattices, duplicates) equal distances are the rule and the compiled kernel
    would break ties by its own order, so they take the NumPy path.
    """
    sizes = points.shape[-2:]
    clouds = np.ascontiguousarray(points, dtype=np.float32).reshape(-1, *sizes)
    picked = np.empty((len(clouds), count), np.int64)
    slow = np.array([_kernel is None or sizes[0] < _SMALL or _is_lattice(cloud) for cloud in clouds])
    if _kernel is not None and not slow.all():
        quick = torch.from_numpy(clouds if not slow.any() else clouds[~slow])
        picked[~slow] = _kernel.sample_idx(quick, count, h=_LEAF_LEVELS, start_idx=start).numpy()
    for row in np.flatnonzero(slow):
        picked[row] = farthest_points_numpy(clouds[row], count, start)
    return picked.reshape(*points.shape[:-2], count)


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
    # a tree split at midpoints is built in half the time, which a few hundred queries do not win back; leaves of about
    # as many points as are looked for save steps through the tree
    tree = cKDTree(points, leafsize=_LEAF, balanced_tree=False, compact_nodes=False)
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
    """Whether coordinates repeat so often that equal distances are the rule; most clouds show at a glance that not."""
    return _repeats(points[_glance(len(points))]) > 0 and _repeats(points) > _LATTICE_SHARE


def _repeats(points: Points) -> float:
    """Largest share of an axis' coordinates that another point has too."""
    ordered = np.sort(points.T, axis=1)
    return float((ordered[:, 1:] == ordered[:, :-1]).mean(axis=1).max())


@lru_cache(maxsize=64)
def _glance(count: int) -> Int[np.ndarray, " some"]:
    """Places of a few points: drawn, since repetitions may have any period."""
    return np.random.default_rng(0).permutation(count)[: _GLANCE * isqrt(count)]
