"""The files that `comet/pairs-paper.yaml` and `downstream-paper.yaml` read: a few samples each, of published sizes."""

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
AVE = """Male speech, man speaking&aa&good&0&10
Bark&bb&good&2&5
Church bell&cc&good&0&9
"""
AVVP = """filename\tonset\toffset\tevent_labels
x_0_10\t0\t8\tSpeech
x_0_10\t5\t10\tDog
y_3_13\t1\t4\tBlender
"""


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


def write_downstream(root: Path) -> None:
    """Every data set of `downstream-paper.yaml`."""

    def both(folder: str, *names: str) -> None:
        for name in names:
            features(root / f"{folder}/vgg19/{name}.npy", 10, 7, 7, 512)
            features(root / f"{folder}/vggish/{name}.npy", 10, 128)

    both("AVE_Dataset", "aa", "bb", "cc")
    (root / "AVE_Dataset/trainSet.txt").write_text("Category&VideoID&Quality&StartTime&EndTime\n" + AVE)
    (root / "AVE_Dataset/testSet.txt").write_text(AVE)
    both("AVVP", "x_0_10", "y_3_13")
    for sense in ("audio", "visual"):
        (root / f"AVVP/AVVP_eval_{sense}.csv").write_text(AVVP)
    (root / "AVVP/AVVP_val_pd.csv").write_text("filename\tevent_labels\nx_0_10\tSpeech,Dog\n")
    (root / "AVVP/AVVP_test_pd.csv").write_text("filename\tevent_labels\ny_3_13\tBlender\n")
    both("msvd", "v1", "v2")
    (root / "msvd/test.csv").write_text("video_name,caption\nv1,a cat sleeps\nv2,a man sings\n")
    names = ",".join(f"caption_{number}" for number in range(1, 6))
    texts = [",".join(f"sound {row} {number}" for number in range(5)) for row in range(3)]
    rows = "".join(f"{row}.wav,{text}\n" for row, text in enumerate(texts))
    both("clotho", "0", "1", "2")
    (root / "clotho/clotho_captions_evaluation.csv").write_text(f"file_name,{names}\n{rows}")
    for name in ("11", "22"):
        features(root / f"flickr-sound/vgg19/{name}.npy", 7, 7, 512)
        features(root / f"flickr-sound/vggish/{name}.npy", 10, 128)
    (root / "flickr-sound/test.csv").write_text("filename\n11.wav\n22.wav\n")
    for name in ("a", "b"):
        features(root / f"coco/vgg19/{name}.npy", 7, 7, 512)
    Dataset.from_dict({"filename": ["a.jpg", "b.jpg"], "sentences": [["one", "two"], ["three", "four"]]}).to_parquet(
        root / "coco/test-0.parquet"
    )
    both("valor", "p_30.000_40.000", "q_30.000_40.000")
    described = [{"video_id": f"{name}_30.000_40.000", "desc": CAPTION} for name in ("p", "q")]
    (root / "valor/desc_test.json").write_text(json.dumps(described))


def write_bert(folder: Path) -> Path:
    """A small untrained BERT in place of the published one."""
    config = BertConfig(vocab_size=96, hidden_size=WIDTH, intermediate_size=16, num_hidden_layers=1,
                        num_attention_heads=2, max_position_embeddings=32)  # fmt: skip
    torch.manual_seed(0)
    BertModel(config).save_pretrained(folder)
    tiny_tokenizer().save_pretrained(folder)
    return folder
