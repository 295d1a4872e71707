"""A whole tiny run of MERA's recipe on disk: two senses as real files, an untrained Llama and encoder, one config."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from PIL import Image

from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.testing.anchors import tiny_anchor
from polysense.testing.tiny import IMAGE_SIZE, tiny_llama, tiny_tokenizer

SENSES = ("image", "depth")
SAMPLES, TESTS = 8, 10
_COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}


def tiny_recipe(folder: Path, *, steps: int = 2, batch_size: int = 4, loop: Mapping[str, Any] | None = None) -> Path:
    """Write everything that a run needs; the config's path is returned, and its `data_root` is `folder`.

    Two stages of three phases; every test sample is asked for a caption and one question of its own.

    Args:
        steps: optimiser steps of every phase.
        batch_size: samples per step and process.
        loop: fields of `LoopConfig` to change.
    """
    encoder, llm = folder / "encoder", folder / "llm"
    anchor = tiny_anchor(folder / "anchor")
    UniAlignModel.from_clip(anchor, SENSES[1:]).save_pretrained(encoder)
    UniAlignProcessor.from_clip(anchor, SENSES[1:]).save_pretrained(encoder)
    tiny_llama(num_hidden_layers=1).save_pretrained(llm)
    tiny_tokenizer().save_pretrained(llm)
    for split, count in (("train", SAMPLES), ("test", TESTS)):
        rows = [json.dumps(_sample(folder, split, index)) for index in range(count)]
        (folder / f"{split}.jsonl").write_text("".join(f"{row}\n" for row in rows), encoding="utf-8")

    def phase(**more: Any) -> dict[str, Any]:
        return {"steps": steps, "batch_size": batch_size, "learning_rates": {"connectors": 3e-3, **more}}

    data = {split: {sense: {"modality": sense, "data": {"manifest": f"{split}.jsonl"}} for sense in SENSES}
            for split in ("train", "test")}  # fmt: skip
    config = {
        "llm": str(llm), "data_root": str(folder), "stages": list(SENSES),
        "senses": {sense: {"encoder": str(encoder)} for sense in SENSES}, "sources": data["train"],
        "connector": phase(), "joint": phase(language_model=3e-3), "realign": {**phase(), "replay": 0.5},
        "adapter": {"rank": 2, "alpha": 4, "dropout": 0.0},
        "conversations": {"instructions": ["what is this ?"], "suffix": ""},
        "evaluation": {"max_new_tokens": 3, "batch_size": 8, "tests": data["test"]},
        "loop": {"epochs": 1, "save_every": 1, "log_every": 1, "loader_workers": 0, **(loop or {})},
    }  # fmt: skip
    path = folder / "tiny.yaml"
    path.write_text(yaml.safe_dump(config, sort_keys=False), encoding="utf-8")
    return path


def _sample(folder: Path, split: str, index: int) -> dict[str, Any]:
    """The files of a sample, and its row of the manifest; captions have one word or three, to be grouped by length."""
    rng, colour = np.random.default_rng([index, len(split)]), list(_COLOURS)[index % 2]
    name = f"{split}-{index}"
    noise = rng.integers(-20, 20, (IMAGE_SIZE, IMAGE_SIZE, 3))
    Image.fromarray((np.array(_COLOURS[colour]) + noise).clip(0, 255).astype(np.uint8)).save(folder / f"{name}.png")
    millimetres = rng.integers(500, 3000, (IMAGE_SIZE, IMAGE_SIZE)).astype(np.uint16)
    Image.fromarray(millimetres).save(folder / f"{name}-depth.png")
    depth = {"path": f"{name}-depth.png", "intrinsics": [30.0, 30.0], "baseline": 0.075}
    caption = colour if index % 4 < 2 else f"a {colour} ball"
    return {
        "id": name, "media": {"image": f"{name}.png", "depth": depth},
        "captions": {sense: [caption] for sense in SENSES},
        "questions": [{"modality": sense, "question": f"what is word{index + 20 * place} ?", "answer": colour}
                      for place, sense in enumerate(SENSES)],
    }  # fmt: skip
