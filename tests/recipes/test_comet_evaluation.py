"""A COMET checkpoint is scored on manifests and by protocols, and its codes are drawn."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.hub import card_of_folder
from polysense.recipes import comet_evaluation
from polysense.recipes.comet import CometRun
from polysense.report import method_name, read_run, snippet, usage, write_report
from tests.recipes.comet_parts import comet_recipe, stage_folders
from tests.recipes.features import trained_nets
from tests.recipes.fixtures import Parts


@pytest.fixture(scope="module")
def output(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The tiny recipe with COMET and without, in one folder."""
    nets = trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)
    recipe = comet_recipe(parts.world, nets, tmp_path_factory.mktemp("sequences"))
    folder = tmp_path_factory.mktemp("methods")
    for comet in (False, True):
        CometRun(replace(recipe, comet=comet), folder).run()
    return folder


@pytest.fixture(scope="module")
def stage(output: Path) -> Path:
    return next(each for each in stage_folders(output) if (each / "ewc").exists() and "stage-2" in each.name)


def test_every_two_senses_of_a_manifest_find_each_other(stage: Path, parts: Parts, tmp_path: Path) -> None:
    manifest = parts.world / "manifests" / "clips-test.jsonl"
    record = comet_evaluation.run(str(stage), [manifest], tmp_path / "scores.json")
    assert json.loads((tmp_path / "scores.json").read_text()) == record
    found = {(each["dataset"], each["task"]) for each in record["results"]}
    pairs = [("audio", "video"), ("audio", "text"), ("video", "text")]
    assert {task for _, task in found} == {f"retrieval {a} to {b}" for pair in pairs for a, b in (pair, pair[::-1])}
    assert set(record["codes"]["hits"]) == {"audio", "video", "text"}


def test_captions_are_the_text_of_a_sample_whatever_its_media_are(stage: Path, parts: Parts, tmp_path: Path) -> None:
    rows = [json.loads(row) for row in (parts.world / "manifests" / "clips-test.jsonl").read_text().splitlines()]
    told = [{**row, "media": {"audio": row["media"]["audio"], "text": "a bell rings"}} for row in rows]
    manifest = parts.world / "manifests" / "told.jsonl"
    manifest.write_text("".join(f"{json.dumps(row)}\n" for row in told))
    record = comet_evaluation.run(str(stage), [manifest])
    assert {each["task"] for each in record["results"]} == {"retrieval audio to text", "retrieval text to audio"}
    assert set(record["codes"]["hits"]) == {"audio", "text"}
    manifest.write_text("".join(f"{json.dumps({**row, 'captions': {}})}\n" for row in told))
    with pytest.raises(ConfigError, match=r"told.jsonl: no two of .* or with captions, which are their text"):
        comet_evaluation.run(str(stage), [manifest])
    manifest.unlink()


def test_every_data_set_keeps_how_its_senses_share_the_codes(stage: Path, parts: Parts, tmp_path: Path) -> None:
    manifests = [parts.world / "manifests" / f"clips-{split}.jsonl" for split in ("test", "train")]
    protocols = tmp_path / "protocols.yaml"
    data = "{manifest: manifests/clips-test.jsonl}"
    protocols.write_text(f"activation: {{senses: [audio, video], data: {data}}}\n")
    record = comet_evaluation.run(str(stage), manifests, protocols=protocols, root=parts.world)
    found = record["codes_by_dataset"]
    assert list(found) == ["clips-test", "clips-train", f"protocols: {protocols}"] and "codes" not in record
    assert found["clips-test"] == comet_evaluation.run(str(stage), manifests[:1])["codes"]
    assert [set(each["hits"]) for each in found.values()] == [{"audio", "video", "text"}] * 2 + [{"audio", "video"}]


def test_protocols_are_a_config(stage: Path, parts: Parts, tmp_path: Path) -> None:
    protocols = tmp_path / "protocols.yaml"
    data = "{manifest: manifests/clips-test.jsonl}"
    protocols.write_text(f"retrieval: {{films: {{senses: [video, text], captions: 1, data: {data}}}}}\n")
    record = comet_evaluation.run(str(stage), [], protocols=protocols, root=parts.world)
    assert {each["dataset"] for each in record["results"]} == {"films"}
    protocols.write_text(f"retrieval: {{things: {{senses: [depth, text], data: {data}}}}}\n")
    with pytest.raises(ConfigError, match=r"protocols.yaml: no protocol is about senses .* audio, text, video"):
        comet_evaluation.run(str(stage), [], protocols=protocols, root=parts.world)
    with pytest.raises(ConfigError, match="nothing to evaluate on"):
        comet_evaluation.run(str(stage), [])
    with pytest.raises(ConfigError, match="no two of"):
        comet_evaluation.run(str(stage), [parts.world / "manifests" / "stills-test.jsonl"])


def test_methods_in_one_folder_are_drawn_beside_one_another(output: Path) -> None:
    drawn = comet_evaluation.pictures(output)
    assert set(drawn) == {"Codes by the senses that share them", "Map of the codes"}
    assert all(picture.startswith(b"\x89PNG") for picture in drawn.values())
    page = write_report(output, drawn).read_text()
    assert "Map of the codes" in page
    methods = {method_name(chain[-1]) for chain in read_run(output).chains}
    assert methods == {"DCID", "DCID + COMET, frozen teacher"}


def test_the_report_says_how_to_read_the_codes_of_a_file(output: Path) -> None:
    run = read_run(output)
    assert "CometReader" in snippet(run) and '"audio"' in snippet(run) and "polysense codes" in usage(run)


def test_the_card_tells_of_codebook_use_and_transfer(stage: Path) -> None:
    card = card_of_folder(stage)
    assert "12 codes.\n" in card and "| 1 | 8 |\n| 2 | 4 |" in card
    assert "localisation video to audio" in card and "one discrete codebook that 3 senses share" in card
    assert "| sense | codes used, in percent | perplexity |" in card
    assert 'reader.timeline("audio", "sound.flac")' in card
