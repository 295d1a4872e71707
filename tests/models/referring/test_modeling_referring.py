from __future__ import annotations

from pathlib import Path

import pytest
import torch
from transformers import AutoModel, CLIPSegForImageSegmentation

from polysense.errors import FeatureShapeError
from polysense.models.referring import ReferringSegmenter, ReferringSegmenterConfig
from tests.models.referring.tiny import tiny_clipseg


def tiny() -> ReferringSegmenter:
    model = ReferringSegmenter(ReferringSegmenterConfig(clipseg_config=tiny_clipseg(), code_dim=5))
    model.eval()
    return model


def test_each_frame_gets_the_mask_that_its_codes_ask_for() -> None:
    model, frame = tiny(), torch.randn(1, 3, 32, 32)
    codes = 10 * torch.randn(2, 4, 5)
    both = model(frame.expand(2, -1, -1, -1), codes)
    assert both.shape == (2, 32, 32) and not torch.allclose(both[0], both[1])
    torch.testing.assert_close(model(frame, codes[1:]), both[1:])


def test_the_order_of_codes_and_padding_do_not_matter() -> None:
    model, frame, codes = tiny(), torch.randn(1, 3, 32, 32), torch.randn(1, 4, 5)
    torch.testing.assert_close(model(frame, codes[:, [2, 0, 3, 1]]), model(frame, codes))
    padded, mask = torch.cat([codes, torch.full((1, 2, 5), 9.0)], dim=1), torch.tensor([[True] * 4 + [False] * 2])
    torch.testing.assert_close(model(frame, padded, mask), model(frame, codes))


def test_it_equals_clipseg_that_is_given_the_projected_codes() -> None:
    base, model = CLIPSegForImageSegmentation(tiny_clipseg()).eval(), tiny()
    model.vision.load_state_dict(base.clip.vision_model.state_dict())
    model.decoder.load_state_dict(base.decoder.state_dict())
    frames, codes = torch.randn(2, 3, 32, 32), torch.randn(2, 4, 5)
    expected = base(pixel_values=frames, conditional_embeddings=model.project(model.norm(codes.mean(dim=1)))).logits
    torch.testing.assert_close(model(frames, codes), expected)


def test_a_published_clipseg_keeps_its_tower_and_learns_the_rest(tmp_path: Path) -> None:
    base = CLIPSegForImageSegmentation(tiny_clipseg())
    base.save_pretrained(tmp_path)
    model = ReferringSegmenter.from_clipseg(tmp_path, code_dim=5)
    assert {name.split(".")[0] for name, each in model.named_parameters() if each.requires_grad} == {
        "decoder", "norm", "project"
    }  # fmt: skip
    for name, value in base.decoder.state_dict().items():
        assert torch.equal(model.decoder.state_dict()[name], value)


def test_a_new_one_learns_everything_that_it_uses() -> None:
    model = tiny()
    model(torch.randn(2, 3, 32, 32), torch.randn(2, 4, 5)).square().mean().backward()
    for name, parameter in model.named_parameters():
        assert (parameter.grad is not None) == parameter.requires_grad, name


def test_it_saves_and_loads(tmp_path: Path) -> None:
    model = tiny()
    model.save_pretrained(tmp_path)
    again = AutoModel.from_pretrained(tmp_path).eval()
    frames, codes = torch.randn(1, 3, 32, 32), torch.randn(1, 4, 5)
    weights, same = model.state_dict(), again.state_dict()
    assert type(again) is ReferringSegmenter and weights.keys() == same.keys()
    assert all(torch.equal(same[name], each) for name, each in weights.items())
    # a matrix product may round otherwise where its weights lie otherwise in memory
    torch.testing.assert_close(again(frames, codes), model(frames, codes))


@pytest.mark.parametrize(("side", "dim"), [(24, 5), (32, 6)])
def test_other_sizes_are_refused(side: int, dim: int) -> None:
    with pytest.raises(FeatureShapeError, match="32 x 32 pixels and codes of width 5"):
        tiny()(torch.randn(1, 3, side, side), torch.randn(1, 4, dim))
