"""A whole tiny run of COMET's recipe on disk: pairs of stored features and sentences, an untrained BERT, a config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml
from transformers import BertConfig, BertModel

from polysense.testing.tiny import tiny_tokenizer

TIME, SAMPLES, TESTS = 4, 12, 6
STEP_SIZES = {"video": (4, 4, 3), "audio": (6,)}
"""Sizes of one second of each sense but text: maps and vectors."""


def tiny_comet_recipe(
    folder: Path, *, steps: int = 3, batch_size: int = 4, loop: Mapping[str, Any] | None = None
) -> Path:
    """Write everything that a run needs; the config's path is returned, and its `data_root` is `folder`.

    Two stages, films and then sounds, each with text; vCLUB, replay with a frozen teacher, growth, EWC and restarts
    all take part, and the second stage is scored on retrieval.

    Args:
        steps: optimiser steps of both stages.
        batch_size: samples per step and process.
        loop: fields of `LoopConfig` to change.
    """
    folder.mkdir(parents=True, exist_ok=True)
    bert = BertConfig(vocab_size=96, hidden_size=8, intermediate_size=8, num_hidden_layers=1, num_attention_heads=2,
                      max_position_embeddings=16)  # fmt: skip
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        BertModel(bert).save_pretrained(folder / "words")
    tiny_tokenizer().save_pretrained(folder / "words")
    for sense in STEP_SIZES:
        for split, count in (("train", SAMPLES), ("test", TESTS)):
            rows = [json.dumps(_sample(folder, sense, split, index)) for index in range(count)]
            (folder / f"{sense}-{split}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")
    config = {
        "data": _pairs(folder, batch_size), "codes": 32, "rows": 16, "fisher_batches": 2,
        "stages": [{"pairs": [f"{sense}-text"]} for sense in STEP_SIZES],
        "model": {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 2,
                  "dropout": 0.0, "context_layers": 1, "num_experts": 2, "restart_after": 1},
        "loop": {"steps": steps, "learning_rate": 0.01, "save_every": 1, "log_every": 1, "loader_workers": 0,
                 **(loop or {})},
        "evaluation": {"retrieval": {"test": {"senses": ["audio", "text"], "captions": 1,
                                              "data": {"manifest": "audio-test.jsonl"}}}},
    }  # fmt: skip
    path = folder / "tiny-comet.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _pairs(folder: Path, batch_size: int) -> dict[str, Any]:
    """What the config says of the data."""
    video, audio = STEP_SIZES["video"], STEP_SIZES["audio"]
    return {
        "data_root": str(folder), "nets": str(folder), "store": str(folder / "sequences"), "steps": TIME,
        "extractors": {"video": {"stored": {"channels": video[-1], "raster": list(video[:-1])}},
                       "audio": {"stored": {"channels": audio[-1]}}, "text": {"language_model": "words"}},
        "pairs": {f"{sense}-text": {"senses": [sense, "text"], "batch_size": batch_size, "license": "Apache-2.0",
                                    "data": {"manifest": f"{sense}-train.jsonl"}} for sense in STEP_SIZES},
    }  # fmt: skip


def _sample(folder: Path, sense: str, split: str, index: int) -> dict[str, Any]:
    """The features of a sample, and its row of the manifest. No two steps of a sense are alike: of codes that are
    nearly the same, rounding would choose."""
    rng, name = np.random.default_rng([index, len(split), len(sense)]), f"{sense}-{split}-{index}"
    np.save(folder / f"{name}.npy", rng.normal(size=(TIME, *STEP_SIZES[sense])).astype(np.float32))
    caption = " ".join(f"word{TIME * index + step}" for step in range(TIME))
    return {"id": name, "media": {sense: f"{name}.npy"}, "captions": {sense: [caption]}}
