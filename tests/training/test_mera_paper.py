"""The paper's recipe of MERA on tiny models, and on files with the columns of its data sets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from transformers import BertConfig, BertModel

from polysense.data import SampleDataset
from polysense.models.encoders import BeatsConfig, BeatsEncoder, PointBertConfig, PointBertEncoder
from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
from polysense.nn.connectors import QFormerConnector, build_connector, connector_options
from polysense.recipes import mera
from polysense.recipes.config import read_config
from polysense.recipes.mera import MeraRecipe, MeraRun
from polysense.testing import tiny_llama, tiny_tokenizer
from polysense.testing.anchors import tiny_anchor
from tests.recipes.fixtures import events, stages
from tests.training.mera_samples import CAPTIONS, SAMPLES, write_mera_data

SENSES = ("image", "video", "audio", "point_cloud")
WIDTH = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}


def paper() -> MeraRecipe:
    return read_config(MeraRecipe, "mera", "paper")


def tiny_parts(folder: Path) -> list[str]:
    """Untrained small models in place of the published ones, as overrides."""
    torch.manual_seed(0)
    llm = folder / "llm"
    tiny_llama().save_pretrained(llm)
    tiny_tokenizer().save_pretrained(llm)
    clip = tiny_anchor(folder / "clip")
    BeatsEncoder(BeatsConfig(patch_dim=8, conv_kernel=4, conv_groups=2, **WIDTH)).save_pretrained(folder / "beats")
    points = PointBertConfig(num_groups=8, point_width=8, **WIDTH)
    PointBertEncoder(points).save_pretrained(folder / "point-bert")
    BertModel(BertConfig(vocab_size=40, max_position_embeddings=8, **WIDTH)).save_pretrained(folder / "bert")
    return [
        f"llm={llm}", f"senses.image.encoder={clip}", f"senses.video.encoder={clip}",
        f"senses.audio.encoder={folder / 'beats'}", f"senses.audio.bert={folder / 'bert'}",
        *(f"senses.audio.connector.{key}={value}" for key, value in WIDTH.items()),
        f"senses.point_cloud.encoder={folder / 'point-bert'}",
    ]  # fmt: skip


def held_out(name: str, run: MeraRun) -> SampleDataset:
    """A test set of the paper."""
    return paper().evaluation.tests[name].data.open(run.root)


@pytest.fixture(scope="module")
def overrides(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What makes the recipe tiny; senses, sources, columns and learning rates stay as they are."""
    folder = tmp_path_factory.mktemp("mera-paper")
    write_mera_data(folder / "data")
    phases = [f"{phase}.{value}" for phase in ("connector", "joint", "realign")
              for value in ("steps=2", "epochs=null", "batch_size=4")]  # fmt: skip
    return [
        f"data_root={folder / 'data'}", *tiny_parts(folder), *phases, "realign.replay=0.5", "adapter.rank=2",
        "adapter.alpha=2.0", "loop.mixed_precision='no'", "loop.log_every=1", "loop.loader_workers=0",
        "evaluation.max_new_tokens=2", "evaluation.judge.model=null",
    ]  # fmt: skip


@pytest.fixture(scope="module", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("datasets.config.HF_DATASETS_CACHE", tmp_path_factory.mktemp("cache"))
        yield


@pytest.fixture(scope="module")
def opened(overrides: list[str], tmp_path_factory: pytest.TempPathFactory) -> MeraRun:
    return MeraRun(read_config(MeraRecipe, "mera", "paper", overrides), tmp_path_factory.mktemp("opened"))


def test_four_stages_are_trained_from_the_files_of_the_data_sets(overrides: list[str], tmp_path: Path) -> None:
    last = mera.run("paper", tmp_path, overrides)
    folders = stages(tmp_path)
    assert [folder.name.split("-")[2] for folder in folders] == list(SENSES) and folders[-1] == last
    for folder in folders:
        logs = sorted((tmp_path / "training" / folder.name).glob("*/log.jsonl"))
        trained = {log.parent.name: [each for each in events(log) if each["event"] == "train"] for log in logs}
        assert set(trained) == {"connector", "joint"} | ({"realign"} if folder != folders[0] else set())
        steps = [step for phase in trained.values() for step in phase]
        assert len(steps) == 2 * len(trained) and all(step["loss"] > 0 for step in steps)
        assert all(step["skipped_samples"] == 0 for step in steps)
    model, processor = MeraForConditionalGeneration.from_pretrained(last), MeraProcessor.from_pretrained(last)
    assert set(model.modalities) == set(SENSES) and len(model.model.encoders) == 3
    # 16 patches, 4 frames of 4, the queries, 8 groups and the class token
    counts = {name: model.token_layout(name).count(4 if name == "video" else 1) for name in SENSES}
    assert counts == {"image": 16, "video": 16, "audio": 32, "point_cloud": 9}
    assert processor.part("point_cloud").channels == 6
    data = {entry["name"] for entry in json.loads((last / "stage.json").read_text())["data"]}
    assert data == {"cap3d", "cap3d-qa"}
    results = json.loads((last / "metrics.json").read_text())["results"]
    assert {(each["modality"], each["dataset"], each["metric"].partition(" (")[0]) for each in results} == {
        ("image", "coco", "CIDEr-D"), ("image", "ok-vqa", "accuracy"), ("video", "msvd", "CIDEr-D"),
        ("video", "msvd-qa", "accuracy"), ("audio", "audiocaps", "CIDEr-D"), ("audio", "clotho-aqa", "accuracy"),
        ("point_cloud", "cap3d", "CIDEr-D"), ("point_cloud", "cap3d-qa", "accuracy"),
    }  # fmt: skip


def test_the_first_phase_of_every_stage_is_on_captions_alone(opened: MeraRun) -> None:
    data = {stage.name: [phase.data for phase in stage.phases[:2]] for stage in opened.stages}
    assert {name: [list(each) for each in both] for name, both in data.items()} == {
        "image": [["coco"], ["coco", "ok-vqa"]],
        "video": [["msvd"], ["msvd", "msvd-qa"]],
        "audio": [["audiocaps"], ["audiocaps", "clotho-aqa"]],
        "point_cloud": [["cap3d"], ["cap3d", "cap3d-qa"]],
    }


def test_coco_has_its_first_caption_in_training_and_all_at_test(opened: MeraRun) -> None:
    coco, test = opened.datasets["coco"], held_out("coco", opened)
    assert len(coco) == SAMPLES and coco[1].captions["image"] == (CAPTIONS[1],)
    assert len(test) == SAMPLES and {len(test[row].captions["image"]) for row in range(SAMPLES)} == {5}
    (turn,) = paper().conversations.test(test[0], "image")
    assert set(turn.answers) == set(CAPTIONS)


def test_every_different_answer_of_ok_vqa_is_a_sample_and_at_test_all_are_right(opened: MeraRun) -> None:
    dataset = opened.datasets["ok-vqa"]
    asked = [dataset[row].extra["questions"][0]["answer"] for row in range(len(dataset))]
    assert asked == ["ball", "red ball", "cup", "cup"] * (SAMPLES // 2)
    assert [dataset[row].id for row in range(4)] == ["0/0", "0/4", "0/8", "1/0"]
    (turn,) = paper().conversations.test(held_out("ok-vqa", opened)[0], "image")
    assert turn.task == "question" and turn.answers == ("ball",) * 4 + ("red ball",) * 4 + ("cup",) * 2


def test_a_thousand_samples_of_every_held_out_part_are_asked_about(opened: MeraRun) -> None:
    """And all of MSVD, whose test part has fewer."""
    settings = paper().evaluation
    assert list(settings.tests) == list(paper().sources)
    assert {name: test.data.sample for name, test in settings.tests.items() if name != "msvd"} == dict.fromkeys(
        set(settings.tests) - {"msvd"}, 1000
    )
    assert settings.tests["msvd"].data.sample is None and len(held_out("msvd", opened)) == 3
    for name, test in settings.tests.items():
        source = paper().sources[name]
        assert test.modality == source.modality and test.data.columns["media"] == source.data.columns["media"]
        assert "lists" not in test.data.columns
        assert test.data.columns.get("where") == source.data.columns.get("where")
        files = [*test.data.parquet, *test.data.csv, *test.data.json]
        assert not set(files) & {*source.data.parquet, *source.data.csv, *source.data.json}


def test_captions_are_cut_at_white_space_and_answers_judged_as_in_the_paper() -> None:
    settings = paper().evaluation
    assert (settings.tokenizer, settings.judge.model) == ("whitespace", "gpt-4o-mini")
    assert settings.limit is None and settings.questions is None


def test_every_caption_of_msvd_is_a_sample_even_if_it_is_said_twice(opened: MeraRun) -> None:
    dataset = opened.datasets["msvd"]
    assert [dataset[row].captions["video"] for row in range(3)] == [(CAPTIONS[0],), (CAPTIONS[1],), (CAPTIONS[0],)]
    assert len(dataset) == 9


def test_clotho_aqa_drops_answers_that_are_not_sure(opened: MeraRun) -> None:
    dataset = opened.datasets["clotho-aqa"]
    answers = [dataset[row].extra["questions"][0]["answer"] for row in range(len(dataset))]
    assert answers == ["yes", "none", "2"]


def test_cap3d_drops_captions_of_more_than_a_hundred_characters(opened: MeraRun) -> None:
    dataset = opened.datasets["cap3d"]
    captions = [dataset[row].captions["point_cloud"][0] for row in range(len(dataset))]
    assert len(captions) == SAMPLES - 2 and max(map(len, captions)) <= 100


def test_the_reverse_order_begins_with_points_and_has_clips_pictures(opened: MeraRun) -> None:
    model, processor = opened.begin(None, "point_cloud")
    assert model.modalities == ("point_cloud",) and processor.size == 32


def test_the_q_former_starts_from_bert(opened: MeraRun) -> None:
    model, _ = opened.begin(None, "audio")
    bert = BertModel.from_pretrained(str(opened.recipe.senses["audio"].bert))
    connector = model.model.connectors["audio"]
    assert isinstance(connector, QFormerConnector)
    own = connector.qformer.encoder.layer[0].attention.attention.query.weight
    assert torch.equal(own, bert.encoder.layer[0].attention.self.query.weight)


def test_the_recipe_is_table_7() -> None:
    recipe = paper()
    rates = [dict(phase.learning_rates) for phase in (recipe.connector, recipe.joint, recipe.realign) if phase]
    assert rates == [{"connectors": 1e-3}, {"connectors": 2e-5, "language_model": 2e-4}, {"connectors": 2e-5}]
    sizes = [(phase.batch_size, phase.epochs) for phase in (recipe.connector, recipe.joint, recipe.realign) if phase]
    assert sizes == [(128, 1), (16, 1), (16, 1)]
    assert (recipe.adapter.rank, recipe.adapter.alpha, recipe.warmup_share) == (128, 128, 0.03)
    assert list(recipe.stages) == list(SENSES) and recipe.merge == "running_average"


def test_the_papers_connectors_make_its_tokens() -> None:
    with torch.device("meta"):
        senses = paper().senses
        queries = build_connector(in_dim=768, out_dim=4096, **connector_options(senses["audio"].connector))
        mlp = build_connector(in_dim=1024, out_dim=4096, **connector_options(senses["image"].connector))
    assert queries.out_tokens(496) == 32 and mlp.out_tokens(576) == 576
    assert sum(each.numel() for each in mlp.parameters()) == 1024 * 4096 + 4096 * 4096 + 2 * 4096  # 20.98 million
