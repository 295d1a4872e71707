"""Column mapping on small parquet files with the columns of the public data sets that `paper.yaml` names."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, List, Value
from PIL import Image as PillowImage

from polysense.data import ColumnDataset, ColumnMapping
from polysense.errors import ConfigError, ManifestError, UnsafeFileError


def png(mode: str = "RGB") -> bytes:
    file = io.BytesIO()
    PillowImage.new(mode, (4, 4)).save(file, format="PNG")
    return file.getvalue()


def parquet(path: Path, rows: dict[str, Any], features: Features | None = None) -> str:
    Dataset.from_dict(rows, features=features).to_parquet(path)
    return str(path)


def test_imagenet_images_come_undecoded_with_class_names(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["tench", "goldfish"])})
    file = parquet(
        tmp_path / "imagenet.parquet", {"image": [{"bytes": png(), "path": "n1.JPEG"}] * 2, "label": [1, 0]}, features
    )
    data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, labels={"image": "label"}))
    assert len(data) == 2 and data.labels("image") == ["goldfish", "tench"]
    assert data[0].ref("image").source == png() and data[0].labels == {"image": "goldfish"}
    assert data[1].id == "1" and data.labels("audio") == [None, None]


def test_the_hidden_labels_of_a_test_split_are_no_labels(tmp_path: Path) -> None:
    features = Features({"image": Image(), "label": ClassLabel(names=["tench"])})
    file = parquet(tmp_path / "test.parquet", {"image": [{"bytes": png(), "path": None}], "label": [-1]}, features)
    data = ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}, labels={"image": "label"}))
    assert data[0].labels == {} and data.labels("image") == [None]


def test_shapenet_points_come_as_arrays_with_captions(tmp_path: Path) -> None:
    points = np.arange(24, dtype=np.float32).reshape(2, 4, 3)
    features = Features(
        {"id": Value("string"), "points": Array2D((4, 3), "float32"), "image": Image(), "category": Value("string"),
         "captions": List(Value("string"))}
    )  # fmt: skip
    rows = {"id": ["x", "y"], "points": list(points), "image": [{"bytes": png(), "path": None}] * 2,
            "category": ["chair", "lamp"], "captions": [["a chair", "one chair"], []]}  # fmt: skip
    mapping = ColumnMapping(media={"point_cloud": "points", "image": "image"}, labels={"point_cloud": "category"},
                            captions={"point_cloud": "captions"}, id="id")  # fmt: skip
    data = ColumnDataset.from_parquet(parquet(tmp_path / "shapenet.parquet", rows, features), mapping)
    sample = data[1]
    assert sample.id == "y" and sample.labels == {"point_cloud": "lamp"} and sample.captions == {"point_cloud": ()}
    cloud = sample.ref("point_cloud").source
    assert isinstance(cloud, np.ndarray) and np.array_equal(cloud, points[1])
    assert data[0].captions["point_cloud"] == ("a chair", "one chair")


def test_point_lists_of_any_length_come_as_arrays(tmp_path: Path) -> None:
    rows = {"points": [[[0.0, 1.0, 2.0]] * 5, [[0.0, 1.0, 2.0]] * 2]}
    data = ColumnDataset.from_parquet(
        parquet(tmp_path / "p.parquet", rows), ColumnMapping(media={"point_cloud": "points"})
    )
    clouds = [data[index].ref("point_cloud").source for index in range(2)]
    assert [cloud.shape for cloud in clouds if isinstance(cloud, np.ndarray)] == [(5, 3), (2, 3)]


def test_sun_rgbd_depth_carries_its_camera(tmp_path: Path) -> None:
    features = Features(
        {"image": Image(), "depth": Image(), "intrinsics": List(Value("float64")), "sensor": Value("string"),
         "scene": Value("string")}
    )  # fmt: skip
    rows = {"image": [{"bytes": png(), "path": None}] * 2, "depth": [{"bytes": png("I;16"), "path": None}] * 2,
            "intrinsics": [[529.5, 0, 365.0, 0, 529.5, 265.0, 0, 0, 1]] * 2, "sensor": ["kv2", "other"],
            "scene": ["bedroom"] * 2}  # fmt: skip
    mapping = ColumnMapping.from_dict(
        {
            "media": {"image": "image", "depth": "depth"},
            "labels": {"depth": "scene"},
            "facts": {
                "depth": {
                    "intrinsics": "intrinsics",
                    "baseline": {"column": "sensor", "values": {"kv1": 0.075, "kv2": 0.075, "xtion": 0.095}},
                    "encoding": {"value": "sunrgbd"},
                }
            },
        }
    )
    data = ColumnDataset.from_parquet(parquet(tmp_path / "sun.parquet", rows, features), mapping)
    depth = data[0].ref("depth")
    assert depth.source == png("I;16")
    assert depth.facts["intrinsics"][0] == 529.5 and depth.facts["baseline"] == 0.075
    assert depth.facts["encoding"] == "sunrgbd" and data[0].ref("image").facts == {}
    with pytest.raises(ManifestError, match="row 1: fact 'baseline' does not translate 'other'"):
        data[1]


def test_audioset_clips_come_as_bytes_with_all_their_labels(tmp_path: Path) -> None:
    rows = {
        "video_id": ["-0RWZT-miFs"],
        "audio": [{"bytes": b"fLaC...", "path": "a.flac"}],
        "labels": [["/m/03v3yw", "/m/0k4j"]],
        "human_labels": [["Keys jangling", "Car"]],
    }
    stored = Dataset.from_dict(rows).cast_column("audio", Audio(decode=False))
    stored.to_parquet(tmp_path / "audioset.parquet")
    mapping = ColumnMapping(media={"audio": "audio"}, labels={"audio": "human_labels"}, id="video_id")
    data = ColumnDataset.from_parquet(str(tmp_path / "audioset.parquet"), mapping)
    assert data[0].ref("audio").source == b"fLaC..." and data[0].id == "-0RWZT-miFs"
    assert data[0].labels == {"audio": "Keys jangling"} and data[0].extra["human_labels"] == ["Keys jangling", "Car"]
    assert data.labels("audio") == ["Keys jangling"]


def test_vggsound_clips_serve_audio_and_video_from_one_column(tmp_path: Path) -> None:
    rows = {"video": [b"....ftypisom"], "label": ["dog barking"]}
    mapping = ColumnMapping(media={"audio": "video", "video": "video"}, labels={"audio": "label", "video": "label"})
    data = ColumnDataset.from_parquet(parquet(tmp_path / "vggsound.parquet", rows), mapping)
    assert data[0].ref("audio").source == data[0].ref("video").source == b"....ftypisom"
    assert data[0].labels == {"audio": "dog barking", "video": "dog barking"}


def test_paths_in_rows_are_refused_unless_a_root_holds_them(tmp_path: Path) -> None:
    (tmp_path / "media").mkdir()
    (tmp_path / "media/a.png").write_bytes(png())
    file = parquet(tmp_path / "p.parquet", {"image": ["a.png", "/etc/passwd", "../p.parquet"]})
    mapping = ColumnMapping(media={"image": "image"})
    with pytest.raises(UnsafeFileError, match=r"row 0, image: the row points to the file 'a\.png'"):
        ColumnDataset.from_parquet(file, mapping)[0]
    data = ColumnDataset.from_parquet(file, mapping, root=tmp_path / "media")
    assert data[0].ref("image").source == (tmp_path / "media/a.png").resolve()
    for index in (1, 2):
        with pytest.raises(UnsafeFileError, match="leads outside"):
            data[index]


def test_a_row_without_media_lacks_the_modality(tmp_path: Path) -> None:
    file = parquet(tmp_path / "p.parquet", {"image": [png(), None]})
    assert "image" not in ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "image"}))[1].media


def test_mappings_are_checked_before_anything_is_read(tmp_path: Path) -> None:
    file = parquet(tmp_path / "p.parquet", {"image": [png()]})
    with pytest.raises(ConfigError, match=r"no columns \['picture'\]"):
        ColumnDataset.from_parquet(file, ColumnMapping(media={"image": "picture"}))
    with pytest.raises(ConfigError, match=r"unknown keys \['label'\]"):
        ColumnMapping.from_dict({"media": {"image": "image"}, "label": {}})
    with pytest.raises(ConfigError, match="names no media"):
        ColumnMapping(media={})
    with pytest.raises(ConfigError, match="fact 'baseline'"):
        ColumnMapping(media={"depth": "d"}, facts={"depth": {"baseline": {"value": 1, "column": "c"}}})
