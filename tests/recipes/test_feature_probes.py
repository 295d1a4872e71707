from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.recipes.feature_pairs import ProbeSettings
from polysense.recipes.feature_probes import probe_features
from tests.recipes.features import pair_recipe, trained_nets
from tests.recipes.fixtures import Parts


@pytest.fixture(scope="module")
def nets(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)


def test_probes_read_classes_out_of_steps_and_of_samples(parts: Parts, nets: Path, tmp_path: Path) -> None:
    probes = [ProbeSettings(sense="audio", train="audio-video", test="test"),
              ProbeSettings(sense="video", train="audio-video", test="audio-video", target="label"),
              ProbeSettings(sense="audio", train="audio-video", test="test", target="material")]  # fmt: skip
    recipe = replace(pair_recipe(parts.world, nets, tmp_path / "store"), probes=probes)
    steps, samples, materials = probe_features(recipe, tmp_path)
    assert steps.count == 20 and steps.foreground is not None and 0 <= steps.foreground <= 1
    assert samples.accuracy > 0.9 and samples.foreground is None  # what it was fitted to
    assert 1 < materials.classes <= 6 and materials.count == 20 and materials.foreground is not None
    stored = json.loads((tmp_path / "probes.json").read_text())
    assert [result["sense"] for result in stored["results"]] == ["audio", "video", "audio"] and stored["command"]


def test_a_probe_without_labels_is_refused(parts: Parts, nets: Path, tmp_path: Path) -> None:
    recipe = pair_recipe(parts.world, nets, tmp_path)
    for probe in (ProbeSettings(sense="audio", train="test", test="test", of="speech"),
                  ProbeSettings(sense="audio", train="test", test="test", target="age"),
                  ProbeSettings(sense="depth", train="test", test="test")):  # fmt: skip
        with pytest.raises(ConfigError, match=r"probes\[0\]"):
            probe_features(replace(recipe, probes=[probe]), tmp_path)
