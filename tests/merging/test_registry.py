from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

import polysense.merging
from polysense.errors import ConfigError
from polysense.merging import Block, MergeMethod, get_merge_method, merge_methods, register_merge_method, registry

METHODS = ("dare", "running_average", "slerp", "task_arithmetic", "ties")
PREVIOUS = {"w": torch.tensor([1.0, 2.0]), "steps": torch.tensor([3])}


@pytest.fixture
def scratch(monkeypatch: pytest.MonkeyPatch) -> None:
    """A registry that forgets what a test adds."""
    monkeypatch.setattr(registry, "_METHODS", dict(registry._METHODS))


@pytest.fixture(params=METHODS)
def method(request: pytest.FixtureRequest) -> Iterator[MergeMethod]:
    yield get_merge_method(request.param)


def test_the_methods_are_registered_and_public() -> None:
    assert sorted(merge_methods()) == sorted(METHODS)
    assert all(getattr(polysense.merging, name) is get_merge_method(name) for name in METHODS)


def test_an_unknown_method_is_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"no merge method 'tys'\. Known methods: .*running_average"):
        get_merge_method("tys")


@pytest.mark.usefixtures("scratch")
def test_a_method_of_ones_own_is_a_formula() -> None:
    @register_merge_method("half_way")
    def half_way(block: Block, *, share: float = 0.5) -> Tensor:
        return block.previous + share * block.update

    assert half_way({"w": torch.zeros(1)}, {"w": torch.ones(1)}, stage=9)["w"].item() == 0.5
    assert get_merge_method("half_way") is half_way
    with pytest.raises(ConfigError, match="registered already"):
        register_merge_method("half_way")(lambda block: block.current)


@pytest.mark.parametrize(
    ("name", "options", "wanted"),
    [
        ("running_average", {}, [1.0, 1 / 2, 1 / 3]),
        ("task_arithmetic", {}, [1.0, 0.4, 0.4]),
        ("task_arithmetic", {"scale": 0.7}, [1.0, 0.7, 0.7]),
        *((name, {}, [None] * 3) for name in ("dare", "slerp", "ties")),
    ],
)
def test_a_method_that_scales_an_update_says_by_how_much(
    name: str, options: dict[str, Any], wanted: list[float | None]
) -> None:
    method, previous, current = get_merge_method(name), {"w": torch.randn(4)}, {"w": torch.randn(4)}
    assert [method.coefficient(stage, options) for stage in (1, 2, 3)] == wanted
    for stage, share in enumerate(wanted, start=1):
        if share is not None:
            merged = method(previous, current, stage=stage, **options)["w"]
            torch.testing.assert_close(merged, previous["w"] + share * (current["w"] - previous["w"]))
    with pytest.raises(ConfigError, match="has no options"):
        method.coefficient(2, {"shrink": 1})


def test_the_options_of_a_method_are_those_of_its_formula() -> None:
    assert get_merge_method("dare").options == ("density", "scale", "seed")
    assert get_merge_method("running_average").options == ()


@pytest.mark.usefixtures("scratch")
def test_a_formula_that_loses_numbers_is_noticed() -> None:
    shorter = register_merge_method("shorter")(lambda block: block.current[1:])
    with pytest.raises(ConfigError, match=r"^w: the merge method turned 2 numbers into \(1,\)"):
        shorter(PREVIOUS, PREVIOUS, stage=2)


def test_the_first_stage_has_nothing_to_merge_with(method: MergeMethod) -> None:
    current = {"w": torch.tensor([7.0, -1.0]), "steps": torch.tensor([3])}
    merged = method(PREVIOUS, current, stage=1, base=PREVIOUS)
    assert torch.equal(merged["w"], current["w"])


def test_a_merge_returns_new_tensors_and_changes_none(method: MergeMethod) -> None:
    base, previous, current = ({"w": torch.randn(4, 3), "n": torch.tensor([1])} for _ in range(3))
    before = [{key: tensor.clone() for key, tensor in state.items()} for state in (base, previous, current)]
    for stage in (1, 2):
        for tensor in method(previous, current, stage=stage, base=base).values():
            tensor.zero_()
    assert all(
        torch.equal(old[key], new[key])
        for old, new in zip(before, (base, previous, current), strict=True)
        for key in old
    )


def test_scalars_empty_and_strided_tensors_are_merged_too(method: MergeMethod) -> None:
    previous = {"scale": torch.tensor(2.0), "none": torch.zeros(0, 3), "turned": torch.randn(3, 5).t()}
    current = {"scale": torch.tensor(4.0), "none": torch.zeros(0, 3), "turned": torch.randn(3, 5).t()}
    merged = method(previous, current, stage=2, base=previous)
    assert {key: tensor.shape for key, tensor in merged.items()} == {k: t.shape for k, t in previous.items()}


def test_parameters_can_be_given_and_no_gradient_is_recorded(method: MergeMethod) -> None:
    layer = torch.nn.Linear(2, 2)
    merged = method(dict(layer.named_parameters()), layer.state_dict(), stage=2, base=layer.state_dict())
    assert not any(tensor.requires_grad for tensor in merged.values())


@pytest.mark.parametrize("stage", [0, -1, True])
def test_stages_are_counted_from_one(method: MergeMethod, stage: int) -> None:
    with pytest.raises(ConfigError, match="there is no stage"):
        method.prepare(stage, {}, has_base=True)


def test_unknown_options_are_answered_with_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"'dare' has no options \['densty'\]\. It has: density, scale, seed"):
        get_merge_method("dare")(PREVIOUS, PREVIOUS, stage=2, densty=0.5)
    with pytest.raises(ConfigError, match="It has: none"):
        get_merge_method("running_average")(PREVIOUS, PREVIOUS, stage=2, scale=0.5)


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
@pytest.mark.parametrize("broken", ["previous", "current", "base"])
def test_numbers_that_are_not_finite_are_named(method: MergeMethod, broken: str, number: float) -> None:
    states = {name: {"a": torch.zeros(3), "b": torch.zeros(3)} for name in ("previous", "current", "base")}
    states[broken]["b"][1] = number
    with pytest.raises(ConfigError, match=rf"^{broken}: b: the tensor holds infinite numbers or NaN"):
        method(states["previous"], states["current"], stage=2, base=states["base"])


@pytest.mark.parametrize("value", [True, False, 10**400, math.inf, math.nan, "1", None])
def test_an_option_is_a_number_and_no_switch(value: object) -> None:
    """`weight=yes` would count as 1, and a number beyond all would end in a traceback."""
    with pytest.raises(ConfigError, match=r"^weight: weight is"):
        registry.check_finite("weight", value)
    if value != 10**400:
        with pytest.raises(ConfigError, match=r"^seed: seed is"):
            registry.check_whole("seed", value)


def test_large_finite_numbers_are_no_error() -> None:
    state = {"w": torch.full((8,), 3e38), "h": torch.full((8,), 6e4, dtype=torch.float16)}
    merged = get_merge_method("running_average")(state, state, stage=2)
    assert all(torch.equal(merged[key], state[key]) for key in state)


def test_a_result_that_overflows_its_dtype_is_an_error() -> None:
    previous, current = ({"w": torch.tensor([x], dtype=torch.float16)} for x in (-6e4, 6e4))
    with pytest.raises(ConfigError, match=r"^w: the merged tensor does not fit into float16"):
        get_merge_method("task_arithmetic")(previous, current, stage=2, scale=2.0)


def test_integers_have_to_be_equal(method: MergeMethod) -> None:
    current = {"w": torch.zeros(2), "steps": torch.tensor([4])}
    with pytest.raises(ConfigError, match=r"^current: steps: the int64 tensor differs from previous: steps"):
        method(PREVIOUS, current, stage=2, base=PREVIOUS)
    merged = method(PREVIOUS, PREVIOUS, stage=2, base=PREVIOUS)
    assert torch.equal(merged["steps"], PREVIOUS["steps"])


def test_shared_modules_are_merged_and_senses_stand_side_by_side() -> None:
    """CMA* of MERA, section 4.1."""
    previous = {"llm.w": torch.tensor([0.0]), "connectors.image.w": torch.tensor([1.0])}
    current = {
        "llm.w": torch.tensor([2.0]),
        "connectors.image.w": torch.tensor([9.0]),
        "connectors.audio.w": torch.ones(3),
    }
    merged = get_merge_method("running_average")(previous, current, stage=2, shared=["llm"])
    assert {key: tensor.tolist() for key, tensor in merged.items()} == {
        "llm.w": [1.0], "connectors.image.w": [1.0], "connectors.audio.w": [1.0, 1.0, 1.0],
    }  # fmt: skip
