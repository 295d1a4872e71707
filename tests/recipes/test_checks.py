"""What would fail hours later is refused at once."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.modality import get_modality
from polysense.models.unialign import UniAlignModel
from polysense.recipes.checks import check_model, check_model_options, check_stages, check_text, is_unialign

DEPTH = get_modality("depth")


def test_stages_train_senses_that_a_source_serves() -> None:
    check_stages([("depth", ["depth"]), ("the-rest_2", ["audio", "video"])], ["video", "audio", "depth"])
    check_stages([], [])


@pytest.mark.parametrize(
    ("stage", "message"),
    [
        (("smell", ["depth", "smell"]), r"stages: smell: no source trains 'smell'\..*there are: audio, depth"),
        (("a/b", ["depth"]), r"stages: a/b: the stage has no name that can be a folder's"),
        (("", ["depth"]), r"the stage has no name"),
        (("idle", []), r"stages: idle: .*trains nothing"),
    ],
)
def test_a_stage_that_cannot_be_is_named(stage: tuple[str, list[str]], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        check_stages([("depth", ["depth"]), stage], ["depth", "audio"])


def test_text_trains_where_it_has_experts_and_a_partner(clip_folder: Path, tmp_path: Path) -> None:
    check_text([["depth"]], {}, None)
    check_text([["depth", "text"], ["audio"]], {"unified_text": True}, str(clip_folder))
    UniAlignModel.from_clip(clip_folder, unified_text=True).save_pretrained(tmp_path)
    for senses in (["depth"], ["depth", "text"]):
        check_text([senses], {}, str(tmp_path))


@pytest.mark.parametrize(
    ("senses", "options", "message"),
    [
        (["depth", "text"], {}, r"stages: a stage trains text, which CLIP's frozen text tower encodes"),
        (["text"], {"unified_text": True}, r"stages: a stage trains text alone"),
        (["depth"], {"unified_text": True}, r"stages: no stage trains text, whose experts begin untrained"),
    ],
)
def test_text_that_cannot_or_does_not_train_is_refused(
    senses: list[str], options: dict[str, bool], message: str, clip_folder: Path
) -> None:
    for anchor in (None, str(clip_folder)):
        with pytest.raises(ConfigError, match=message):
            check_text([senses], options, anchor)


def test_options_of_the_model_are_judged_without_the_anchor() -> None:
    check_model_options({"num_experts": 3, "image_tokenized": ["depth"]}, {"depth": DEPTH})
    with pytest.raises(ConfigError, match=r"model: unknown key 'num_expert'\. Did you mean 'num_experts'"):
        check_model_options({"num_expert": 3}, {})
    with pytest.raises(ConfigError, match=r"model: .*num_experts.*expected int"):
        check_model_options({"num_experts": "two"}, {})
    with pytest.raises(ConfigError, match="unknown key 'modalities'"):  # senses have a section of their own
        check_model_options({"modalities": {}}, {})


def test_a_sense_that_does_not_fit_the_anchor_is_named(clip_folder: Path) -> None:
    check_model(clip_folder, {"num_experts": 3}, {"depth": DEPTH})
    with pytest.raises(ConfigError, match=r"model: depth: patch 64"):
        check_model(clip_folder, {}, {"depth": replace(DEPTH, tokenizer={"patch_size": 64})})


def test_a_checkpoint_keeps_what_it_was_made_with(clip_folder: Path, tmp_path: Path) -> None:
    UniAlignModel.from_clip(clip_folder, ["depth"], num_experts=3).save_pretrained(tmp_path)
    assert is_unialign(tmp_path) and not is_unialign(clip_folder)
    senses = {"audio": get_modality("audio")}
    check_model(tmp_path, {"num_experts": 3, "image_tokenized": ["audio"]}, senses)
    with pytest.raises(ConfigError, match=r"model: num_experts: num_experts is 2, and 3 in the checkpoint"):
        check_model(tmp_path, {"num_experts": 2}, senses)
