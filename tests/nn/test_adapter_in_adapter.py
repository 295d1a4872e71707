from __future__ import annotations

import re
from typing import Any, cast

import pytest
import torch
from torch import Tensor, nn

from polysense.errors import ConfigError, UnknownModalityError
from polysense.nn.adapter_in_adapter import (
    AdapterInAdapter,
    AdapterOptions,
    AdapterPath,
    add_path,
    inject_adapters,
    path_pattern,
    remove_adapters,
    use_path,
)


def layer(*modalities: str, **changes: Any) -> AdapterInAdapter:
    """A layer from 4 to 3 features with the paths of `modalities`, all with values as training would give them."""
    site = AdapterInAdapter(nn.Linear(4, 3), AdapterOptions(**{"rank": 2, **changes}))
    for modality in modalities:
        site.add(modality)
    with torch.no_grad():
        for parameter in site.paths.parameters():
            parameter.normal_()
    return site


def path(site: AdapterInAdapter, modality: str) -> AdapterPath:
    return cast(AdapterPath, site.paths[modality])


class Block(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.q_proj, self.v_proj = nn.Linear(4, 4), nn.Linear(4, 4, bias=False)
        self.norm, self.head = nn.LayerNorm(4), nn.Linear(4, 2)

    def forward(self, x: Tensor) -> Tensor:
        return self.head(self.norm(self.q_proj(x) * self.v_proj(x)))  # type: ignore[no-any-return]


def model() -> nn.Sequential:
    return nn.Sequential(Block(), nn.Linear(2, 4), Block())


def test_the_first_modality_is_plain_lora() -> None:
    site, x = layer("image", alpha=6.0), torch.randn(5, 4)
    own = path(site, "image")
    torch.testing.assert_close(site(x), site.base(x) + 3.0 * x @ own.down.t() @ own.up.t())
    assert {name for name, _ in own.named_parameters()} == {"down", "up"}


def test_three_modalities_by_the_formula() -> None:
    site, x = layer("image", "video", "audio"), torch.randn(2, 5, 4)
    own = path(site, "audio")
    assert own.gate is not None
    g = (x @ own.gate.t()).softmax(dim=-1)
    expected = site.base(x)
    for j, name in enumerate(["image", "video"]):
        pair = path(site, name)
        expected = expected + g[..., j : j + 1] * (x @ pair.down.t() @ own.inner[name].t() @ pair.up.t())
    expected = expected + g[..., 2:] * (x @ own.down.t() @ own.up.t())
    torch.testing.assert_close(site(x), expected)


def test_one_number_by_hand() -> None:
    site = AdapterInAdapter(nn.Linear(1, 1, bias=False), AdapterOptions(rank=1))
    site.add("image")
    site.add("video")
    with torch.no_grad():
        site.base.weight.fill_(1.0)
        for name, up in (("image", 2.0), ("video", 6.0)):
            path(site, name).down.fill_(1.0)
            path(site, name).up.fill_(up)
        path(site, "video").inner["image"].fill_(5.0)
    # gates 1/2 and 1/2: 1 * 3 + 1/2 * 2 * 5 * 3 + 1/2 * 6 * 3
    assert site(torch.tensor([[3.0]])).item() == 3.0 + 15.0 + 9.0


def test_gates_sum_to_one_and_start_equal() -> None:
    site, x = layer("image", "video", "audio"), torch.randn(7, 4)
    gates = path(site, "audio").gates(x)
    torch.testing.assert_close(gates.sum(dim=-1), torch.ones(7))
    assert gates.shape == (7, 3) and gates.std(dim=-1).min() > 0
    path(site, "audio").reset_parameters()
    torch.testing.assert_close(path(site, "audio").gates(x), torch.full((7, 3), 1 / 3))


def test_a_new_modality_begins_with_what_the_earlier_ones_learned() -> None:
    site, x = layer("image"), torch.randn(5, 4)
    learned = site(x) - site.base(x)
    site.add("video")
    torch.testing.assert_close(site(x), site.base(x) + learned / 2)


def test_noise_disturbs_the_gates_in_training_alone() -> None:
    site, x = layer("image", "video", noise=True), torch.randn(5, 4)
    own = path(site, "video")
    assert not torch.equal(own.gates(x), own.gates(x))
    torch.testing.assert_close(own.gates(x).sum(dim=-1), torch.ones(5))
    site.eval()
    assert torch.equal(own.gates(x), own.gates(x))


def test_earlier_pairs_get_no_gradient_and_in_adapters_do() -> None:
    site = layer("image", "video")
    site(torch.randn(5, 4)).square().sum().backward()
    received = {name for name, parameter in site.named_parameters() if parameter.grad is not None}
    assert received == {f"paths.video.{name}" for name in ("down", "up", "gate", "inner.image")}


def test_a_new_modality_touches_no_parameter_that_is_there() -> None:
    site = layer("image", "video")
    before = {name: (parameter, parameter.clone()) for name, parameter in site.named_parameters()}
    site.add("audio")
    after = dict(site.named_parameters())
    assert all(
        after[name] is parameter and torch.equal(parameter, value) for name, (parameter, value) in before.items()
    )
    assert {name.split(".")[1] for name in set(after) - set(before)} == {"audio"}


def test_an_earlier_path_gives_what_it_gave() -> None:
    site, x = layer("image"), torch.randn(5, 4)
    before = site(x)
    site.add("video")
    site.use("image")
    assert torch.equal(site(x), before)
    site.use(None)
    assert torch.equal(site(x), site.base(x))
    with pytest.raises(UnknownModalityError, match=r"'smell' \(known here: image, video\)"):
        site.use("smell")


def test_half_precision_inputs_stay_so() -> None:
    site = layer("image", "video")
    site.base.bfloat16()
    assert site(torch.randn(5, 4).bfloat16()).dtype == torch.bfloat16


def test_injection_changes_nothing_and_removal_gives_everything_back() -> None:
    net, x = model(), torch.randn(3, 4)
    before, keys = net(x), set(net.state_dict())
    names = inject_adapters(net, r".*\.[qv]_proj", AdapterOptions(rank=2))
    assert names == ["0.q_proj", "0.v_proj", "2.q_proj", "2.v_proj"]
    assert torch.equal(net(x), before)
    add_path(net, "image")
    assert torch.equal(net(x), before)  # B is zero
    add_path(net, "video")
    remove_adapters(net)
    assert torch.equal(net(x), before) and set(net.state_dict()) == keys


def test_a_layer_in_two_places_is_adapted_once() -> None:
    shared = nn.Linear(4, 4)
    net = nn.Sequential(shared, nn.ReLU(), shared)
    assert inject_adapters(net, r"\d", AdapterOptions(rank=2)) == ["0", "2"]
    assert net[0] is net[2] and cast(Any, net[0]).base is shared


def test_a_state_dict_goes_round() -> None:
    def adapted() -> nn.Module:
        net = model()
        inject_adapters(net, r".*_proj", AdapterOptions(rank=2, noise=True))
        for modality in ("image", "video"):
            add_path(net, modality)
        return net

    one, other, x = adapted().eval(), adapted().eval(), torch.randn(3, 4)
    with torch.no_grad():
        for parameter in one.parameters():
            parameter.normal_()
    other.load_state_dict(dict(sorted(one.state_dict().items())))
    assert torch.equal(other(x), one(x))


def test_the_freezing_pattern_matches_a_modality_whole() -> None:
    net = model()
    inject_adapters(net, r".*_proj", AdapterOptions(rank=2))
    for modality in ("image", "video"):
        add_path(net, modality)
    named = dict(net.requires_grad_(True).named_parameters())
    own = {name for name in named if re.fullmatch(path_pattern("video"), name)}
    assert own == {name for name in named if ".paths.video." in name} and len(own) == 16


def test_paths_are_chosen_for_the_whole_model() -> None:
    net, x = model(), torch.randn(3, 4)
    before = net(x)
    inject_adapters(net, r".*_proj", AdapterOptions(rank=2))
    add_path(net, "image")
    with torch.no_grad():
        for name, parameter in net.named_parameters():
            if name.endswith("up"):
                parameter.normal_()
    assert not torch.equal(net(x), before)
    use_path(net, None)
    assert torch.equal(net(x), before)
    with pytest.raises(UnknownModalityError, match="'smell'"):
        use_path(net, "smell")


def test_what_cannot_be_adapted_is_refused_and_nothing_changes() -> None:
    net, options = model(), AdapterOptions(rank=2)
    keys = set(net.state_dict())
    with pytest.raises(ConfigError, match="k_proj: no linear layer"):
        inject_adapters(net, "k_proj", options)
    with pytest.raises(ConfigError, match="no adapters"):
        add_path(net, "image")
    with pytest.raises(ConfigError, match="no adapters"):
        remove_adapters(net)
    assert set(net.state_dict()) == keys and all(each.requires_grad for each in net.parameters())
    inject_adapters(net, r".*_proj", options)
    with pytest.raises(ConfigError, match="adapters already"):
        inject_adapters(net, r".*_proj", options)
    add_path(net, "image")
    with pytest.raises(ConfigError, match="image: the modality has a path already"):
        add_path(net, "image")
    with pytest.raises(ConfigError, match="rank: the rank is 0"):
        AdapterOptions(rank=0)
