from __future__ import annotations

import json
from typing import Any

import pytest

from polysense.continual import Phase, Stage, stage_keys
from polysense.errors import ConfigError


def phase(**changes: Any) -> Phase:
    options: dict[str, Any] = {
        "name": "joint", "trains": {".*": False, "connectors.video.*": True}, "data": ["msvd", "msvd-qa"],
        "learning_rates": {"connector": 2e-5, "llm": 2e-4}, "batch_size": 16, "epochs": 1.0,
    }  # fmt: skip
    return Phase(**{**options, **changes})


def stage(name: str = "video", **changes: Any) -> Stage:
    return Stage(name=name, modality=name, phases=[phase(**changes)])


def test_a_stage_is_json() -> None:
    settings = json.loads(json.dumps(stage(replay=0.1).to_dict()))
    assert settings["modality"] == "video"
    assert settings["phases"][0]["replay"] == 0.1
    assert settings["phases"][0]["learning_rates"] == {"connector": 2e-5, "llm": 2e-4}


def test_keys_are_equal_as_far_as_runs_are_alike() -> None:
    common = {"seed": 0}
    one = stage_keys([stage("image"), stage("video"), stage("audio")], common)
    other = stage_keys([stage("image"), stage("video", replay=0.1), stage("audio")], common)
    assert one[0] == other[0]
    assert len({*one, *other}) == 5


def test_keys_depend_on_order_and_on_what_is_common() -> None:
    forward = stage_keys([stage("image"), stage("video")], {"seed": 0})
    backward = stage_keys([stage("video"), stage("image")], {"seed": 0})
    elsewhere = stage_keys([stage("image"), stage("video")], {"seed": 1})
    assert len({*forward, *backward, *elsewhere}) == 6
    assert stage_keys([stage("image")], {"b": 1, "a": 2}) == stage_keys([stage("image")], {"a": 2, "b": 1})


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"epochs": None}, "joint: epochs is None and steps is None"),
        ({"steps": 10}, "joint: epochs is 1.0 and steps is 10"),
        ({"epochs": 0.0}, "joint: epochs is 0.0"),
        ({"batch_size": 0}, "joint: batch_size is 0"),
        ({"replay": 1.5}, "joint: the replay share is 1.5"),
        ({"data": []}, "joint: the phase has neither data nor replay"),
        ({"learning_rates": {"llm": 0.0}}, r"joint: the learning rates of \['llm'\] are not positive"),
        ({"name": "../joint"}, "'../joint': a name has letters"),
    ],
)
def test_phases_that_cannot_be_run_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        phase(**changes)


def test_stages_that_cannot_be_run_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"image: the stage has the phases \['joint', 'joint'\]"):
        Stage(name="image", modality="image", phases=[phase(), phase()])
    with pytest.raises(ConfigError, match=r"image: the stage has the phases \[\]"):
        Stage(name="image", modality="image", phases=[])
    with pytest.raises(ConfigError, match="image: the settings are not JSON"):
        stage_keys([Stage(name="image", modality="image", phases=[phase()], options={"a": object()})], {})
