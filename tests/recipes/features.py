"""Tiny nets of a tiny world, trained once, shared by the tests of the recipes of features."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from pathlib import Path

from polysense.recipes.config import build
from polysense.recipes.feature_pairs import PairRecipe
from polysense.recipes.features import FeatureRecipe, train_features

NETS = {
    "video": {"frames_per_step": 2, "widths": [8, 8, 8, 8]},
    "audio": {"channels": 1, "height": 16, "width": 98, "widths": [8, 8, 8, 8], "vector": True},
}


def feature_recipe(world: Path) -> FeatureRecipe:
    """Two steps of a net of video, one of audio and a language model."""
    clips = {"manifest": "manifests/clips-train.jsonl"}
    film = {"windows": 20, "seconds": 0.5, "subtract_background": True}
    sound = {"windows": 10, "seconds": 1.0, "layout": "consecutive", "mel_bins": 16, "picture": False}
    return build(FeatureRecipe, {
        "data_root": str(world), "loop": {"steps": 2, "log_every": 1, "loader_workers": 0, "learning_rate": 0.01},
        "nets": {
            "video": {"data": clips, "model": NETS["video"], "processor": film, "batch_size": 2},
            "audio": {"data": clips, "model": NETS["audio"], "processor": sound, "batch_size": 2, "shift": 1},
        },
        "text": {"data": [clips], "batch_size": 4, "model": {
            "hidden_size": 16, "intermediate_size": 16, "num_hidden_layers": 1, "num_attention_heads": 2,
            "num_key_value_heads": 2, "max_position_embeddings": 64}},
    }, "test")  # fmt: skip


def pair_recipe(world: Path, nets: Path, store: Path, **changes: object) -> PairRecipe:
    """The world's pairs of video, audio, speech and text."""

    def pair(senses: Sequence[str], manifest: str, **more: object) -> dict[str, object]:
        return {"senses": senses, "data": {"manifest": f"manifests/{manifest}.jsonl"}, "batch_size": 2, **more}

    return build(PairRecipe, {
        "data_root": str(world), "nets": str(nets), "store": str(store),
        "extractors": {"video": {"encoder": "video"}, "audio": {"encoder": "audio"},
                       "text": {"language_model": "text", "fit": "resample"}},
        "pairs": {"video-text": pair(["video", "text"], "bimodal-video-text"),
                  "audio-text": pair(["audio", "text"], "bimodal-audio-text"),
                  "audio-video": pair(["audio", "video"], "clips-train"),
                  "test": pair(["audio", "video", "text"], "clips-test")}, **changes,
    }, "test")  # fmt: skip


@cache
def trained_nets(base: Path, world: Path) -> Path:
    """Folder of the nets."""
    return train_features(feature_recipe(world), base / "features")
