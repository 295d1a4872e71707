"""A tiny MERA checkpoint with its processor, as `save_pretrained` leaves it."""

from __future__ import annotations

import shutil
from pathlib import Path

from transformers import CLIPImageProcessorPil

from polysense.models.mera import MeraProcessor
from polysense.testing import tiny_mera, tiny_tokenizer
from polysense.testing.tiny import IMAGE_SIZE


def write_mera(folder: Path, *senses: str) -> Path:
    """The tiny LLaVA with further senses."""
    model, side = tiny_mera(*senses), {"height": IMAGE_SIZE, "width": IMAGE_SIZE}
    pictures = CLIPImageProcessorPil(size={"shortest_edge": IMAGE_SIZE}, crop_size=side)
    model.save_pretrained(folder)
    MeraProcessor.from_model(model, tiny_tokenizer(), pictures).save_pretrained(folder)
    return folder


def as_snapshot(folder: Path, cache: Path) -> Path:
    """A model's folder as the Hub's client keeps it: links into a store of its repository."""
    snapshot, blobs = cache / "models--me--my-mera" / "snapshots" / "0123abc", cache / "models--me--my-mera" / "blobs"
    for path in sorted(each for each in folder.rglob("*") if each.is_file() and each.name != "MANIFEST.json"):
        link = snapshot / path.relative_to(folder)
        link.parent.mkdir(parents=True, exist_ok=True)
        blobs.mkdir(exist_ok=True)
        blob = blobs / str(len(list(blobs.iterdir())))
        link.symlink_to(shutil.copyfile(path, blob))
    return snapshot
