"""A folder with the files that `comet/pairs-paper.yaml` reads: a few pairs of each data set, of published sizes."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import torch
from datasets import Dataset
from transformers import BertConfig, BertModel

from polysense.testing import tiny_tokenizer

WIDTH = 16  # of the small BERT
ROWS = 3
SHAPES = {"video": (10, 7, 7, 512), "audio": (10, 128), "image": (10, 7, 7, 512), "speech": (10, 128)}
CAPTION = "a red ball and a blue cup"


def features(path: Path, *shape: int) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    np.save(path, np.random.default_rng(list(path.name.encode())).random(shape, np.float32))


def write_pairs(root: Path) -> None:
    """Every data set of `pairs-paper.yaml`; of VATEX one film was not to be had."""
    names = [f"Ptf_2VRj-V0_{row:06d}_{row + 10:06d}" for row in range(ROWS)]
    for name in names[1:]:
        features(root / f"vatex/vgg19/{name}.npy", 10, 7, 7, 512)
    described = [{"videoID": name, "enCap": [CAPTION, "a ball"], "chCap": ["x"]} for name in names]
    (root / "vatex/vatex_training_v1.0.json").write_text(json.dumps(described))
    for row in range(ROWS):
        features(root / f"audiocaps/vggish/{91139 + row}.npy", 9, 128)
        features(root / f"flickr30k/vgg19/{row}.npy", 7, 7, 512)
        features(root / f"libritts/vggish/103_1240_00000{row}.npy", 14, 128)
    with (root / "audiocaps/train.csv").open("w", newline="") as file:
        rows = [(91139 + row, "r1nicOVtvkQ", 130, CAPTION) for row in range(ROWS)]
        csv.writer(file).writerows([("audiocap_id", "youtube_id", "start_time", "caption"), *rows])
    Dataset.from_dict({"img_id": [str(row) for row in range(ROWS)], "caption": [[CAPTION] * 5] * ROWS}).to_parquet(
        root / "flickr30k/test-00000-of-00001.parquet"
    )
    spoken = {"id": [f"103_1240_00000{row}" for row in range(ROWS)], "text_normalized": [CAPTION] * ROWS}
    Dataset.from_dict(spoken).to_parquet(root / "libritts/train.clean.100-00000-of-00001.parquet")


def write_bert(folder: Path) -> Path:
    """A small untrained BERT in place of the published one."""
    config = BertConfig(vocab_size=96, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1,
                        num_attention_heads=2, max_position_embeddings=32)  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
