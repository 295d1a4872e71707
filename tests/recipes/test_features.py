"""The recipe of the nets that make features."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModel, AutoTokenizer

from polysense.errors import CheckpointError, ConfigError
from polysense.models.encoders import PointBertEncoder, StepNet
from polysense.models.encoders.extraction import read_whitening
from polysense.nn.whitening import Whitening
from polysense.recipes.config import read_config
from polysense.recipes.feature_pairs import ExtractorSettings, PairRecipe
from polysense.recipes.features import FeatureRecipe, NetSettings, build_net, train_features, train_net
from polysense.recipes.sources import DatasetSettings
from tests.recipes.features import feature_recipe, trained_nets
from tests.recipes.fixtures import Parts


@pytest.fixture(scope="module")
def nets(parts: Parts, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return trained_nets(tmp_path_factory.getbasetemp() / "recipes", parts.world)


def test_every_net_is_a_folder_that_the_auto_classes_load(nets: Path) -> None:
    video, audio = (AutoModel.from_pretrained(nets / sense) for sense in ("video", "audio"))
    assert isinstance(video, StepNet) and video.token_spec("video").frames_per_step == 2
    assert audio.config.senses["audio"].processor["windows"] == 10
    text, tokenizer = AutoModel.from_pretrained(nets / "text"), AutoTokenizer.from_pretrained(nets / "text")
    assert (
        text.config.hidden_size == 16 and tokenizer.unk_token_id not in tokenizer("a cube falls , then")["input_ids"]
    )


def test_beside_every_net_lies_the_whitening_of_what_it_learned_from(parts: Parts, nets: Path) -> None:
    recipe = feature_recipe(parts.world)
    for sense in ("video", "audio"):
        plain = ExtractorSettings(encoder=sense, raster=False, fit="cut").open(sense, 10, nets)
        dataset = recipe.nets[sense].data.open(parts.world)
        media = [dataset[index].media[sense] for index in range(len(dataset)) if sense in dataset[index].media]
        vectors = torch.cat([plain(ref.open(), ref.facts) for ref in media])
        expected = Whitening.of(vectors, recipe.whitening_floor)
        torch.testing.assert_close(read_whitening(nets / sense).mean, expected.mean, atol=1e-5, rtol=1e-4)
    assert read_whitening(nets / "text").matrix.shape == (16, 16)


def test_each_net_is_trained_alone_and_by_no_label(nets: Path) -> None:
    for sense, term in (("video", "two_views"), ("audio", "two_views"), ("text", "next_token")):
        log = [json.loads(line) for line in (nets.parent / "training" / sense / "log.jsonl").open()]
        steps = [line for line in log if line["event"] == "train"]
        assert len(steps) == 2 and all(list(line["losses"]) == [f"{sense}/{term}"] for line in steps)


def test_a_net_starts_from_its_name_and_the_seed_alone(parts: Parts) -> None:
    settings = feature_recipe(parts.world).nets["video"]
    first, again, other = (build_net(name, replace(settings, sense="video"), 0)[0] for name in ("a", "a", "b"))
    state = first.state_dict()
    assert all(torch.equal(state[key], value) for key, value in again.state_dict().items())
    assert not all(torch.equal(state[key], value) for key, value in other.state_dict().items())


def test_a_finished_net_is_kept_and_a_damaged_one_refused(parts: Parts, nets: Path) -> None:
    recipe = feature_recipe(parts.world)
    assert train_features(recipe, nets.parent) == nets
    config = (nets / "audio" / "config.json").read_text()
    (nets / "audio" / "config.json").write_text("{}")
    with pytest.raises(CheckpointError, match=r"config\.json"):
        train_net(recipe, "audio", nets.parent)
    (nets / "audio" / "config.json").write_text(config)


def test_mistakes_are_named_with_their_place(parts: Parts, tmp_path: Path) -> None:
    recipe = feature_recipe(parts.world)
    odd = replace(recipe, nets={"video": replace(recipe.nets["video"], processor={"window": 3})})
    with pytest.raises(ConfigError, match="nets: video"):
        train_net(odd, "video", tmp_path)
    with pytest.raises(ConfigError, match="a net is called 'text'"):
        replace(recipe, nets={"text": recipe.nets["video"]})


def test_the_shipped_nets_are_small_and_fit_their_processors() -> None:
    recipe = read_config(FeatureRecipe, "comet", "features")
    pairs = read_config(PairRecipe, "comet", recipe.probes)
    assert recipe.world is not None and pairs.world is not None and recipe.world.seed != pairs.world.seed
    for name, settings in recipe.nets.items():
        net, part = build_net(name, settings, recipe.seed)
        assert isinstance(net, StepNet | PointBertEncoder) and net.num_parameters() < 300_000
        assert part.modality == name and name in net.config.senses
    assert build_net("video", recipe.nets["video"], 0)[0].token_spec("video").grid == (1, 4, 4)


def test_another_sense_can_borrow_a_net_with_its_processor() -> None:
    options = {"windows": 2, "seconds": 1.0, "mel_bins": 16, "picture": False}
    settings = NetSettings(data=DatasetSettings(), processor=options, model={"height": 16, "width": 98})
    spec = build_net("audio", settings, 0)[0].config.senses["audio"]
    assert spec.processor["mean"] == -4.2677 and "size" not in spec.processor
