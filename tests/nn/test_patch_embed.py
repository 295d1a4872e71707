from __future__ import annotations

from typing import Any

import pytest
import torch
from torch.nn import functional as F

from polysense.errors import ConfigError, FeatureShapeError
from polysense.modality import Modality
from polysense.nn import Tokenizer, build_tokenizer, register_tokenizer, tokenizer_kinds
from polysense.testing import tiny_features, tiny_senses

DIM, SIZE, PATCH = 12, 32, 8
SENSES = {sense.name: sense for sense in tiny_senses()}


def tokenizer(name: str, **options: Any) -> Tokenizer:
    sense = SENSES[name]
    merged = Modality.from_dict({**sense.to_dict(), "tokenizer": {**sense.tokenizer, **options}})
    return build_tokenizer(merged, DIM, SIZE, PATCH).eval()


@pytest.mark.parametrize("name", SENSES)
def test_every_kind_gives_batch_time_space_dim(name: str) -> None:
    values = tiny_features(batch=3)[f"{name}_values"]
    tokens, made = tokenizer(name)(values), tokenizer(name)
    time = values.shape[1] if SENSES[name].kind in {"frames", "spectrogram"} else 1
    assert tokens.shape == (3, time, made.grid[1] * made.grid[2], DIM)


@pytest.mark.parametrize("name", SENSES)
def test_a_sample_does_not_depend_on_its_neighbours_in_the_batch(name: str) -> None:
    made, values = tokenizer(name), tiny_features(batch=3)[f"{name}_values"]
    torch.testing.assert_close(made(values)[1:2], made(values[1:2]), atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("name", SENSES)
def test_a_wrong_rank_is_refused_with_the_layout(name: str) -> None:
    made = tokenizer(name)
    with pytest.raises(FeatureShapeError, match=rf"{name} features have shape \(2, 3\), expected \(batch, "):
        made(torch.zeros(2, 3))


@pytest.mark.parametrize(
    ("name", "shape"),
    [
        ("depth", (2, 3, 32, 32)),
        ("depth", (2, 1, 32, 16)),
        ("video", (2, 4, 1, 32, 32)),
        ("point_cloud", (2, 8, 6, 3)),
    ],
)
def test_wrong_sizes_are_refused(name: str, shape: tuple[int, ...]) -> None:
    with pytest.raises(FeatureShapeError, match="Prepare them with the processor"):
        tokenizer(name)(torch.zeros(shape))


def test_patches_are_a_strided_convolution_plus_positions() -> None:
    made: Any = tokenizer("depth")
    values = torch.randn(2, 1, SIZE, SIZE)
    expected = F.conv2d(values, made.projection.weight[:, :, 0], stride=PATCH).flatten(2).transpose(1, 2)
    torch.testing.assert_close(made(values)[:, 0], expected + made.position, atol=1e-5, rtol=1e-5)


def test_a_smaller_stride_overlaps_patches() -> None:
    assert tokenizer("depth", stride=4).grid == (1, 7, 7)
    assert tokenizer("depth", patch_size=16).grid == (1, 2, 2)


def test_every_time_step_is_tokenized_alike() -> None:
    made, values = tokenizer("video"), torch.randn(2, 4, 3, SIZE, SIZE)
    torch.testing.assert_close(made(values)[:, 2], made(values[:, 2:3])[:, 0], atol=1e-5, rtol=1e-5)


def test_tubelets_halve_the_steps_and_an_odd_frame_is_refused() -> None:
    made = tokenizer("video", tubelet=2)
    assert made(torch.randn(2, 4, 3, SIZE, SIZE)).shape[1] == 2
    with pytest.raises(FeatureShapeError, match="3 time steps of video do not divide into tubelets of 2"):
        made(torch.randn(2, 3, 3, SIZE, SIZE))


@pytest.mark.parametrize("tubelet", [1, 2])
def test_adopted_patches_see_a_still_video_as_the_image(tubelet: int) -> None:
    made: Any = tokenizer("video", tubelet=tubelet)
    patches, positions = torch.randn(DIM, 3, PATCH, PATCH), torch.randn(16, DIM)
    made.adopt(patches, positions)
    picture = torch.randn(1, 3, SIZE, SIZE)
    expected = F.conv2d(picture, patches, stride=PATCH).flatten(2).transpose(1, 2) + positions
    still = picture.unsqueeze(1).expand(-1, 2, -1, -1, -1)
    torch.testing.assert_close(made(still)[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_a_grey_sense_sees_a_grey_picture_as_the_image() -> None:
    made: Any = tokenizer("depth")
    patches, positions = torch.randn(DIM, 3, PATCH, PATCH), torch.randn(16, DIM)
    made.adopt(patches, positions)
    grey = torch.randn(2, 1, SIZE, SIZE)
    expected = F.conv2d(grey.expand(-1, 3, -1, -1), patches, stride=PATCH).flatten(2).transpose(1, 2) + positions
    torch.testing.assert_close(made(grey)[:, 0], expected, atol=1e-4, rtol=1e-4)


def test_patches_of_another_size_keep_the_response_to_a_uniform_picture() -> None:
    made: Any = tokenizer("depth", patch_size=16)
    patches, positions = torch.rand(DIM, 1, PATCH, PATCH), torch.ones(16, DIM)
    made.adopt(patches, positions)
    expected = patches.sum(dim=(1, 2, 3)) + 1
    torch.testing.assert_close(made(torch.ones(1, 1, SIZE, SIZE))[0, 0, 0], expected, atol=0.2, rtol=0.01)


def test_whether_a_sense_begins_at_the_image_is_its_kinds_or_its_own_choice() -> None:
    assert [tokenizer(name).starts_from_image for name in ("depth", "video", "audio", "point_cloud")] == [
        False, True, False, False,
    ]  # fmt: skip
    assert tokenizer("depth", from_image=True).starts_from_image
    assert not tokenizer("video", from_image=False).starts_from_image


def test_a_sense_that_is_no_raster_keeps_its_own_start() -> None:
    made = tokenizer("point_cloud")
    before = {name: value.clone() for name, value in made.state_dict().items()}
    made.adopt(torch.randn(DIM, 3, PATCH, PATCH), torch.randn(16, DIM))
    assert all(torch.equal(value, before[name]) for name, value in made.state_dict().items())


def test_a_point_group_does_not_depend_on_the_order_of_its_neighbours() -> None:
    made, values = tokenizer("point_cloud"), torch.randn(2, 8, 6, 6)
    shuffled = torch.cat([values[:, :, :1], values[:, :, 1:].flip(2)], dim=2)
    torch.testing.assert_close(made(values), made(shuffled), atol=1e-6, rtol=1e-6)


def test_a_moved_cloud_changes_positions_only() -> None:
    made: Any = tokenizer("point_cloud")
    values, moved = torch.randn(2, 8, 6, 6), torch.zeros(2, 8, 6, 6)
    moved[..., :3] = 0.5
    shift = made.position(values[:, :, 0, :3] + 0.5) - made.position(values[:, :, 0, :3])
    torch.testing.assert_close(made(values + moved)[:, 0] - made(values)[:, 0], shift, atol=1e-5, rtol=1e-5)


def test_batch_norm_is_there_for_published_weights() -> None:
    made = tokenizer("point_cloud", norm="batch")
    assert made(torch.randn(2, 8, 6, 6)).shape == (2, 1, 8, DIM)
    assert any(name.endswith("running_mean") for name, _ in made.named_buffers())


def text_tokenizer() -> Tokenizer:
    return build_tokenizer(
        Modality(name="text", kind="text", tokenizer={"length": 4, "width": 5}), DIM, SIZE, PATCH
    ).eval()


def test_text_goes_through_given_word_vectors() -> None:
    made: Any = text_tokenizer()
    ids, vectors = torch.tensor([[1, 2, 0]]), torch.randn(3, 5)
    expected = made.projection(vectors[ids]) + made.position[:3]
    torch.testing.assert_close(made(ids, vectors)[:, 0], expected)


def test_a_text_that_is_too_long_is_refused() -> None:
    with pytest.raises(FeatureShapeError, match="a text has 5 tokens, the longest allowed is 4"):
        text_tokenizer()(torch.zeros(1, 5, dtype=torch.long), torch.randn(3, 5))


@pytest.mark.parametrize(
    ("name", "options", "message"),
    [
        ("depth", {"patch_size": 64}, "patch 64, stride 64 and tubelet 1 do not fit pictures of 32 pixels"),
        ("depth", {"patch_size": 0}, "patch 0, stride"),
        ("depth", {"stride": -1}, "stride -1"),
        ("video", {"tubelet": 0}, "tubelet 0"),
        ("depth", {"colour": 1}, "tokenizer options .* do not fit kind 'grid'"),
        ("depth", {"patch_size": "8"}, "tokenizer options .* do not fit kind 'grid'"),
        ("point_cloud", {"width": -4}, "tokenizer options .* do not fit kind 'points'"),
        ("point_cloud", {"groups": 0}, "there are 0 groups"),
        ("point_cloud", {"groups": True}, "there are True groups"),
        ("point_cloud", {"norm": "group"}, "norm 'group' with 6 channels cannot tokenize points"),
    ],
)
def test_options_that_do_not_fit_are_refused(name: str, options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tokenizer(name, **options)


def test_points_have_at_least_three_coordinates() -> None:
    with pytest.raises(ConfigError, match="with 2 channels cannot tokenize points"):
        build_tokenizer(Modality(name="flat", kind="points", channels=2), DIM, SIZE, PATCH)


def test_an_unknown_kind_lists_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"unknown tokenizer kind 'odour'.*grid, frames, spectrogram, points, text"):
        build_tokenizer(Modality(name="smell", kind="odour"), DIM, SIZE, PATCH)


def test_a_kind_of_ones_own_is_one_class_and_one_registration(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("polysense.nn.patch_embed._TOKENIZERS", {})

    @register_tokenizer("odour")
    class OdourTokenizer(Tokenizer):
        layout = "batch molecules"

    assert register_tokenizer("odour")(OdourTokenizer) is OdourTokenizer
    assert tokenizer_kinds() == ("odour",)
    made = build_tokenizer(Modality(name="smell", kind="odour"), DIM, SIZE, PATCH)
    with pytest.raises(ConfigError, match="'smell' does not define forward"):
        made(torch.zeros(1, 2))
    with pytest.raises(ConfigError, match="kind 'odour' is already registered"):
        register_tokenizer("odour")(type("Other", (Tokenizer,), {}))
