"""A quick start uses the newest sense, by embedding or by asking; `test_push.py` runs both as they are published."""

from __future__ import annotations

import ast

import pytest

from polysense.hub.quick_start import outcome, published, quick_start
from tests.hub.stages import comet_record, mera_record, stage_record


@pytest.mark.parametrize("stage", [stage_record(), mera_record()])
def test_the_code_is_python_that_loads_the_revision(stage: dict[str, object]) -> None:
    code = quick_start(stage)
    ast.parse(code)
    assert code.count('from_pretrained(".")') == 2  # where the card lies
    public = published(code, "me/x", "v1")
    ast.parse(public)
    assert public.count('from_pretrained("me/x", revision="v1")') == 2


def test_unialign_embeds_and_mera_asks_what_it_was_asked_when_it_was_tested() -> None:
    sound = stage_record(modalities=["image", "text", "audio"], trained=["audio"])
    assert quick_start(sound).endswith('model.embed("audio", processor(audio=["sound.flac"]))')
    code = quick_start(mera_record())
    assert '[{"type": "depth", "path": "depth.png", "facts": facts}, "\\nwhat is this ?"]' in code
    assert '"\\nDescribe it briefly."' in quick_start(mera_record(hyperparameters={}))
    assert "unit vector" in outcome(stage_record()) and "the model says" in outcome(mera_record())


@pytest.mark.parametrize(
    ("stage", "use"),
    [
        (stage_record(), 'processor(depth=["depth.png"], facts={"depth": facts})'),
        (mera_record(), '"path": "depth.png", "facts": facts}'),
        (
            comet_record(modalities=["text", "depth"], trained=["depth", "text"]),
            'reader.timeline("depth", "depth.png", facts)',
        ),
    ],
)
def test_a_depth_map_comes_with_its_camera(stage: dict[str, object], use: str) -> None:
    code = quick_start(stage)
    ast.parse(code)
    assert use in code and '\nfacts = {"focal": 525, "baseline": 0.075}  # of its camera: pixels, metres\n' in code


def test_an_instruction_may_hold_marks_of_python() -> None:
    asked = 'say "what" it is:\n\\ é'
    code = ast.parse(quick_start(mera_record(hyperparameters={"conversations": {"instructions": [asked]}})))
    assert f"\n{asked}" in [each.value for each in ast.walk(code) if isinstance(each, ast.Constant)]


def test_a_sense_with_instructions_of_its_own_is_asked_the_first_of_them() -> None:
    conversations = {"instructions": ["what is this ?"], "pools": {"depth": ["how far is it ?", "where is it ?"]}}
    code = quick_start(mera_record(hyperparameters={"conversations": conversations}))
    assert '"\\nhow far is it ?"]' in code


def test_the_newest_sense_is_the_one_that_the_stage_trained() -> None:
    code = quick_start(mera_record(modalities=["audio", "image", "text"], trained=["audio"]))
    assert '"type": "audio", "path": "sound.flac"' in code


def test_comet_shows_the_codes_of_the_sense_that_joined_last() -> None:
    code = quick_start(comet_record())
    ast.parse(code)
    assert code.endswith('reader = CometReader.from_pretrained(".")\n'
                         'codes = reader.timeline("audio", "sound.flac")')  # fmt: skip
    assert "one code for every second" in outcome(comet_record())


def test_features_that_were_computed_elsewhere_are_read_as_such() -> None:
    code = quick_start(comet_record(hyperparameters={"stored": ["audio"]}))
    assert code.endswith('reader.timeline("audio", "features.npy")')
