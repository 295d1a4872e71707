from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModel

from polysense.continual import apply_freezing
from polysense.errors import CheckpointError, ConfigError, FeatureShapeError, UnknownModalityError
from polysense.models.comet import CometConfig, CometModel
from polysense.models.unialign import UniAlignModel
from polysense.testing import tiny_clip, tiny_features, tiny_senses
from tests.models.comet.tiny import SIZES, tiny_comet, tiny_sequences


def test_a_sense_becomes_codes_and_codes_become_the_sense() -> None:
    model, sequences = tiny_comet(), tiny_sequences()
    for name, sequence in sequences.items():
        encoding = model.encode(name, sequence)
        assert encoding.indices.shape == (3, 4) and encoding.mask.all()
        assert torch.equal(encoding.quantized, model.codebook.lookup(encoding.indices))
        assert torch.equal(encoding.indices, model.codebook.assign(encoding.continuous))
        content, summary = model.specifics(name, sequence)
        decoded = model.decode(name, encoding.quantized, content)
        assert decoded.shape == (sequence.shape if name != "text" else (3, 4, 8)), "text gives its bi-LSTM's output"
        assert summary.shape[:2] == (3, 4)


def test_forward_gives_what_the_objectives_need() -> None:
    model, sequences = tiny_comet("video", "text").train(), tiny_sequences("video", "text")
    out = model(sequences, update=False)
    assert {name: each.shape for name, each in out.gates.items()} == dict.fromkeys(sequences, (3, 4, 2))
    for name in sequences:
        assert out.reconstructions[name].shape == out.targets[name].shape
        assert torch.equal(out.codebook.indices[name], model.codebook.assign(out.continuous[name]))
        torch.testing.assert_close(out.quantized[name], out.codebook.codes[name])
    sum(each.sum() for each in out.reconstructions.values()).backward()
    assert all(p.grad is not None for n, p in model.named_parameters() if n.startswith(("semantic", "adapter", "dec")))


def test_only_training_moves_the_codebook_and_only_when_asked() -> None:
    model, sequences = tiny_comet("video", "text"), tiny_sequences("video", "text")
    before = model.codebook.embedding
    model(sequences)
    model.train()(sequences, update=False)
    assert model.codebook.embedding is before
    model(sequences)
    assert not torch.equal(model.codebook.embedding, before)


def test_a_step_alone_needs_no_time_axis() -> None:
    model, audio = tiny_comet("audio"), torch.randn(3, 6)
    encoding = model.encode("audio", audio)
    assert encoding.indices.shape == (3, 1)
    assert torch.equal(encoding.quantized, model.encode("audio", audio[:, None]).quantized)


def test_padding_changes_no_real_step() -> None:
    model, text = tiny_comet("text"), torch.randn(2, 4, 5)
    mask = torch.tensor([[True, True, True, False], [True, False, False, False]])
    first = model.encode("text", text, mask)
    text = torch.where(mask[..., None], text, 55.0)
    second = model.encode("text", text, mask)
    assert torch.equal(first.continuous[mask], second.continuous[mask]) and torch.equal(second.mask, mask)


@pytest.mark.parametrize("sense", ["video", "text", "audio"])
def test_what_stands_in_padding_reaches_no_real_step(sense: str) -> None:
    model, sequences = tiny_comet(sense).eval(), tiny_sequences(sense)
    mask = torch.tensor([[True, True, False, False]] * 3)
    clean = model(sequences, {sense: mask})
    sequences[sense][:, 2:] = math.nan
    broken = model(sequences, {sense: mask})
    for name in ("continuous", "quantized", "summaries", "reconstructions"):
        one, other = getattr(clean, name)[sense], getattr(broken, name)[sense]
        assert torch.equal(one[mask], other[mask]) and one.isfinite().all(), name


def test_a_new_sense_adds_keys_and_changes_no_output() -> None:
    model, sequences = tiny_comet("video", "text"), tiny_sequences("video", "text")
    before = {name: model.encode(name, each).continuous for name, each in sequences.items()}
    keys = set(model.state_dict())
    model.add_modality("audio", feature_dim=6)
    assert all(torch.equal(model.encode(name, each).continuous, before[name]) for name, each in sequences.items())
    assert all(".audio." in key for key in set(model.state_dict()) - keys)
    assert model.modalities == ("video", "text", "audio") and not model.training


def test_every_part_starts_from_its_own_name() -> None:
    early, late = tiny_comet("text", "audio"), tiny_comet("text")
    plain = tiny_comet("audio", "text", num_experts=0, codebook_sizes=[9])
    torch.manual_seed(9)
    late.add_modality("audio", feature_dim=6)
    assert all(torch.equal(value, late.state_dict()[name]) for name, value in early.state_dict().items())
    for name, value in plain.state_dict().items():
        if not name.startswith("codebook"):
            assert torch.equal(value, early.state_dict()[name]), name
    assert not torch.equal(tiny_comet("text", seed=1).codebook.embedding, early.codebook.embedding)


def test_a_sense_may_use_anothers_branch() -> None:
    model, maps = tiny_comet("video"), tiny_sequences("video")["video"]
    keys = set(model.state_dict())
    model.add_modality("image", feature_dim=3, grid=[4, 4], branch="video")
    assert set(model.state_dict()) == keys
    assert torch.equal(model.encode("image", maps).continuous, model.encode("video", maps).continuous)
    assert model.freezing(["image"]) == model.freezing(["video"])


@pytest.mark.parametrize("grown", [False, True])
def test_a_saved_model_loads_with_the_same_codes(tmp_path: Path, grown: bool) -> None:
    model, sequences = tiny_comet().train(), tiny_sequences()
    for seed in range(3):
        model(tiny_sequences(seed=seed))
    if grown:
        model.grow_codebook(4, model(sequences).continuous["text"].detach().flatten(0, 1))
    model.eval().save_pretrained(tmp_path)
    loaded = AutoModel.from_pretrained(tmp_path)
    assert type(loaded) is CometModel and loaded.config.codebook_sizes == ([7, 4] if grown else [7])
    assert loaded.codebook.protected == model.codebook.protected == (7 if grown else 0)
    assert all(torch.equal(value, loaded.state_dict()[name]) for name, value in model.state_dict().items())
    for name, each in sequences.items():
        assert torch.equal(loaded.encode(name, each).indices, model.encode(name, each).indices)


def test_a_checkpoint_whose_codebook_does_not_match_its_config_is_refused(tmp_path: Path) -> None:
    model = tiny_comet()
    model.config.codebook_sizes = [7, 2]
    model.save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="codebook"):
        CometModel.from_pretrained(tmp_path)


def test_growing_keeps_the_old_codes_and_refuses_nonsense() -> None:
    model = tiny_comet()
    before = model.codebook.embedding.clone()
    for rows in (0, -2):
        with pytest.raises(ConfigError, match="cannot grow by"):
            model.grow_codebook(rows)
    assert model.config.codebook_sizes == [7]
    model.grow_codebook(3)
    assert torch.equal(model.codebook.embedding[:7], before) and model.config.codebook_sizes == [7, 3]


def test_what_could_not_be_loaded_again_is_not_made() -> None:
    model = tiny_comet()
    with pytest.raises(ConfigError, match="cannot grow by"):
        model.grow_codebook(10**6)
    for number in range(61):
        model.add_modality(f"sense_{number}", feature_dim=6, branch="audio")
    with pytest.raises(ConfigError, match="there are 65 modalities"):
        model.add_modality("one_more", feature_dim=6, branch="audio")
    assert model.config.codebook_sizes == [7] and len(model.modalities) == 64
    CometConfig.from_dict(model.config.to_dict())


def test_codes_and_content_that_do_not_fit_are_refused() -> None:
    model, features = tiny_comet(), tiny_sequences()
    codes = model.encode("text", features["text"]).quantized
    content = {sense: model.specifics(sense, features[sense])[0] for sense in ("audio", "video")}
    assert model.decode("video", codes, content["video"]).shape == features["video"].shape
    for sense, given, of in (("video", codes, "audio"), ("audio", codes, "video"), ("audio", codes[:, :2], "audio"),
                             ("audio", codes[:1], "audio"), ("video", codes[:, :2], "video")):  # fmt: skip
        with pytest.raises(FeatureShapeError, match="beside specific content"):
            model.decode(sense, given, content[of])


def test_codes_are_protected_without_growth() -> None:
    model = tiny_comet()
    before = model.codebook.embedding
    model.protect_codebook()
    assert model.codebook.embedding is before and (model.codebook.size, model.codebook.protected) == (7, 7)
    assert model.config.codebook_sizes == [7, 0]


def test_a_snapshot_stays_as_it_was() -> None:
    model, text = tiny_comet(), tiny_sequences("text")["text"]
    mask = torch.ones(3, 4, dtype=torch.bool)
    snapshot, before = model.snapshot("text"), model.encode("text", text).continuous
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1)
    snapshot.train()
    torch.testing.assert_close(snapshot(text, mask), before)
    assert not snapshot.training
    assert not any(parameter.requires_grad for parameter in snapshot.parameters())
    assert not any("video" in name for name, _ in snapshot.named_parameters())


def test_the_freezing_table_of_a_stage_trains_its_senses_and_what_is_common() -> None:
    model = tiny_comet()
    apply_freezing(model, model.freezing(["audio", "text"]))
    trained = {name for name, each in model.named_parameters() if each.requires_grad}
    assert not any(".video." in name for name in trained)
    frozen = set(dict(model.named_parameters())) - trained
    assert all(".video." in name for name in frozen)


def test_mixtures_of_codes_take_the_place_of_codes() -> None:
    model, sequences = tiny_comet("text", assignment="attention"), tiny_sequences("text")
    encoding = model.encode("text", sequences["text"])
    weights = (encoding.continuous @ model.codebook.embedding.t() / math.sqrt(8)).softmax(dim=-1)
    torch.testing.assert_close(encoding.quantized, weights @ model.codebook.embedding)
    assert torch.equal(encoding.indices, model.codebook.assign(encoding.continuous))


def test_senses_of_an_encoder_are_read_from_raw_features(tmp_path: Path) -> None:
    unialign = UniAlignModel.from_clip(tiny_clip(), tiny_senses())
    model = CometModel.from_encoder(
        unialign, ["video", "image"], features={"text": {"feature_dim": 5, "recurrent": True}}, steps=4, **SIZES
    )
    raw = tiny_features()
    video, image = model.encode("video", raw["video_values"]), model.encode("image", raw["pixel_values"])
    assert video.indices.shape == image.indices.shape == (2, 4)
    assert (image.indices == image.indices[:, :1]).all(), "a still is repeated"
    sequence, mask = model.extract("video", raw["video_values"])
    assert torch.equal(model.encode_sequence("video", sequence, mask).quantized, video.quantized)
    tokens: Any = unialign.encode_tokens("video", raw["video_values"]).tokens
    torch.testing.assert_close(sequence, tokens.mean(dim=2))
    model.add_modality("depth")
    model.save_pretrained(tmp_path)
    loaded = CometModel.from_pretrained(tmp_path)
    assert torch.equal(loaded.encode("depth", raw["depth_values"]).continuous,
                       model.encode("depth", raw["depth_values"]).continuous)  # fmt: skip
    assert not any(each.requires_grad for each in loaded.encoder.parameters())
    loaded.train()
    assert loaded.codebook.training and not any(each.training for each in loaded.encoder.modules())
    with pytest.raises(ConfigError, match="fed with sequences"):
        model.extract("text", torch.randn(1, 2, 5))


@pytest.mark.parametrize("encoder", [torch.bfloat16, torch.float16, torch.float64])
def test_the_encoder_may_be_of_another_precision_and_stays_so(encoder: torch.dtype, tmp_path: Path) -> None:
    unialign = UniAlignModel.from_clip(tiny_clip(), tiny_senses()).to(encoder)
    unialign.save_pretrained(tmp_path / "encoder")
    model = CometModel.from_encoder(tmp_path / "encoder", ["video"], **SIZES)
    model.add_modality("depth")
    raw, text = tiny_features(), {"feature_dim": 5, "recurrent": True}
    model.add_modality("text", **text)
    model.save_pretrained(tmp_path / "codes")
    for one in (model, CometModel.from_pretrained(tmp_path / "codes")):
        assert {each.dtype for each in one.encoder.parameters()} == {encoder}
        assert {each.dtype for n, each in one.named_parameters() if not n.startswith("encoder.")} == {torch.float32}
        assert one.dtype == torch.float32 and one.encode("text", torch.randn(1, 2, 5)).quantized.dtype == one.dtype
        for name in ("video", "depth"):
            encoding = one.encode(name, raw[f"{name}_values"])
            assert torch.equal(encoding.indices, model.encode(name, raw[f"{name}_values"]).indices), name
    small = CometModel.from_pretrained(tmp_path / "codes", dtype=torch.bfloat16)
    assert small.encode("video", raw["video_values"]).continuous.dtype == torch.bfloat16


@pytest.mark.parametrize(
    ("sequence", "what"),
    [
        (torch.zeros(2, 3, 7), "where a step has the sizes"),
        (torch.zeros(2, 0, 6), "where a step has the sizes"),
        (torch.zeros(2, 3, 4, 6), "where a step has the sizes"),
        (torch.full((2, 3, 6), math.nan), "not finite"),
        (torch.full((2, 3, 6), math.inf), "not finite"),
        (torch.full((2, 3, 6), 3e38), "too large"),
    ],
)
def test_sequences_that_cannot_be_encoded_are_refused(sequence: torch.Tensor, what: str) -> None:
    with pytest.raises(FeatureShapeError, match=what):
        tiny_comet("audio").encode("audio", sequence)


@pytest.mark.parametrize("shape", [(3, 2), (3, 5)])
def test_masks_of_another_shape_are_refused(shape: tuple[int, int]) -> None:
    model, text = tiny_comet("text"), torch.randn(3, 4, 5)
    for method in (model.encode, model.specifics):
        with pytest.raises(FeatureShapeError, match="does not fit sequences of"):
            method("text", text, torch.ones(shape, dtype=torch.bool))


@pytest.mark.parametrize("kind", [torch.bool, torch.int64, list])
def test_a_mask_may_be_of_numbers_or_lists(kind: Any) -> None:
    model, sequences = tiny_comet("text", "audio").train(), tiny_sequences("text", "audio")
    real = torch.arange(4) < torch.tensor([4, 2, 1])[:, None]
    mask = real.tolist() if kind is list else real.to(kind)
    encoding = model.encode("text", sequences["text"], mask)
    assert torch.equal(encoding.mask, real)
    assert torch.equal(encoding.indices, model.encode("text", sequences["text"], real).indices)
    out = model(sequences, {"text": mask}, update=False)
    assert torch.equal(out.masks["text"], real) and out.masks["audio"].all()
    usage = model.codebook(out.continuous, {"text": mask, "audio": None}, update=False).usage
    assert int(usage["text"].sum()) == 7 and int(usage["audio"].sum()) == 12


def test_a_mask_of_unequal_rows_is_refused() -> None:
    unialign = UniAlignModel.from_clip(tiny_clip(), tiny_senses())
    model = CometModel.from_encoder(unialign, ["video"], features={"text": {"feature_dim": 5}}, **SIZES)
    for sense, features in {"text": torch.randn(2, 4, 5), "video": tiny_features()["video_values"]}.items():
        with pytest.raises(FeatureShapeError, match=f"^{sense}: the mask is no table of truth values"):
            model.encode(sense, features, [[1, 1, 1, 1], [1]])


def test_unknown_senses_and_double_ones_are_refused_before_anything_changes() -> None:
    model = tiny_comet("text")
    keys = set(model.state_dict())
    with pytest.raises(UnknownModalityError, match="unknown modality 'audio'"):
        model.encode("audio", torch.zeros(1, 2, 6))
    calls: list[dict[str, Any]] = [
        {"name": "text", "feature_dim": 5}, {"name": "audio"}, {"name": "audio", "feature_dim": 6, "branch": "text"},
        {"name": "audio", "feature_dim": -1},
    ]  # fmt: skip
    for call in calls:
        with pytest.raises(ConfigError):
            model.add_modality(**call)
    assert set(model.state_dict()) == keys and model.modalities == ("text",)


def test_pairs_of_unequal_lengths_or_sizes_are_refused_and_move_nothing() -> None:
    model = tiny_comet("text", "audio").train()
    before = model.codebook.embedding
    for audio in (torch.zeros(3, 5, 6), torch.zeros(2, 4, 6)):
        with pytest.raises(FeatureShapeError, match="cannot be paired"):
            model({"text": torch.zeros(3, 4, 5), "audio": audio})
    assert model.codebook.embedding is before
