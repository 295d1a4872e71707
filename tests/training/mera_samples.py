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
    """Every data set of `mera/paper.yaml`."""
    rng = np.random.default_rng(0)
    _pictures(root, rng)
    _videos(root, rng)
    _sounds(root, rng)
    _clouds(root, rng)


def _pictures(root: Path, rng: np.random.Generator) -> None:
    names = [f"COCO_train2014_{row:012d}.jpg" for row in range(SAMPLES)]
    for name in names:
        _put(root / "coco/train2014" / name, picture(rng))
    columns = {"filepath": ["train2014"] * SAMPLES, "sentids": [[1, 2]] * SAMPLES, "filename": names,
               "sentences": [_turned(row) for row in range(SAMPLES)], "cocoid": list(range(SAMPLES))}  # fmt: skip
    Dataset.from_dict(columns).to_parquet(root / "coco/train-00000-of-00001.parquet")
    answers = [["ball"] * 4 + ["red ball"] * 4 + ["cup"] * 2, ["cup"] * 10] * (SAMPLES // 2)
    columns = {"question_id": [str(row) for row in range(SAMPLES)],
               "image": [{"bytes": picture(rng), "path": "a.jpg"} for _ in range(SAMPLES)],
               "question": ["what is this ?"] * SAMPLES, "answers": answers}  # fmt: skip
    features = {"question_id": Value("string"), "image": Image(), "question": Value("string"),
                "answers": List(Value("string"))}  # fmt: skip
    (root / "ok-vqa").mkdir()
    Dataset.from_dict(columns, Features(features)).to_parquet(root / "ok-vqa/train-00000-of-00001.parquet")


def _videos(root: Path, rng: np.random.Generator) -> None:
    described, asked = [], []
    for row in range(3):
        _put(root / f"msvd/raw_videos/-4wsuPCjDBc_{row}.avi", clip(rng, "avi"))
        _put(root / f"msvd-qa/video/vid{row + 1}.avi", clip(rng, "avi"))
        described.append({"video_id": f"-4wsuPCjDBc_{row}", "caption": [*_turned(row)[:2], _turned(row)[0]]})
        asked.append({"answer": "ball", "id": row, "question": "what is this ?", "video_id": row + 1})
    _put(root / "msvd/msvd_train.json", json.dumps(described).encode())
    _put(root / "msvd-qa/train_qa.json", json.dumps(asked).encode())


def _sounds(root: Path, rng: np.random.Generator) -> None:
    columns = {"audiocap_id": list(range(SAMPLES)), "caption": [_turned(row)[0] for row in range(SAMPLES)],
               "audio": [{"bytes": sound(rng), "path": "a.flac"} for _ in range(SAMPLES)]}  # fmt: skip
    features = {"audiocap_id": Value("int32"), "caption": Value("string"), "audio": ENCODED}
    (root / "audiocaps").mkdir()
    stored = Dataset.from_dict(columns, Features(features)).cast_column("audio", Audio(decode=False))
    stored.to_parquet(root / "audiocaps/train-00000-of-00001.parquet")
    _put(root / "clotho-aqa/audio_files/rain, again.wav", sound(rng))
    rows = [("rain, again.wav", "is this red ?", answer, sure)
            for answer in ("yes", "none", "2") for sure in ("yes", "maybe", "no")]  # fmt: skip
    _table(root / "clotho-aqa/clotho_aqa_train.csv", ("file_name", "QuestionText", "answer", "confidence"), rows)


def _clouds(root: Path, rng: np.random.Generator) -> None:
    names = [f"{row:032x}" for row in range(SAMPLES)]
    (root / "cap3d/8192_npy").mkdir(parents=True)
    for name in names:
        np.save(root / f"cap3d/8192_npy/{name}_8192.npy", rng.random((64, 6), dtype=np.float32))
    captions = [(name, LONG if row % 3 == 0 else _turned(row)[0]) for row, name in enumerate(names)]
    _table(root / "cap3d/captions.csv", ("uid", "caption"), captions)
    asked = [(row, name, "what is this ?", "a cup", "a cup") for row, name in enumerate(names)]
    _table(root / "cap3d-qa/CAP3DQA_final.csv", ("", "sample_id", "question", "answer", "caption"), asked)


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
