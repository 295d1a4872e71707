from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import torch

from polysense.continual.codebook_stage import CodebookStage, begin_stage, ewc_pattern, first_vectors
from polysense.errors import ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.comet import CometModel
from tests.models.comet.tiny import SENSES, tiny_comet, tiny_sequences


def batch(*senses: str) -> dict[str, dict[str, Any]]:
    return {name: {"sequence": each} for name, each in tiny_sequences(*senses, batch=9).items()}


def test_the_first_stage_places_its_codes_on_features() -> None:
    model = tiny_comet("video", "text")
    assert begin_stage(model, CodebookStage(pair=("video", "text")), {}, batch("video", "text"), first=True) is None
    vectors = first_vectors(model, ["video", "text"], batch("video", "text"))
    assert len(vectors) == 2 * 9 * 4
    assert (model.codebook.embedding[:, None] == vectors).all(dim=-1).any(dim=1).all()


def test_a_later_stage_adds_the_sense_keeps_the_codes_and_grows() -> None:
    model = tiny_comet("video", "text")
    before = model.codebook.embedding.clone()
    stage = CodebookStage(pair=("audio", "text"), rows=4, pmr_teacher="live")
    replay = begin_stage(model, stage, {"audio": SENSES["audio"]}, batch("audio", "text"), first=False)
    assert model.modalities == ("video", "text", "audio") and model.config.codebook_sizes == [7, 4]
    assert replay is not None and replay.mediator == "text" and torch.equal(replay.codes.embedding, before)
    vectors = first_vectors(model, ["text"], batch("audio", "text"))
    assert (model.codebook.embedding[7:, None] == vectors).all(dim=-1).any(dim=1).all()


def test_a_pair_of_known_senses_needs_neither_text_nor_growth() -> None:
    model = tiny_comet("video", "audio")
    stage = CodebookStage(pair=("video", "audio"), mediator="audio")
    assert begin_stage(model, stage, {}, batch("video", "audio"), first=False) is None
    assert model.config.codebook_sizes == [7]


@pytest.mark.parametrize(
    ("stage", "error", "what"),
    [
        (CodebookStage(pair=("audio", "depth"), rows=2), ConfigError, "shares no sense with the stages before"),
        (CodebookStage(pair=("audio", "text"), mediator="audio"), UnknownModalityError, "unknown modality 'audio'"),
        (CodebookStage(pair=("smell", "text"), rows=2), UnknownModalityError, "unknown modality 'smell'"),
    ],
)
def test_a_stage_that_cannot_begin_changes_nothing(stage: CodebookStage, error: Any, what: str) -> None:
    model = tiny_comet("video", "text")
    keys = set(model.state_dict())
    with pytest.raises(error, match=what):
        begin_stage(model, stage, {"audio": SENSES["audio"]}, batch(), first=False)
    assert set(model.state_dict()) == keys and model.config.codebook_sizes == [7]


DEPTH = {"feature_dim": 6, "grid": (2, 0)}


@pytest.mark.parametrize(
    ("pair", "senses", "batches", "error", "what"),
    [
        (("audio", "text"), {"audio": {"feature_dim": 7}}, {}, FeatureShapeError, "audio: a sequence of shape"),
        (("audio", "text"), SENSES, {"text": torch.randn(9, 4, 6)}, FeatureShapeError, "text: a sequence of shape"),
        (("audio", "text"), SENSES, {"text": torch.randn(8, 4, 5)}, FeatureShapeError, "cannot be paired"),
        (("audio", "depth", "text"), {**SENSES, "depth": DEPTH}, {"depth": torch.randn(9, 4, 6)}, ConfigError, "grid"),
    ],
)
def test_what_does_not_fit_the_model_changes_nothing(
    pair: tuple[str, ...], senses: dict[str, Any], batches: dict[str, torch.Tensor], error: Any, what: str
) -> None:
    model = tiny_comet("video", "text").train()
    keys = set(model.state_dict())
    features = {**batch("audio", "text"), **{name: {"sequence": each} for name, each in batches.items()}}
    with pytest.raises(error, match=what):
        begin_stage(model, CodebookStage(pair=pair, rows=2), senses, features, first=False)
    assert set(model.state_dict()) == keys and model.modalities == ("video", "text") and model.training
    assert model.config.codebook_sizes == [7] and model.codebook.size == 7


def test_a_mask_may_be_of_ones_and_zeros() -> None:
    features = batch("audio", "text")
    for each in features.values():
        each["mask"] = torch.ones(each["sequence"].shape[:2], dtype=torch.int64)
    whole, masked = tiny_comet("audio", "text"), tiny_comet("audio", "text")
    begin_stage(whole, CodebookStage(pair=("audio", "text")), {}, batch("audio", "text"), first=True)
    begin_stage(masked, CodebookStage(pair=("audio", "text")), {}, features, first=True)
    assert torch.equal(whole.codebook.embedding, masked.codebook.embedding)


def test_codes_are_protected_without_growth_and_the_config_remembers_it(tmp_path: Path) -> None:
    model = tiny_comet("video", "text")
    stage = CodebookStage(pair=("video", "text"), protect=True)
    begin_stage(model, stage, {}, batch("video", "text"), first=False)
    assert model.config.codebook_sizes == [7, 0] and model.codebook.protected == model.codebook.size == 7
    model.save_pretrained(tmp_path)
    assert CometModel.from_pretrained(tmp_path).codebook.protected == 7


@pytest.mark.parametrize("first", [True, False])
@pytest.mark.parametrize(("value", "what"), [(1.0, "are the same"), (float("nan"), "not finite")])
def test_a_sense_of_constant_or_broken_features_begins_no_stage(first: bool, value: float, what: str) -> None:
    model, pair = tiny_comet("video", "text"), ("video", "text") if first else ("audio", "text")
    state = {name: each.clone() for name, each in model.state_dict().items()}
    features = batch(*pair)
    features[pair[0]]["sequence"] = torch.full_like(features[pair[0]]["sequence"], value)
    stage = CodebookStage(pair=pair, rows=0 if first else 4)
    with pytest.raises(FeatureShapeError, match=f"{pair[0]}: .*{what}"):
        begin_stage(model, stage, {"audio": SENSES["audio"]}, features, first=first)
    after = model.state_dict()
    assert after.keys() == state.keys() and all(torch.equal(after[name], each) for name, each in state.items())


@pytest.mark.parametrize("first", [True, False])
def test_a_pair_that_misses_one_side_begins_no_stage(first: bool) -> None:
    model, stage = tiny_comet("video", "text"), CodebookStage(pair=("video", "text"), rows=0 if first else 4)
    with pytest.raises(FeatureShapeError, match="text: the first batch has video alone"):
        begin_stage(model, stage, {}, batch("video"), first=first)
    assert model.config.codebook_sizes == [7]


def test_constant_features_start_no_codebook() -> None:
    model = tiny_comet("video", "text")
    before = model.codebook.embedding
    same = {name: {"sequence": torch.ones_like(each["sequence"])} for name, each in batch("text").items()}
    with pytest.raises(FeatureShapeError, match="all the same"):
        model.start_codebook(torch.ones(5, 8))
    with pytest.raises(FeatureShapeError, match="not finite"):
        first_vectors(model, ["text"], {"text": {"sequence": same["text"]["sequence"] * float("nan")}})
    assert model.codebook.embedding is before


@pytest.mark.parametrize(
    ("values", "what"),
    [
        ({"pair": ("text",)}, "a stage of the senses"),
        ({"pair": ("text", "text")}, "a stage of the senses"),
        ({"pair": ("text", "audio"), "mediator": "video"}, "the mediator 'video' is not one of text, audio"),
        ({"pair": ("text", "audio"), "rows": -1}, "cannot grow by -1"),
        ({"pair": ("text", "audio"), "rows": True}, "cannot grow by True"),
        ({"pair": ("text", "audio"), "pmr_teacher": "dead"}, "pmr_teacher is 'dead'"),
        ({"pair": ("text", "audio"), "new_code_weight": 1.5}, "new_code_weight is 1.5"),
    ],
)
def test_a_stage_that_makes_no_sense_is_refused(values: dict[str, Any], what: str) -> None:
    with pytest.raises(ConfigError, match=what):
        CodebookStage(**values)


def test_the_scopes_of_ewc_hold_what_they_say() -> None:
    names = [name for name, _ in tiny_comet().named_parameters()]

    def held(scope: str) -> set[str]:
        return {".".join(name.split(".")[:2]) for name in names if re.fullmatch(ewc_pattern(scope, "text"), name)}

    assert held("adapter") == {"adapter.common", "adapter.specific"}
    assert held("adapter+encoder") == {"adapter.common", "adapter.specific", "adapter.gate", "semantic.text"}
    assert held("encoder") == {"semantic.text"}
    with pytest.raises(ConfigError, match="no ewc_scope 'all'"):
        ewc_pattern("all", "text")
