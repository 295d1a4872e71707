from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import plyfile
import pypcd4
import pytest
import torch

from polysense.errors import ConfigError, MediaError
from polysense.modality import get_modality
from polysense.processing import PointCloudProcessor, geometry, processor_for

COLUMNS = [("x", "f4"), ("y", "f4"), ("z", "f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")]


def _processor(channels: int = 3, **options: Any) -> PointCloudProcessor:
    spec = replace(get_modality("point_cloud"), channels=channels)
    processor = processor_for(spec, 64, **{"num_groups": 16, "group_size": 8, **options})
    assert isinstance(processor, PointCloudProcessor)
    return processor


def _cloud(count: int = 200, channels: int = 3) -> np.ndarray:
    return np.random.default_rng(0).random((count, channels)).astype(np.float32)


def _vertices(cloud: np.ndarray) -> np.ndarray:
    table = np.zeros(len(cloud), dtype=COLUMNS)
    for column, name in enumerate("xyz"):
        table[name] = cloud[:, column]
    table["red"], table["blue"] = 255, np.arange(len(cloud)) % 256
    return table


@pytest.mark.parametrize("text", [False, True])
def test_ply_files_give_coordinates_and_colours(tmp_path: Path, text: bool) -> None:
    cloud = _cloud()
    vertices = plyfile.PlyElement.describe(_vertices(cloud), "vertex")
    plyfile.PlyData([vertices], text=text).write(tmp_path / "a.ply")
    assert np.allclose(_processor().load(tmp_path / "a.ply"), cloud)
    coloured = _processor(6).load(tmp_path / "a.ply")
    assert np.allclose(coloured[:, 3:], np.stack([np.ones(200), np.zeros(200), np.arange(200) / 255], axis=1))
    assert np.allclose(_processor().load((tmp_path / "a.ply").read_bytes()), cloud)


@pytest.mark.parametrize("encoding", ["ascii", "binary", "binary_compressed"])
def test_pcd_files_give_coordinates_and_packed_colours(tmp_path: Path, encoding: str) -> None:
    cloud = _cloud()
    colours = np.tile(np.array([255, 51, 0], np.uint8), (200, 1))
    packed = pypcd4.PointCloud.encode_rgb(colours)
    points = pypcd4.PointCloud.from_xyzrgb_points(np.column_stack([cloud, packed]).astype(np.float32))
    points.save(tmp_path / "a.pcd", pypcd4.Encoding(encoding))
    loaded = _processor(6).load(tmp_path / "a.pcd")
    assert np.allclose(loaded[:, :3], cloud, atol=1e-6)
    if encoding != "ascii":  # pypcd4 writes too few digits for a colour packed into a float
        assert np.allclose(loaded[:, 3:], [1, 0.2, 0])


def test_meshes_give_their_vertices(tmp_path: Path) -> None:
    cloud = _cloud(40)
    faces = np.array([([0, 1, 2],)] * 30, dtype=[("vertex_indices", "i4", (3,))])
    elements = [plyfile.PlyElement.describe(_vertices(cloud), "vertex"), plyfile.PlyElement.describe(faces, "face")]
    plyfile.PlyData(elements).write(tmp_path / "a.ply")
    assert np.allclose(_processor().load(tmp_path / "a.ply"), cloud)


def test_groups_lie_on_the_unit_sphere_with_the_centre_first(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", _cloud(300) * 9)
    groups = _processor()([tmp_path / "a.npy"])["point_cloud_values"]
    assert groups.shape == (1, 16, 8, 3)
    distances = (groups[0] - groups[0, :, :1]).norm(dim=-1)
    assert torch.all(distances.diff(dim=1) >= 0)
    assert groups[0, 0, 0].tolist() == pytest.approx(geometry.unit_sphere(_cloud(300) * 9)[0].tolist())


def test_colours_follow_their_points() -> None:
    cloud = _cloud(100, 6)
    cloud[:, 3:] = geometry.unit_sphere(cloud[:, :3]) / 2 + 0.5
    groups = _processor(6)([cloud])["point_cloud_values"][0]
    torch.testing.assert_close(groups[..., 3:], groups[..., :3] / 2 + 0.5)


def test_clouds_are_thinned_out_to_the_asked_number() -> None:
    processor = _processor(num_points=50)
    for rng in (None, np.random.default_rng(0)):
        values = processor.features(_cloud(400), rng)
        assert len({tuple(point) for point in values.reshape(-1, 3).tolist()}) <= 50


def test_clouds_smaller_than_the_groups_repeat_their_points() -> None:
    values = _processor(num_groups=60, min_points=5).features(_cloud(6))
    assert values.shape == (60, 8, 3)
    assert len({tuple(point) for point in values.reshape(-1, 3).tolist()}) == 6


def test_augmentation_is_decided_by_the_generator_and_keeps_within_its_ranges() -> None:
    processor = _processor(dropout=0.5, shift=0.0, scale_range=(2, 2), jitter_angle=0.0)
    cloud = _cloud()
    first, again = (processor.features(cloud, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first, again)
    radius = torch.from_numpy(np.linalg.norm(geometry.unit_sphere(cloud), axis=1))
    drawn = torch.unique(first.reshape(-1, 3), dim=0).norm(dim=1)
    assert (drawn[:, None] - 2 * radius).abs().min(dim=1).values.max() < 1e-5
    heights = torch.from_numpy(2 * geometry.unit_sphere(cloud)[:, 1])
    assert (first[..., 1].reshape(-1, 1) - heights).abs().min(dim=1).values.max() < 1e-5  # turned about y only


@pytest.mark.parametrize(
    ("cloud", "reason"),
    [
        (_cloud(1), "has 1 points, fewer than the 32"),
        (np.ones((50, 3)), "all its points in one place"),
        (np.where(np.arange(150).reshape(50, 3) == 7, np.nan, 1.0), "has 1 points that are not finite"),
        (np.full((50, 3), 1e300), "50 points that are not finite"),
        (np.ones((50, 4)), r"shape \(50, 4\) instead of \(points, 3\) or \(points, 6\)"),
        (np.full((50, 3), "a"), "values of type"),
    ],
)
def test_unusable_clouds_are_refused(cloud: np.ndarray, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        _processor().load(cloud)


def test_colours_that_are_missing_or_not_scaled_are_named() -> None:
    with pytest.raises(MediaError, match=r"instead of \(points, 6\)"):
        _processor(6).load(_cloud())
    with pytest.raises(MediaError, match="Divide 8-bit colours by 255"):
        _processor(6).load(_cloud(50, 6) * 255)


def test_options_are_checked() -> None:
    wrong: dict[str, Any] = {"num_groups": 0, "group_size": 9999, "dropout": 1.0, "up_axis": 3, "shift": -1}
    for option, value in wrong.items():
        with pytest.raises(ConfigError, match=option):
            _processor(**{option: value})
    with pytest.raises(ConfigError, match="channels of the point_cloud processor must be 3"):
        _processor(4)
