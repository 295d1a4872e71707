"""What a run of COMET's recipe can be given wrong, by the command line: one clear error, and nothing is lost."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from polysense.cli import main
from polysense.recipes import comet
from polysense.storage import MANIFEST, write_manifest
from polysense.testing import tiny_comet_recipe
from polysense.testing.comet_recipe import STEP_SIZES, TIME
from tests.cli.stand_ins import stand_in

LONELY = ["data.extractors.speech={stored: {channels: 6}}",
          "data.pairs.lonely={senses: [audio, speech], data: {manifest: audio-train.jsonl}}"]  # fmt: skip
SOUNDS = "{manifest: audio-test.jsonl}"


def stages(second: str) -> str:
    return f"stages=[{{pairs: [video-text]}}, {second}]"


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the recipe's files in `parts`, and a run of the first stage in `run`."""
    folder = tmp_path_factory.mktemp("comet")
    config = tiny_comet_recipe(folder / "parts", steps=1)
    comet.run(str(config), folder / "run", ["stages=[{pairs: [video-text]}]"])
    return folder


@pytest.fixture
def config(finished: Path, tmp_path: Path) -> Path:
    """The recipe with files of its own, and without sequences that were read before."""
    shutil.copytree(finished / "parts", tmp_path / "parts", ignore=shutil.ignore_patterns("sequences"))
    config = tmp_path / "parts" / "tiny-comet.yaml"
    config.write_text(config.read_text().replace(str(finished), str(tmp_path)))
    return config


def refused(config: Path, output: Path, capsys: pytest.CaptureFixture[str], *overrides: str) -> str:
    """The one line of error that a run ends with."""
    capsys.readouterr()
    assert main(["train", "comet", "--config", str(config), "--output", str(output), *overrides]) == 1
    told = capsys.readouterr().err
    assert told.count("polysense: ") == 1 and "Traceback" not in told
    return told


@pytest.mark.parametrize(
    ("overrides", "message"),
    [
        ([stages("{pairs: [lonely]}"), *LONELY], "stages: lonely: pair: the stage of audio, speech shares no sense"),
        ([stages("{pairs: [audio-text], mediator: smell}")], "mediator: the mediator 'smell' is not one of"),
        ([stages("{pairs: [audio-text], mediator: audio}")], "unknown modality 'audio'"),
        ([stages("{pairs: [audio-text], rows: -2}")], "rows: a codebook cannot grow by -2 codes"),
        (["rows=-1"], "a codebook cannot grow by -1 codes"),
        (["codes=0"], "0 codes"),
        (["data.pairs.audio-text.senses=[audio, smell]"], "nothing extracts 'smell'"),
        (["data.pairs.audio-text.data.manifest=gone.jsonl"], "data: pairs: audio-text: "),
        (["data.pairs.audio-text.senses=[text]"], "are no senses of one sample"),
        (
            ["evaluation.retrieval.test.senses=[audio, txt]"],
            "evaluation: retrieval: test: senses: unknown modality 'txt'",
        ),
        (["evaluation.retrieval.test.data.manifest=gone.jsonl"], "evaluation: retrieval: test: "),
        (["evaluation.retrieval.test.senses=[audio, video]"], "retrieval: test: audio-test: no sample has audio and"),
        (["evaluation.retrieval.test.pool=0"], "evaluation: retrieval: test: pool is 0"),
        (["evaluation.retrieval.test.ks=[1, -5]"], "evaluation: retrieval: test: ks is (1, -5)"),
        (["evaluation.retrieval.test.captions=0"], "evaluation: retrieval: test: captions is 0"),
        (
            [f"evaluation.transfer.test={{task: localisation, train: {SOUNDS}, tests: {{a: {SOUNDS}}}}}"],
            "evaluation: transfer: test: audio-test: no sample has video with a label for localisation",
        ),
        (
            [f"evaluation.segmentation.test={{ask: audio, train: [{SOUNDS}], tests: {{a: {SOUNDS}}}}}"],
            "evaluation: segmentation: test: segmentation: no sample has a picture, its mask and an expression",
        ),
        (
            [f"evaluation.segmentation.test={{ask: audio, train: [], tests: {{a: {SOUNDS}}}}}"],
            "evaluation: segmentation: test: there are 0 data sets to train on",
        ),
        (
            [f"evaluation.segmentation.test={{ask: audio, train: [{SOUNDS}], tests: {{}}}}"],
            "evaluation: segmentation: test: there are 1 data sets to train on and 0 tests",
        ),
        (
            [f"evaluation.activation={{senses: [video, audio], data: {SOUNDS}}}"],
            "evaluation: activation: audio-test: no sample has video, audio",
        ),
        ([f"evaluation.activation={{senses: [audio], data: {SOUNDS}}}"], "the senses ['audio'] share no codes"),
    ],
)
def test_settings_that_cannot_be_used_are_refused_before_anything_is_trained(
    overrides: list[str], message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(config, tmp_path / "run", capsys, *overrides)
    assert not list((tmp_path / "run").rglob("*.safetensors"))


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("model.num_attention_heads=3", "model: hidden_size: a width of 8 with 3 heads"),
        ("model.horizon=4", "model: horizon: sequences of 4 steps cannot be predicted 4 ahead"),
        ("rows=1000000", "model: CometConfig: codebook_sizes is [32, 1000000]"),
        ("model.information=false", "yaml: objective: information: the model has no approximations for vCLUB"),
        ("objective.terms={mine: 0.5}", "yaml: objective: terms: there is no term 'mine'"),
        ("objective.terms={code: 0.5}", "yaml: objective: terms: code is weighed twice"),
        (
            "objective={reconstruction: 0, commitment: 0, contrast: 0, code: 0, information: 0, gate: 0}",
            "yaml: objective: no term of the objective has a weight",
        ),
    ],
)
def test_options_that_do_not_go_together_are_refused_before_anything_is_extracted(
    override: str, message: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert message in refused(config, tmp_path / "run", capsys, override)
    assert not (tmp_path / "run").exists() and not (config.parent / "sequences").exists()


@pytest.mark.parametrize(
    ("override", "where", "names"),
    [
        ("data.extractors.text.language_model=wrods", "text: wrods", "or one of words.\n"),
        ("data.extractors.video={encoder: vidoe}", "video: vidoe", "or one of words, unialign:demo, "),
        ("data.extractors.video={encoder: 'unialing:world'}", "video: unialing:world", ", unialign:world, "),
        ("features.nets.audoi.data.manifest=audio-train.jsonl", "text: words", "or one of audoi.\n"),
    ],
)
def test_a_net_that_is_nowhere_is_told_with_the_names_that_there_are(
    override: str, where: str, names: str, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    stand_in(monkeypatch, "polysense.models.base.snapshot_download", None).side_effect = OSError("no network")
    elsewhere = ["features.loop.steps=1", f"data.nets={tmp_path}/nets"] if "features" in override else []
    told = refused(config, tmp_path / "run", capsys, override, *elsewhere)
    assert f"data: extractors: {where}: the model cannot be loaded" in told and names in told
    assert not (tmp_path / "run").exists() and not (config.parent / "sequences").exists()


def each_sound(parts: Path, change: Callable[[NDArray[Any]], NDArray[Any]]) -> None:
    """Write every sequence of sounds anew."""
    for path in parts.glob("audio-train-*.npy"):
        np.save(path, change(np.load(path)).astype(np.float32))


def all_the_same(parts: Path) -> None:
    each_sound(parts, np.ones_like)


def not_finite(parts: Path) -> None:
    each_sound(parts, lambda values: values * np.nan)


def of_another_width(parts: Path) -> None:
    each_sound(parts, lambda values: values[:, :-1])


def without_steps(parts: Path) -> None:
    each_sound(parts, lambda values: values[:0])


def without_files(parts: Path) -> None:
    for path in parts.glob("audio-train-*.npy"):
        path.unlink()


def without_a_side(parts: Path) -> None:
    """The first pair's row names a film in place of a sound."""
    rows = [json.loads(line) for line in (parts / "audio-train.jsonl").read_text().splitlines()]
    rows[0]["media"] = {"video": rows[0]["media"]["audio"]}
    (parts / "audio-train.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))


def without_words(parts: Path) -> None:
    """No pair has a caption."""
    rows = [json.loads(line) for line in (parts / "audio-train.jsonl").read_text().splitlines()]
    (parts / "audio-train.jsonl").write_text("".join(json.dumps({**row, "captions": {}}) + "\n" for row in rows))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (all_the_same, "audio: all features of the first batch are the same"),
        (not_finite, "12 of 12 samples cannot be used"),
        (of_another_width, f"has shape ({TIME}, {STEP_SIZES['audio'][0] - 1}), and a step of audio is"),
        (without_steps, "12 of 12 samples cannot be used"),
        (without_files, "12 of 12 samples cannot be used"),
        (without_a_side, "audio-train-0: the sample has no media of modality 'audio'"),
        (without_words, "no sample has all of audio, text"),
    ],
)
def test_pairs_that_cannot_be_learned_from_stop_their_stage_and_leave_the_one_before(
    damage: Callable[[Path], None], message: str, finished: Path, config: Path, tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    shutil.copytree(finished / "run" / "stages", tmp_path / "run" / "stages")
    before = contents(tmp_path / "run" / "stages")
    damage(config.parent)
    assert message in refused(config, tmp_path / "run", capsys)
    assert contents(tmp_path / "run" / "stages") == before


def test_one_file_that_cannot_be_used_is_left_out(finished: Path, config: Path, tmp_path: Path) -> None:
    shutil.copytree(finished / "run" / "stages", tmp_path / "run" / "stages")
    np.save(config.parent / "audio-train-3.npy", np.full((TIME, *STEP_SIZES["audio"]), np.nan, np.float32))
    last = comet.run(str(config), tmp_path / "run")
    assert json.loads((last / "stage.json").read_text())["data"][0]["samples"] == 11


def test_a_stage_whose_codebook_does_not_match_its_config_is_refused(
    finished: Path, config: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    shutil.copytree(finished / "run" / "stages", tmp_path / "run" / "stages")
    (stage,) = (tmp_path / "run" / "stages").iterdir()
    values = json.loads((stage / "config.json").read_text())
    (stage / "config.json").write_text(json.dumps({**values, "codebook_sizes": [31]}))
    write_manifest(stage, json.loads((stage / MANIFEST).read_text())["details"])
    before = contents(tmp_path / "run" / "stages")
    told = refused(config, tmp_path / "run", capsys)
    assert "the weights do not fit the config" in told and "codebook" in told
    assert contents(tmp_path / "run" / "stages") == before


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
