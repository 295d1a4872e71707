"""What a MERA stage's card warns of."""

from __future__ import annotations

from dataclasses import replace

from polysense.recipes.config import read_config
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.mera_limits import limits

RECIPE = read_config(MeraRecipe, "mera", "world")
PAPER = read_config(MeraRecipe, "mera", "paper")


def test_a_stage_of_the_world_says_what_it_has_seen_and_how_it_was_judged() -> None:
    found = " ".join(limits(RECIPE, ["image", "video"]))
    assert "files of image, video, and refuses others" in found
    assert "end after 24 tokens" in found and "no language model's judgement" in found
    assert "realigned" not in found and "Not tested" not in found


def test_what_was_not_realigned_or_not_tested_is_named() -> None:
    found = " ".join(limits(RECIPE, ["touch", "image"]))
    assert "Neither replayed nor realigned, for want of their data: touch." in found
    assert "Not tested on: touch." in found
    bare = replace(RECIPE, realign=None)
    assert "Earlier senses were not realigned" in " ".join(limits(bare, ["image", "video"]))
    assert "realigned" not in " ".join(limits(bare, ["image"])), "the first stage has nothing to realign"
    replaying = replace(bare, joint=replace(bare.joint, replay=0.1))
    assert "realigned" not in " ".join(limits(replaying, ["image", "video"])), "replay trains old connectors too"


def test_real_data_and_a_language_model_as_the_judge_need_no_such_warning() -> None:
    found = " ".join(limits(PAPER, ["image"]))
    assert "procedural" not in found and "judgement" not in found
