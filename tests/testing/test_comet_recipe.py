"""The tiny recipe of COMET runs, and every part of the method takes part in it."""

from __future__ import annotations

import json
from pathlib import Path

from polysense.models.comet import CometModel
from polysense.recipes import comet
from polysense.testing import tiny_comet_recipe
from polysense.testing.comet_recipe import SAMPLES, TESTS
from tests.recipes.fixtures import events


def test_a_run_has_all_terms_restarts_growth_and_scores(tmp_path: Path) -> None:
    config = tiny_comet_recipe(tmp_path / "parts", steps=3, batch_size=4)
    last = comet.run(str(config), tmp_path / "run")
    (log,) = (tmp_path / "run/training").glob("stage-2-*/log.jsonl")
    steps = [line for line in events(log) if line["event"] == "train"]
    terms = {"reconstruction", "commitment", "contrast", "replay", "code", "information", "gate", "ewc"}
    assert len(steps) == 3 and all(terms <= {name.split("/")[1] for name in step["losses"]} for step in steps)
    model = CometModel.from_pretrained(last)
    assert model.config.codebook_sizes == [32, 16] and set(model.modalities) == {"video", "audio", "text"}
    assert int(model.codebook.updates) == 6 and int(model.codebook.unused_steps[32:].max()) <= 1
    (record,) = json.loads((last / "stage.json").read_text())["data"]
    found = json.loads((last / "metrics.json").read_text())["results"]
    assert record["samples"] == SAMPLES and found[0]["count"] == TESTS
