"""The trainings of a stage: what they are trained on, for how long, and what is scored."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import CLIPImageProcessorPil

from polysense.continual import Phase
from polysense.data import MediaRef, Sample
from polysense.errors import ConfigError
from polysense.models.mera import MeraProcessor
from polysense.recipes.config import build
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.mera_stage import StageTraining, draws
from polysense.testing import tiny_mera, tiny_tokenizer
from tests.recipes.fixtures import events

PICTURES = CLIPImageProcessorPil(size={"shortest_edge": 32}, crop_size={"height": 32, "width": 32})
SENSES = ("image", "depth")
CONNECTORS = r"model\.connectors\.depth\..*"


class Pictures:
    """Ten samples of one sense, with captions."""

    def __init__(self, sense: str) -> None:
        self.sense = sense

    def __len__(self) -> int:
        return 10

    def __getitem__(self, index: int) -> Sample:
        rng, facts = np.random.default_rng(index), {"intrinsics": [30.0, 30.0], "baseline": 0.075}
        media = {"image": MediaRef(rng.integers(0, 255, (32, 32, 3), dtype=np.uint8)),
                 "depth": MediaRef(rng.uniform(0.5, 3.0, (32, 32)).astype(np.float32), facts)}  # fmt: skip
        captions = ("a red ball",) if index % 2 else ("cup",)
        return Sample(f"{self.sense}-{index}", media, captions={self.sense: captions})

    def labels(self, modality: str) -> list[str | None]:
        return [None] * len(self)


@pytest.fixture
def training(tmp_path: Path) -> StageTraining:
    settings = {"learning_rates": {"connectors": 0.01, "language_model": 0.02}, "batch_size": 4, "steps": 2}
    sources = {name: {"modality": name, "data": {"manifest": "unused.jsonl"}} for name in SENSES}
    recipe = build(MeraRecipe, {
        "llm": "unused", "stages": SENSES, "senses": {name: {"encoder": "unused"} for name in SENSES},
        "sources": sources, "connector": settings, "joint": settings,
        "conversations": {"instructions": ["what is this"], "suffix": ""},
        "loop": {"epochs": 1, "log_every": 1, "loader_workers": 0, "weight_decay": 0.0},
    }, "test")  # fmt: skip
    model = tiny_mera("depth")
    processor = MeraProcessor.from_model(model, tiny_tokenizer(), PICTURES)
    return StageTraining(recipe, {name: Pictures(name) for name in SENSES}, model, processor, tmp_path)


def phase(name: str, **changes: Any) -> Phase:
    values: dict[str, Any] = {"trains": {".*": False, CONNECTORS: True}, "data": ["depth"], "batch_size": 4,
                              "steps": 2, "learning_rates": {"connectors": 0.01}}  # fmt: skip
    return Phase(name=name, **{**values, **changes})


def test_a_phase_trains_what_its_table_says_on_its_own_data(training: StageTraining, tmp_path: Path) -> None:
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    assert training.run(phase("connector")).step == 2
    changed = {name for name, value in training.model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed and all(".connectors.depth." in name for name in changed)
    lines = [line for line in events(tmp_path / "connector" / "log.jsonl") if line["event"] == "train"]
    assert [set(line["losses"]) for line in lines] == [{"depth/answers"}] * 2


def test_replay_joins_the_earlier_senses_and_realigning_has_all_of_them(training: StageTraining) -> None:
    joined, alone = training._data(phase("joint", replay=0.3)), training._data(phase("realign", data=[], replay=0.3))
    assert {name: len(each) for name, each in joined.items()} == {"depth": 10, "image": 3}
    assert {name: len(each) for name, each in alone.items()} == {"depth": 3, "image": 3}


def test_a_penalty_is_logged_whole_and_counted_once(training: StageTraining, tmp_path: Path) -> None:
    everything = {".*": False, r"model\.connectors\..*": True}
    training.run(phase("joint", replay=0.3, steps=1, trains=everything), {"held": lambda: torch.tensor(5.0)})
    (line,) = [line for line in events(tmp_path / "joint" / "log.jsonl") if line["event"] == "train"]
    losses = line["losses"]
    assert losses["depth/held"] == losses["image/held"] == 5.0
    answers = (3 * losses["depth/answers"] + losses["image/answers"]) / 4  # three samples and one
    assert line["loss"] == pytest.approx(answers + 5.0, rel=1e-5)


def test_a_share_of_a_senses_samples_is_scored_each_once(training: StageTraining) -> None:
    batches, losses = training.scored("image", 0.5)
    batches = list(batches)
    assert [len(batch) for batch in batches] == [4, 1] and {batch.modality for batch in batches} == {"image"}
    scores = torch.cat([losses(batch) for batch in batches])
    assert scores.shape == (5,) and bool((scores > 0).all())
    assert [batch.ids for batch in training.scored("image", 0.5)[0]] == [batch.ids for batch in batches]
    with pytest.raises(ConfigError, match="less than one sample"):
        training.scored("image", 0.01)


def test_rates_are_the_phases(training: StageTraining, tmp_path: Path) -> None:
    rates = {"connectors": 0.01, "language_model": 0.02}
    language = r"(model\.language_model|lm_head)\..*"
    training.run(phase("joint", learning_rates=rates, trains={".*": False, CONNECTORS: True, language: True}))
    (start,) = [line for line in events(tmp_path / "joint" / "log.jsonl") if line["event"] == "start"]
    config = start["config"]
    assert (config["steps"], config["learning_rate"], config["warmup_steps"]) == (2, 0.02, 1)
    assert config["lr_multipliers"] == {"*model.connectors.*": 0.5}


def ended(training: StageTraining, work: Path, **loop: Any) -> tuple[dict[str, torch.Tensor], float]:
    """What a joint phase with other settings of the loop leads to, and its last loss; the model is as it was after."""
    before = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.recipe, training.work = replace(training.recipe, loop=replace(training.recipe.loop, **loop)), work
    training.run(phase("joint", trains={".*": False, CONNECTORS: True, r"(model\.language_model|lm_head)\..*": True}))
    after = {name: value.clone() for name, value in training.model.state_dict().items()}
    training.model.load_state_dict(before)
    return after, [line for line in events(work / "joint" / "log.jsonl") if line["event"] == "train"][-1]["loss"]


def test_activation_checkpointing_changes_no_bit_of_a_phase(training: StageTraining, tmp_path: Path) -> None:
    plain, _ = ended(training, tmp_path / "plain")
    again, _ = ended(training, tmp_path / "again", activation_checkpointing=True)
    assert all(torch.equal(again[name], value) for name, value in plain.items())
    assert any(not torch.equal(value, training.model.state_dict()[name]) for name, value in plain.items())


@pytest.mark.parametrize("checkpointing", [False, True])
def test_half_precision_computes_alike_and_keeps_what_trains_in_full_precision(
    checkpointing: bool, training: StageTraining, tmp_path: Path
) -> None:
    full, loss = ended(training, tmp_path / "full")
    half, near = ended(training, tmp_path / "half", mixed_precision="bf16", activation_checkpointing=checkpointing)
    assert near == pytest.approx(loss, rel=0.02) and near != loss
    assert all(value.dtype == full[name].dtype and bool(torch.isfinite(value).all()) for name, value in half.items())
    assert {value.dtype for name, value in half.items() if ".connectors." in name} == {torch.float32}


@pytest.mark.parametrize(
    ("batch", "samples", "sizes", "every"),
    [
        (16, {"coco": 82_000, "okvqa": 26_000}, [12, 4], [1, 1]),  # 12.15 and 3.85
        (32, {"own": 3000}, [32], [1]),
        (32, {"own": 3000, "a": 300, "b": 300, "c": 300}, [25, 3, 2, 2], [1] * 4),  # 24.6, and 2.46 of each
        (8, {"a": 5, "b": 5, "c": 5, "d": 5}, [2, 2, 2, 2], [1] * 4),
        (8, {"own": 1500, "a": 15, "b": 15}, [8, 1, 1], [1, 13, 13]),  # 7.84, and 0.078 of each
        (8, {"own": 1500, "a": 150, "b": 150, "c": 150}, [6, 1, 1, 1], [1, 2, 2, 2]),  # 6.15, and 0.62 of each
        (2, {"a": 5, "b": 5, "c": 5}, [1, 1, 1], [2, 2, 2]),
    ],
)
def test_a_step_is_drawn_as_if_all_data_were_one(
    batch: int, samples: dict[str, int], sizes: list[int], every: list[int]
) -> None:
    drawn = draws(samples, batch).values()
    assert [each["batch_size"] for each in drawn] == sizes and [each["every"] for each in drawn] == every
    assert [each["weight"] for each in drawn] == [size / batch for size in sizes]
