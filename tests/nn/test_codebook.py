from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.codebook import Codebook, CodebookOptions, perplexity


def codebook(codes: list[list[float]], *, protected: int = 0, **options: Any) -> Codebook:
    """In training mode, with the given codes."""
    made = Codebook(len(codes), len(codes[0]), CodebookOptions(**options), protected=protected)
    made.put(slice(None), torch.tensor(codes))
    return made


def state(of: Codebook) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in of.state_dict().items()}


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(one[name], other[name]) for name in one)


def test_every_step_gets_its_nearest_code_and_of_equal_ones_the_first() -> None:
    made = codebook([[0.0, 0.0], [4.0, 0.0], [0.0, 4.0], [4.0, 0.0]])
    assert made.assign(torch.tensor([[[1.0, 0.0], [3.0, 0.5]], [[0.0, 9.0], [9.0, 0.0]]])).tolist() == [[0, 1], [2, 1]]
    assert torch.equal(made.lookup(torch.tensor([2, 0])), torch.tensor([[0.0, 4.0], [0.0, 0.0]]))
    with pytest.raises(FeatureShapeError, match="indices from -1 to 4 in a codebook of 4"):
        made.lookup(torch.tensor([-1, 4]))


def test_a_batch_of_no_samples_has_no_codes_and_moves_none() -> None:
    made = codebook([[0.0], [10.0]])
    before = state(made)
    out = made({name: torch.zeros(0, 5, 1) for name in ("a", "b")})
    assert out.indices["a"].shape == (0, 5) and float(out.perplexity) == 0 and same(state(made), before)


def test_one_step_of_the_multi_modal_average_by_hand() -> None:
    """Both senses choose code 0 at step 0 and code 1 at step 1; every vector is blended half and half (Eq. 3)."""
    made = codebook([[0.0], [10.0]], decay=0.5, epsilon=1e-9)
    a, b = torch.tensor([[[1.0], [9.0]]]), torch.tensor([[[3.0], [13.0]]])
    made({"a": a, "b": b})
    # n = 2 each, sums 2 * 2 and 2 * 11; N = 0.5 * 1 + 0.5 * 2 = 1.5; o = 0.5 * e + 0.5 * sum
    assert made.ema_count.tolist() == [1.5, 1.5]
    assert made.ema_sum.tolist() == [[2.0], [16.0]]
    torch.testing.assert_close(made.embedding, torch.tensor([[2.0 / 1.5], [16.0 / 1.5]]))


def test_three_senses_count_half_for_their_own_and_a_quarter_for_each_other() -> None:
    made = codebook([[0.0]])
    features = {"a": torch.tensor([[[8.0]]]), "b": torch.tensor([[[4.0]]]), "c": torch.tensor([[[0.0]]])}
    mixed = made.blended(features, {name: torch.ones(1, 1, dtype=torch.bool) for name in features})
    assert [mixed[name].item() for name in "abc"] == [5.0, 4.0, 3.0]


def test_one_sense_alone_is_plain_ema_vq() -> None:
    features = {"a": torch.randn(4, 5, 3)}
    mixed, plain = (codebook(torch.randn(6, 3).tolist(), mixing=mixing) for mixing in ("time", "none"))
    plain.load_state_dict(mixed.state_dict())
    for made in (mixed, plain):
        made(features)
    assert same(state(mixed), state(plain))


def test_the_gradient_passes_straight_through_and_never_to_the_codes() -> None:
    made = codebook([[0.0, 0.0], [1.0, 1.0]])
    z = torch.tensor([[[0.2, 0.1], [0.9, 1.3]]], requires_grad=True)
    out = made({"a": z})
    weights = torch.randn_like(z)
    (out.quantized["a"] * weights).sum().backward()
    assert torch.equal(z.grad, weights) and not out.codes["a"].requires_grad  # type: ignore[arg-type]
    assert torch.equal(out.codes["a"], torch.tensor([[[0.0, 0.0], [1.0, 1.0]]]))
    assert torch.equal(out.quantized["a"], out.codes["a"])


def test_the_update_replaces_buffers_so_that_a_backward_pass_after_it_is_right() -> None:
    made = codebook([[0.0], [1.0]])
    z = torch.tensor([[[0.3], [0.8]]], requires_grad=True)
    distance = (z - made.embedding[:, 0]).square().sum()
    made({"a": z})
    distance.backward()
    assert z.grad is not None


def test_codes_that_no_step_chose_stay_as_they_are_to_the_last_bit() -> None:
    made = codebook([[0.0, 0.0], [50.0, 50.0], [-50.0, 3.0]], restart_after=0)
    before = state(made)
    for _ in range(1_000):
        made({"a": torch.randn(2, 3, 2)})
    for name in ("embedding", "ema_sum", "ema_count"):
        assert torch.equal(state(made)[name][1:], before[name][1:]), name
    assert made.unused_steps.tolist() == [0, 1000, 1000]


def test_eval_mode_counts_and_moves_nothing() -> None:
    made = codebook([[0.0], [9.0]]).eval()
    before = state(made)
    out = made({"a": torch.randn(3, 4, 1)})
    assert same(state(made), before) and out.statistics is None and out.restarts == 0


def test_a_dead_code_is_restarted_and_the_restart_survives_the_next_step() -> None:
    made = codebook([[0.0], [90.0]], restart_after=2, restart_noise=0.01)
    features = {"a": torch.tensor([[[0.0], [0.1]]])}
    restarts = [made(features).restarts for _ in range(4)]
    assert restarts == [0, 0, 1, 0]
    assert abs(made.embedding[1].item()) < 0.2
    assert made.embedding[1].item() == pytest.approx((made.ema_sum[1] / made.ema_count[1]).item(), abs=1e-3)


def test_protected_codes_are_never_restarted() -> None:
    made = codebook([[90.0], [0.0], [-90.0]], restart_after=1, protected=1)
    for _ in range(4):
        made({"a": torch.zeros(1, 2, 1)})
    assert made.embedding[0].item() == 90.0 and made.embedding[2].abs().item() < 1


def test_held_codes_stand_still_while_others_move_as_ever() -> None:
    held, moving = (codebook([[0.0], [8.0]], protected=1, hold_protected=hold) for hold in (True, False))
    before = state(held)
    for made in (held, moving):
        made({"a": torch.tensor([[[1.0], [9.0]]])})
    for name in ("embedding", "ema_sum", "ema_count"):
        assert torch.equal(state(held)[name][0], before[name][0]), name
    assert moving.embedding[0].item() != 0.0
    assert torch.equal(held.ema_sum[1], moving.ema_sum[1]) and torch.equal(held.ema_count[1], moving.ema_count[1])
    assert held.unused_steps.tolist() == [0, 0]


def test_restarts_do_not_depend_on_the_callers_random_numbers() -> None:
    made = [codebook([[0.0], [90.0], [70.0]], restart_after=1) for _ in range(2)]
    for seed, each in enumerate(made):
        torch.manual_seed(seed)
        for _ in range(3):
            each({"a": torch.zeros(1, 2, 1)})
    assert same(state(made[0]), state(made[1])) and made[0].embedding[1] != 90


@pytest.mark.parametrize("broken", [math.nan, math.inf])
def test_a_broken_sample_moves_no_code(broken: float) -> None:
    made, reference = (codebook([[0.0], [5.0]]) for _ in range(2))
    a, b = torch.randn(3, 2, 1), torch.randn(3, 2, 1)
    reference({"a": a[:2], "b": b[:2]})
    b[2, 1] = broken
    made({"a": a, "b": b})
    assert same(state(made), state(reference))
    only = codebook([[0.0], [5.0]])
    before = state(only)
    only({"a": torch.full((1, 2, 1), broken)})
    assert same(state(only), before)


def test_padding_is_neither_counted_nor_blended() -> None:
    made, reference = (codebook([[0.0], [5.0]]) for _ in range(2))
    a, b = torch.randn(1, 3, 1), torch.randn(1, 3, 1)
    masks = {"a": torch.tensor([[True, True, False]]), "b": torch.tensor([[True, True, False]])}
    out = made({"a": torch.where(masks["a"][..., None], a, math.nan), "b": b}, masks)
    reference({"a": a[:, :2], "b": b[:, :2]})
    assert same(state(made), state(reference))
    assert out.usage["a"].sum() == 2
    alone = made.blended({"a": a, "b": b}, {"a": torch.ones(1, 3, dtype=torch.bool), "b": masks["b"]})
    assert torch.equal(alone["a"][0, 2], a[0, 2])


def test_usage_and_perplexity_by_hand() -> None:
    made = codebook([[0.0], [5.0], [9.0]])
    out = made({"a": torch.tensor([[[0.0], [0.1]]]), "b": torch.tensor([[[5.0], [0.2]]])})
    assert {name: usage.tolist() for name, usage in out.usage.items()} == {"a": [2, 0, 0], "b": [1, 1, 0]}
    assert out.perplexity.item() == pytest.approx(math.exp(-(0.75 * math.log(0.75) + 0.25 * math.log(0.25))))
    assert perplexity(torch.zeros(3, dtype=torch.int64)).item() == 0


def test_a_deferred_update_of_two_halves_is_one_of_the_whole() -> None:
    codes = torch.randn(5, 3)
    whole, halves = (codebook(codes.tolist()) for _ in range(2))
    features = {"a": torch.randn(4, 3, 3), "b": torch.randn(4, 3, 3)}
    whole(features)
    parts = [halves({name: each[rows] for name, each in features.items()}, update=False).statistics
             for rows in (slice(0, 2), slice(2, 4))]  # fmt: skip
    assert same(state(halves), state(codebook(codes.tolist()))), "deferred means untouched"
    first, second = parts
    assert first is not None and second is not None
    halves.update(first.from_flat((first + second).flat()))
    for name, value in state(whole).items():
        torch.testing.assert_close(state(halves)[name], value)


def test_a_start_from_data_places_every_code_on_a_vector() -> None:
    made, vectors = Codebook(4, 2), torch.randn(9, 2)
    made.start_from(vectors, key="7")
    assert all(any(torch.equal(code, vector) for vector in vectors) for code in made.embedding)
    assert len({tuple(code.tolist()) for code in made.embedding}) == 4
    few = Codebook(5, 2)
    few.start_from(vectors[:2])
    assert len({tuple(code.tolist()) for code in few.embedding}) == 5, "repeated vectors are told apart by noise"


@pytest.mark.parametrize("vectors", [torch.ones(4, 2), torch.full((4, 2), math.nan), torch.zeros(0, 2)])
def test_constant_or_broken_vectors_start_nothing(vectors: Tensor) -> None:
    made = codebook([[1.0, 2.0], [3.0, 4.0]])
    before = state(made)
    with pytest.raises(FeatureShapeError, match=r"all the same|not finite"):
        made.start_from(vectors)
    assert same(state(made), before)


def test_sequences_that_do_not_fit_together_are_refused_before_anything_moves() -> None:
    made = codebook([[0.0], [1.0]])
    before = state(made)
    a = torch.zeros(2, 3, 1)
    for features, masks, what in [
        ({"a": a, "b": torch.zeros(1, 3, 1)}, None, "cannot be paired"),
        ({"a": a, "b": torch.zeros(2, 4, 1)}, None, "3 and 4 steps"),
        ({"a": a}, {"b": torch.ones(2, 3, dtype=torch.bool)}, "without features"),
        ({"a": a}, {"a": torch.ones(2, 2, dtype=torch.bool)}, "does not fit sequences"),
    ]:
        with pytest.raises(FeatureShapeError, match=what):
            made(features, masks)
    assert same(state(made), before)


@pytest.mark.parametrize("options", [{"decay": 1.0}, {"mixing": "by luck"}, {"restart_after": -1}, {"epsilon": 0.0}])
def test_options_that_cannot_be_used_are_named(options: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(options))} is"):
        CodebookOptions(**options)


def test_a_codebook_without_codes_is_refused() -> None:
    with pytest.raises(ConfigError, match="a codebook of 0 codes"):
        Codebook(0, 4)
