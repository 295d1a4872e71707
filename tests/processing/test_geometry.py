from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from polysense.processing import geometry


def _cloud(count: int, seed: int = 0) -> geometry.Points:
    return np.random.default_rng(seed).standard_normal((count, 3)).astype(np.float32)


def test_the_unit_sphere_is_centred_and_touched() -> None:
    sphere = geometry.unit_sphere(_cloud(500) * 7 + 100)
    assert np.abs(sphere.mean(axis=0)).max() < 1e-5
    assert np.linalg.norm(sphere, axis=1).max() == pytest.approx(1, abs=1e-6)
    assert geometry.unit_sphere(np.full((5, 3), 3, np.float32)).tolist() == [[0, 0, 0]] * 5


def test_farthest_points_by_hand() -> None:
    """From 0 on a line of 0, 1, 2, 10: 10, then 2 (distance 2), then 1."""
    line = np.array([[0, 0, 0], [1, 0, 0], [2, 0, 0], [10, 0, 0]], np.float32)
    assert geometry.farthest_points(line, 4).tolist() == [0, 3, 2, 1]
    assert geometry.farthest_points(line, 2, start=2).tolist() == [2, 3]


def test_equal_distances_go_to_the_lowest_index() -> None:
    square = np.array([[0, 0, 0], [1, 0, 0], [-1, 0, 0], [0, 1, 0]], np.float32)
    assert geometry.farthest_points_numpy(square, 4).tolist() == [0, 1, 2, 3]


@settings(max_examples=40, deadline=None)
@given(st.integers(256, 3000), st.integers(0, 2**31), st.sampled_from(["normal", "flat", "lattice", "doubled"]))
def test_compiled_kernel_and_numpy_pick_the_same_points(count: int, seed: int, kind: str) -> None:
    rng = np.random.default_rng(seed)
    points = _cloud(count, seed)
    if kind == "flat":
        points[:, 2] = 0
    elif kind == "lattice":
        points = np.round(points * 4).astype(np.float32)
    elif kind == "doubled":
        points = np.repeat(points[: count // 2], 2, axis=0)
    start = int(rng.integers(len(points)))
    ours = geometry.farthest_points(points, 64, start)
    assert ours.tolist() == geometry.farthest_points_numpy(points, 64, start).tolist()


def test_the_kernel_itself_runs_where_it_may(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were every cloud taken for a lattice, NumPy would silently do all the work."""
    monkeypatch.setattr(geometry, "farthest_points_numpy", None)
    for seed in range(20):
        geometry.farthest_points(_cloud(300 + 50 * seed, seed), 10, start=seed)


def test_a_platform_without_the_kernel_picks_the_same(monkeypatch: pytest.MonkeyPatch) -> None:
    points = _cloud(2000)
    expected = geometry.farthest_points(points, 40, 3)
    monkeypatch.setattr(geometry, "_kernel", None)
    assert np.array_equal(geometry.farthest_points(points, 40, 3), expected)


def test_clouds_side_by_side_are_sampled_like_each_alone() -> None:
    """A lattice among them takes another path, and its place among the others."""
    clouds = np.stack([_cloud(400, seed) for seed in range(4)])
    clouds[2] = np.round(clouds[2] * 4)
    together = geometry.farthest_points(clouds.reshape(2, 2, 400, 3), 20, 7)
    assert together.shape == (2, 2, 20)
    alone = np.stack([geometry.farthest_points_numpy(cloud, 20, 7) for cloud in clouds])
    assert np.array_equal(together.reshape(4, 20), alone)


@pytest.mark.parametrize(
    "doubled", [lambda points: np.repeat(points, 2, axis=0), lambda points: np.tile(points, (2, 1))]
)
def test_a_glance_shows_doubled_points(doubled: Callable[[geometry.Points], geometry.Points]) -> None:
    points = doubled(_cloud(20_000))
    assert np.array_equal(geometry.farthest_points(points, 30), geometry.farthest_points_numpy(points, 30))


def test_neighbours_agree_with_all_distances() -> None:
    points = _cloud(400)
    queries = points[:30]
    distances = torch.cdist(torch.from_numpy(queries), torch.from_numpy(points))
    expected = distances.topk(8, largest=False).indices
    assert geometry.nearest_neighbours(points, queries, 8).tolist() == expected.tolist()
    assert geometry.nearest_neighbours(points, queries, 1).shape == (30, 1)


def test_the_centre_comes_first_in_its_group_even_among_duplicates() -> None:
    points = np.repeat(_cloud(60), 5, axis=0)
    groups = geometry.neighbour_groups(points, 40, 8)
    assert np.array_equal(groups[:, 0], geometry.farthest_points(points, 40))
    assert all(len(set(row)) == 8 for row in groups.tolist())


def test_groups_smaller_than_the_number_of_duplicates_keep_their_centre() -> None:
    points = np.zeros((300, 3), np.float32)
    points[0] = 1
    groups = geometry.neighbour_groups(points, 3, 2, start=250)
    assert groups[:, 0].tolist() == geometry.farthest_points(points, 3, 250).tolist()


def test_a_quarter_turn_about_each_axis() -> None:
    quarter = np.pi / 2
    turned = [geometry.rotation(np.eye(3)[axis] * quarter) @ np.eye(3)[(axis + 1) % 3] for axis in range(3)]
    assert np.allclose(turned, [np.eye(3)[(axis + 2) % 3] for axis in range(3)])
