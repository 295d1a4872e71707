"""A folder with the parquet files that `paper.yaml` reads: a few samples of each data set, in its columns."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from datasets import Array2D, Audio, ClassLabel, Dataset, Features, Image, List, Value
from numpy.typing import NDArray
from PIL import Image as Picture

POINTS = 256
ENCODED = {"bytes": Value("binary"), "path": Value("string")}
SENSORS = ("kv1", "kv2", "realsense", "xtion")


def write_paper_data(root: Path, rows: int = 6) -> None:
    """Every data set of `paper.yaml`, media as bytes in the rows."""
    rng = np.random.default_rng(0)

    def each(make: Callable[[np.random.Generator], bytes], name: str) -> list[dict[str, Any]]:
        return [{"bytes": make(rng), "path": name} for _ in range(rows)]

    def put(name: str, columns: dict[str, Any], features: dict[str, Any]) -> None:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        # encoding a sound would ask for torchcodec: write its bytes, and say afterwards that they are a sound
        sounds = [key for key, feature in features.items() if isinstance(feature, Audio)]
        stored = {key: ENCODED if key in sounds else feature for key, feature in features.items()}
        dataset = Dataset.from_dict(columns, features=Features(stored))
        for key in sounds:
            dataset = dataset.cast_column(key, Audio(decode=False))
        dataset.to_parquet(root / name)

    for split in ("train", "validation"):
        names = ["tench, Tinca tinca", "goldfish", "great white shark"]
        put(f"imagenet-1k/data/{split}-00000-of-00001.parquet",
            {"image": each(picture, "n01440764_10026.JPEG"), "label": [row % 3 for row in range(rows)]},
            {"image": Image(), "label": ClassLabel(names=names)})  # fmt: skip
    clouds = rng.normal(size=(rows, POINTS, 3)).astype(np.float32)
    categories = [["chair", "lamp", "table"][row % 3] for row in range(rows)]
    cloud = {"points": Array2D((POINTS, 3), "float32"), "category": Value("string")}
    put("shapenet/train-0.parquet", {"points": clouds, "category": categories, "image": each(picture, "view.png")},
        {**cloud, "image": Image()})  # fmt: skip
    put("modelnet40/test-0.parquet", {"points": clouds, "category": categories}, cloud)
    for split in ("train", "test"):
        put(f"sun-rgbd/{split}-0.parquet",
            {"image": each(picture, "a.jpg"), "depth": each(depth, "a.png"),
             "intrinsics": [[529.5, 0.0, 365.0, 0.0, 529.5, 265.0, 0.0, 0.0, 1.0]] * rows,
             "sensor": [SENSORS[row % 4] for row in range(rows)],
             "scene": [["office", "kitchen", "living room"][row % 3] for row in range(rows)]},
            {"image": Image(), "depth": Image(), "intrinsics": List(Value("float64")), "sensor": Value("string"),
             "scene": Value("string")})  # fmt: skip
    clips: dict[str, Any] = {"audio": each(sound, "a.flac"), "frame": each(picture, "a.jpg"),
                             "video": [clip(rng) for _ in range(rows)]}  # fmt: skip
    kinds = {"audio": Audio(), "frame": Image(), "video": Value("binary")}
    labels = [[["Speech"], ["Dog", "Bark"], ["Music", "Guitar", "Speech"]][row % 3] for row in range(rows)]
    put("audioset/train-0.parquet", {**clips, "video_id": [f"id{row}" for row in range(rows)], "human_labels": labels},
        {**kinds, "video_id": Value("string"), "human_labels": List(Value("string"))})  # fmt: skip
    for split in ("train", "test"):
        put(f"vggsound/{split}-0.parquet", {**clips, "label": ["dog barking", "sea waves"] * (rows // 2)},
            {**kinds, "label": Value("string")})  # fmt: skip
    put("esc50/data/train-0.parquet", {"audio": each(sound, "1-1-A-0.wav"), "category": ["dog", "rain"] * (rows // 2)},
        {"audio": Audio(), "category": Value("string")})  # fmt: skip


def picture(rng: np.random.Generator) -> bytes:
    return _saved(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8))


def depth(rng: np.random.Generator) -> bytes:
    """Millimetres as SUN RGB-D stores them: rotated left by three bits."""
    millimetres = rng.integers(500, 6000, (48, 64)).astype(np.uint16)
    return _saved((millimetres << 3) | (millimetres >> 13))


def sound(rng: np.random.Generator) -> bytes:
    """Two channels at 44.1 kHz, as on the Hub: mixed down and resampled by the processor."""
    file = io.BytesIO()
    soundfile.write(file, rng.normal(scale=0.1, size=(22_050, 2)), 44_100, format="FLAC")
    return file.getvalue()


def clip(rng: np.random.Generator, container_format: str = "mp4") -> bytes:
    file = io.BytesIO()
    with av.open(file, "w", format=container_format) as container:
        stream = container.add_stream("mpeg4", rate=4)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        for _ in range(4):
            frame = av.VideoFrame.from_ndarray(rng.integers(0, 256, (48, 64, 3), dtype=np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return file.getvalue()


def _saved(pixels: NDArray[Any]) -> bytes:
    file = io.BytesIO()
    Picture.fromarray(pixels).save(file, format="PNG")
    return file.getvalue()
