"""A folder with the files that `mera/paper.yaml` reads: a few samples of each data set, in its published columns."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from datasets import Audio, Dataset, Features, Image, List, Value

from tests.training.samples import ENCODED, clip, picture, sound

SAMPLES = 6
CAPTIONS = ("a red ball and a blue cup", "this is a ball", "a cup", "a blue cup and a ball", "red and blue")
LONG = "a red ball " * 10  # 110 characters


def write_mera_data(root: Path) -> None:
    """Every data set of `mera/paper.yaml`, to learn from and to be tested on."""
    rng = np.random.default_rng(0)
    _pictures(root, rng, "train2014", coco="train", ok_vqa="train")
    _pictures(root, rng, "val2014", coco="test", ok_vqa="val2014")
    for split in ("train", "test"):
        _videos(root, rng, split)
        _sounds(root, rng, split)
    _clouds(root, rng, "a", "captions.csv", "CAP3DQA_final.csv")
    _clouds(root, rng, "b", "captions_test.csv", "CAP3DQA_test.csv")


def _pictures(root: Path, rng: np.random.Generator, folder: str, *, coco: str, ok_vqa: str) -> None:
    names = [f"COCO_{folder}_{row:012d}.jpg" for row in range(SAMPLES)]
    for name in names:
        _put(root / "coco" / folder / name, picture(rng))
    columns = {"filepath": [folder] * SAMPLES, "sentids": [[1, 2]] * SAMPLES, "filename": names,
               "sentences": [_turned(row) for row in range(SAMPLES)], "cocoid": list(range(SAMPLES))}  # fmt: skip
    Dataset.from_dict(columns).to_parquet(root / f"coco/{coco}-00000-of-00001.parquet")
    answers = [["ball"] * 4 + ["red ball"] * 4 + ["cup"] * 2, ["cup"] * 10] * (SAMPLES // 2)
    columns = {"question_id": [str(row) for row in range(SAMPLES)],
               "image": [{"bytes": picture(rng), "path": "a.jpg"} for _ in range(SAMPLES)],
               "question": ["what is this ?"] * SAMPLES, "answers": answers}  # fmt: skip
    features = {"question_id": Value("string"), "image": Image(), "question": Value("string"),
                "answers": List(Value("string"))}  # fmt: skip
    (root / "ok-vqa").mkdir(exist_ok=True)
    Dataset.from_dict(columns, Features(features)).to_parquet(root / f"ok-vqa/{ok_vqa}-00000-of-00001.parquet")


def _videos(root: Path, rng: np.random.Generator, split: str) -> None:
    described, asked, first = [], [], 1 if split == "train" else 1301
    for row in range(3):
        name = f"-4wsuPCjDBc_{first + row}"
        _put(root / f"msvd/raw_videos/{name}.avi", clip(rng, "avi"))
        _put(root / f"msvd-qa/video/vid{first + row}.avi", clip(rng, "avi"))
        described.append({"video_id": name, "caption": [*_turned(row)[:2], _turned(row)[0]]})
        asked.append({"answer": "ball", "id": row, "question": "what is this ?", "video_id": first + row})
    _put(root / f"msvd/msvd_{split}.json", json.dumps(described).encode())
    _put(root / f"msvd-qa/{split}_qa.json", json.dumps(asked).encode())


def _sounds(root: Path, rng: np.random.Generator, split: str) -> None:
    columns = {"audiocap_id": list(range(SAMPLES)), "caption": [_turned(row)[0] for row in range(SAMPLES)],
               "audio": [{"bytes": sound(rng), "path": "a.flac"} for _ in range(SAMPLES)]}  # fmt: skip
    features = {"audiocap_id": Value("int32"), "caption": Value("string"), "audio": ENCODED}
    (root / "audiocaps").mkdir(exist_ok=True)
    stored = Dataset.from_dict(columns, Features(features)).cast_column("audio", Audio(decode=False))
    stored.to_parquet(root / f"audiocaps/{split}-00000-of-00001.parquet")
    _put(root / "clotho-aqa/audio_files/rain, again.wav", sound(rng))
    rows = [("rain, again.wav", "is this red ?", answer, sure)
            for answer in ("yes", "none", "2") for sure in ("yes", "maybe", "no")]  # fmt: skip
    header = ("file_name", "QuestionText", "answer", "confidence")
    _table(root / f"clotho-aqa/clotho_aqa_{split}.csv", header, rows)


def _clouds(root: Path, rng: np.random.Generator, first: str, described: str, asked_in: str) -> None:
    names = [f"{first}{row:031x}" for row in range(SAMPLES)]
    (root / "cap3d/8192_npy").mkdir(parents=True, exist_ok=True)
    for name in names:
        np.save(root / f"cap3d/8192_npy/{name}_8192.npy", rng.random((64, 6), dtype=np.float32))
    captions = [(name, LONG if row % 3 == 0 else _turned(row)[0]) for row, name in enumerate(names)]
    _table(root / "cap3d" / described, ("uid", "caption"), captions)
    asked = [(row, name, "what is this ?", "a cup", "a cup") for row, name in enumerate(names)]
    _table(root / "cap3d-qa" / asked_in, ("", "sample_id", "question", "answer", "caption"), asked)


def _turned(row: int) -> list[str]:
    """All captions, another one first in every row."""
    return [CAPTIONS[(row + place) % len(CAPTIONS)] for place in range(len(CAPTIONS))]


def _put(path: Path, content: bytes) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)


def _table(path: Path, header: Sequence[str], rows: Sequence[Sequence[Any]]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("w", newline="", encoding="utf-8") as file:
        csv.writer(file).writerows([header, *rows])
