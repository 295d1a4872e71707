"""What holds of COMET's parts for any sizes, values and lengths (method-facts 3.10)."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from polysense.continual import OnlineEwc, PseudoModality
from polysense.losses import commitment, cross_modal_code, gate_balance
from polysense.nn import Codebook, CodebookOptions, FrozenCodes, grow
from polysense.nn.alignment import same_step
from tests.models.comet.tiny import tiny_comet, tiny_sequences

few = settings(max_examples=20, deadline=None)
small, seeds = st.integers(1, 7), st.integers(0, 10_000)


def drawn(seed: int, *sizes: int) -> Tensor:
    return torch.randn(*sizes, generator=torch.Generator().manual_seed(seed))


def codebook(seed: int, size: int, dim: int = 3, *, protected: int = 0, **options: object) -> Codebook:
    made = Codebook(size, dim, CodebookOptions(**options), protected=protected)  # type: ignore[arg-type]
    made.put(slice(None), drawn(seed, size, dim))
    return made


def state(of: Codebook) -> dict[str, Tensor]:
    return {name: each.clone() for name, each in of.state_dict().items()}


@few
@given(seeds, small, st.lists(small, min_size=1, max_size=3), st.integers(0, 6))
def test_growth_keeps_all_rows_and_the_frozen_codes_never_change(
    seed: int, size: int, growths: list[int], steps: int
) -> None:
    made, snapshots = codebook(seed, size, restart_after=1), []
    for number, rows in enumerate(growths):
        snapshots.append((FrozenCodes(made), made.embedding.clone()))
        grow(made, rows, drawn(seed + number, 9, 3), key=str(number))
        assert torch.equal(made.embedding[:-rows], snapshots[-1][1]) and made.protected == made.size - rows
        for step in range(steps):
            made({"a": drawn(seed + step, 2, 5, 3), "b": drawn(seed - step, 2, 5, 3)})
    assert all(torch.equal(frozen.embedding, before) for frozen, before in snapshots)


@few
@given(seeds, small, small, st.integers(1, 5))
def test_codes_that_are_protected_and_not_chosen_do_not_change_at_all(
    seed: int, size: int, rows: int, steps: int
) -> None:
    made = codebook(seed, size, restart_after=1)
    made.put(slice(None), made.embedding + 1e6)  # no step is near any of them
    grow(made, rows, drawn(seed, 9, 3))
    before = state(made)
    for step in range(steps):
        made({"a": drawn(seed + step, 2, 4, 3)})
    for name in ("embedding", "ema_sum", "ema_count"):
        assert torch.equal(state(made)[name][:size], before[name][:size]), name


@few
@given(seeds, small, small, st.integers(1, 5))
def test_old_codes_that_are_held_do_not_change_whatever_chooses_them(
    seed: int, size: int, rows: int, steps: int
) -> None:
    made = codebook(seed, size, restart_after=1, hold_protected=True)
    grow(made, rows, drawn(seed, 9, 3))
    before = state(made)
    for step in range(steps):
        made({"a": drawn(seed + step, 2, 4, 3), "b": drawn(seed - step, 2, 4, 3)})
    for name in ("embedding", "ema_sum", "ema_count"):
        assert torch.equal(state(made)[name][:size], before[name][:size]), name


@few
@given(seeds, small, small)
def test_a_match_has_the_frozen_vector_and_with_new_rows_at_infinity_all_match(
    seed: int, size: int, rows: int
) -> None:
    made = codebook(seed, size)
    frozen, old = FrozenCodes(made), made.embedding.clone()
    grow(made, rows, drawn(seed, 9, 3))
    made.put(slice(0, size), drawn(seed + 1, size, 3))  # whatever V2 made of them
    index, vectors, matched = frozen.match(made, drawn(seed + 2, 4, 5, 3))
    assert torch.equal(matched, index < size) and torch.equal(vectors[matched], old[index[matched]])
    assert torch.equal(vectors[~matched], made.embedding[index[~matched]])
    made.put(slice(size, size + rows), torch.full((rows, 3), 1e12))
    assert frozen.match(made, drawn(seed + 2, 4, 5, 3))[2].all()


@settings(max_examples=5, deadline=None)
@given(seeds, small)
def test_steps_that_match_old_codes_count_fully_and_others_by_the_weight_of_new_ones(seed: int, rows: int) -> None:
    model, text = tiny_comet("text", "video"), tiny_sequences("text", seed=seed)["text"]
    z, mask = model.encode("text", text).continuous, torch.ones(3, 4, dtype=torch.bool)
    replay = PseudoModality(model, "text")
    model.grow_codebook(rows, z.flatten(0, 1), seed=seed)
    matched = replay.codes.match(model.codebook, z)[2]
    assert torch.equal(replay(model, text, z, mask).weights, torch.where(matched, 1.0, math.exp(-6)))
    size = model.codebook.size
    model.codebook.put(slice(size - rows, size), torch.full((rows, 8), 1e12))
    assert (replay(model, text, z, mask).weights == 1).all()


@few
@given(seeds, st.integers(1, 9), st.integers(1, 8))
def test_gates_cost_nothing_when_uniform_and_most_when_one_expert_takes_everything(
    seed: int, rows: int, experts: int
) -> None:
    assert gate_balance(torch.full((rows, experts), 1 / experts)).item() == pytest.approx(0, abs=1e-6)
    alone = torch.zeros(rows, experts)
    alone[:, seed % experts] = 1
    assert gate_balance(alone).item() == pytest.approx(experts - 1, abs=1e-5)
    between = gate_balance(drawn(seed, rows, experts).softmax(dim=1)).item()
    assert -1e-6 <= between <= experts - 1 + 1e-5


@few
@given(seeds, small, st.floats(0, 100))
def test_ewc_costs_nothing_at_its_anchor_and_pulls_in_proportion_to_importance(
    seed: int, size: int, strength: float
) -> None:
    ewc, anchor, fisher = OnlineEwc(strength), drawn(seed, size), drawn(seed + 1, size).square()
    ewc.consolidate({"w": anchor}, {"w": fisher})
    assert ewc.penalty({"w": anchor}).item() == 0
    w = drawn(seed + 2, size).requires_grad_()
    ewc.penalty({"w": w}).backward()
    torch.testing.assert_close(w.grad, strength * fisher * (w.detach() - anchor), atol=1e-4, rtol=1e-4)


@few
@given(seeds, small, st.integers(1, 4))
def test_with_one_sense_the_average_is_that_of_plain_ema_vq(seed: int, size: int, steps: int) -> None:
    """Compared with loops over codes and steps, N and o from 1 and e on, for the codes that were chosen."""
    made, options = codebook(seed, size, restart_after=0), CodebookOptions()
    count, sums, codes = [1.0] * size, made.embedding.double(), made.embedding.double()
    for step in range(steps):
        z = drawn(seed + step, 2, 5, 3)
        rows = z.flatten(0, 1).double()
        chosen = [int((codes - row).square().sum(dim=1).argmin()) for row in rows]
        for code in set(chosen):
            members = [row for row, mine in zip(rows, chosen, strict=True) if mine == code]
            count[code] = options.decay * count[code] + (1 - options.decay) * len(members)
            sums[code] = options.decay * sums[code] + (1 - options.decay) * torch.stack(members).sum(dim=0)
        mass = sum(count)
        for code in set(chosen):
            smoothed = (count[code] + options.epsilon) / (mass + size * options.epsilon) * mass
            codes[code] = sums[code] / smoothed
        made({"a": z})
    torch.testing.assert_close(made.embedding.double(), codes, atol=1e-5, rtol=1e-4)


@few
@given(seeds, st.integers(1, 4), small)
def test_identical_senses_have_the_same_codes_and_terms(seed: int, senses: int, size: int) -> None:
    made, z = codebook(seed, size), drawn(seed, 2, 4, 3)
    features = {str(name): z for name in range(senses)}
    masks = {name: torch.ones(2, 4, dtype=torch.bool) for name in features}
    out = made(features, masks)
    codes = out.codes["0"]
    assert all(torch.equal(each, codes) for each in out.codes.values())
    total = commitment(features, out.codes, masks, beta=0.25, align=same_step)
    each = (z - codes).square().mean() * 0.25 * (3 if senses > 1 else 2)
    torch.testing.assert_close(total, senses * each)


@few
@given(seeds, st.integers(2, 9), small, st.integers(2, 4))
def test_constant_code_distributions_cost_the_logarithm_of_the_batch_per_pair(
    seed: int, batch: int, size: int, senses: int
) -> None:
    same = drawn(seed, size).softmax(dim=0).expand(batch, size)
    pairs = senses * (senses - 1) / 2
    found = cross_modal_code({str(name): same for name in range(senses)}).item()
    assert found == pytest.approx(pairs * math.log(batch), rel=1e-5)


@few
@given(seeds, st.integers(3, 7), st.integers(1, 3))
def test_a_restarted_code_stays_where_it_was_put_while_nobody_uses_it(seed: int, size: int, after: int) -> None:
    made = codebook(seed, size, restart_after=after, restart_noise=1e-3)
    made.put(slice(0, 2), torch.full((2, 3), 1e6))
    for step in range(after + 1):
        restarts = made({"a": drawn(seed + step, 2, 6, 3)}).restarts
    assert restarts >= 2
    before = made.embedding[:2].clone()
    assert (before.abs() < 1e3).all() and torch.equal(made.ema_sum[:2] / made.ema_count[:2, None], before)
    used = made({"a": drawn(seed - 1, 2, 6, 3)}).usage["a"][:2] > 0
    assert torch.equal(made.embedding[:2][~used], before[~used])
    assert (made.embedding[:2] - before).abs().max() < 10


@few
@given(seeds, small, st.integers(0, 2), st.integers(0, 3), st.booleans(), st.sampled_from([math.nan, math.inf]))
def test_a_broken_sample_moves_no_code(
    seed: int, size: int, sample: int, step: int, first: bool, broken: float
) -> None:
    made, reference = codebook(seed, size), codebook(seed, size)
    features = {"a": drawn(seed, 3, 4, 3), "b": drawn(seed + 1, 3, 4, 3)}
    others = [row for row in range(3) if row != sample]
    reference({name: each[others] for name, each in features.items()})
    features["a" if first else "b"][sample, step] = broken
    made(features)
    for name, each in state(reference).items():
        torch.testing.assert_close(state(made)[name], each)
        assert state(made)[name].isfinite().all()
