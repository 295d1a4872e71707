"""The paper's recipe of COMET, with its model, on a few pairs of the published sizes: five steps of every stage."""

from __future__ import annotations

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

from polysense.models.comet import CometConfig, CometModel
from polysense.recipes import comet
from polysense.recipes.comet_codes import CometReader
from polysense.recipes.comet_config import CometRecipe
from polysense.recipes.config import read_config
from tests.recipes.comet_parts import stage_folders
from tests.recipes.fixtures import events
from tests.training.comet_samples import SHAPES, WIDTH, write_bert, write_downstream, write_pairs

FIRST = {"reconstruction", "commitment", "contrast", "code", "information", "gate"}
LATER = FIRST | {"replay", "ewc"}
SCORED = {
    ("video", "audio"): {"AVE train (published)", "AVE test", "AVVP eval (published)", "AVVP test",
                         "AVE to AVVP eval (published)"},
    ("video", "text"): {"msvd"}, ("audio", "text"): {"clotho", "clotho-209 (published)"},
    ("image", "text"): {"mscoco-1k"}, ("image", "audio"): {"flickr-sound"},
}  # fmt: skip
"""Senses to the data sets that are scored as soon as a model has them."""


def trained(senses: Sequence[str], folder: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Output of a run with a stage per sense; sources, sizes, losses and what is scored are those of `paper.yaml`."""
    monkeypatch.setattr("datasets.config.HF_DATASETS_CACHE", folder / "cache")
    write_pairs(folder / "data")
    write_downstream(folder / "data")
    pairs = [f"{sense}-text" for sense in senses]
    comet.run("paper", folder / "run", [
        f"data.data_root={folder / 'data'}", f"data.store={folder / 'store'}", f"data.nets={folder}",
        f"data.extractors.text.language_model={write_bert(folder / 'bert')}",
        *(f"data.pairs.{name}.batch_size=2" for name in pairs),
        f"stages=[{', '.join(f'{{pairs: [{name}]}}' for name in pairs)}]",
        "loop.epochs=0", "loop.steps=5", "loop.log_every=1", "loop.loader_workers=0", "fisher_batches=2",
    ])  # fmt: skip
    return folder / "run"


def check(senses: Sequence[str], output: Path) -> None:
    """Every stage has taken its five steps with all terms, grew the codebook, and gives codes of its pairs' files."""
    folders = stage_folders(output)
    assert [folder.name.split("-")[2] for folder in folders] == list(senses)
    for number, (sense, folder) in enumerate(zip(senses, folders, strict=True)):
        (log,) = (output / "training").glob(f"{folder.name}/log.jsonl")
        steps = [line for line in events(log) if line["event"] == "train"]
        terms = LATER if number else FIRST
        assert len(steps) == 5 and all(math.isfinite(step["loss"]) and not step["skipped_samples"] for step in steps)
        assert all({name.split("/")[1] for name in step["losses"]} >= terms for step in steps), sense
        metrics = json.loads((folder / "metrics.json").read_text())
        known = {"text", *senses[: number + 1]}
        wanted = set().union(*(names for pair, names in SCORED.items() if known.issuperset(pair)))
        assert {result["dataset"] for result in metrics["results"]} == wanted, sense
        sizes = metrics["codebook"]["sizes"]
        assert sizes == [400] + [200] * number and (folder / "ewc").is_dir()
    reader = CometReader.from_pretrained(folders[-1])
    assert set(reader.modalities) == {*senses, "text"} and reader.size == 400 + 200 * (len(senses) - 1)
    codes = reader.codes("text", "a red ball and a blue cup")
    assert codes.indices.shape == (1, 10) and int(codes.mask.sum()) == 7


def test_senses_of_vectors_join_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    senses = ("audio", "speech")
    check(senses, trained(senses, tmp_path, monkeypatch))


@pytest.mark.slow
def test_the_papers_stages_and_speech_join_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    senses = ("video", "audio", "image", "speech")
    check(senses, trained(senses, tmp_path, monkeypatch))


def test_the_papers_sizes_are_those_of_its_features() -> None:
    recipe = read_config(CometRecipe, "comet", "paper")
    assert [stage.pair for stage in recipe.codebook_stages] == [
        ("video", "text"), ("audio", "text"), ("image", "text")
    ]  # fmt: skip
    senses = {
        name: {"feature_dim": shape[-1], "grid": list(shape[1:-1]) or None} for name, shape in SHAPES.items()
    } | {"text": {"feature_dim": WIDTH, "recurrent": True}}
    with torch.device("meta"):
        model = CometModel(CometConfig(modalities=senses, codebook_sizes=[recipe.codes], **recipe.model))
    assert model.codebook.embedding.shape == (400, 256) and recipe.pmr_teacher == "live"
    adapter = sum(each.numel() for name, each in model.named_parameters() if name.startswith("adapter."))
    assert adapter == 6 * 65_792 * (1 + len(senses)) + 1_542  # method-facts 3.2
