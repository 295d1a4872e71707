from __future__ import annotations

import pytest
import torch

from polysense.errors import ConfigError, FeatureShapeError
from polysense.nn.codebook import Codebook, CodebookOptions
from polysense.nn.codebook_growth import MAX_CODES, FrozenCodes, grow


def trained(size: int = 4, dim: int = 3) -> Codebook:
    made = Codebook(size, dim, CodebookOptions(restart_after=0))
    made.start_from(torch.randn(20, dim))
    for _ in range(3):
        made({"a": torch.randn(2, 5, dim)})
    return made


def test_growing_keeps_the_old_rows_to_the_last_bit_and_protects_them() -> None:
    made = trained()
    before = {name: each.clone() for name, each in made.state_dict().items()}
    grow(made, 2, torch.randn(30, 3))
    assert made.size == 6 and made.protected == 4
    for name in ("embedding", "ema_sum", "ema_count", "unused_steps"):
        assert torch.equal(made.state_dict()[name][:4], before[name]), name
    torch.testing.assert_close(made.ema_sum[4:] / made.ema_count[4:, None], made.embedding[4:])


def test_a_codebook_does_not_grow_beyond_what_a_config_may_say() -> None:
    made = trained()
    with pytest.raises(ConfigError, match="of 4 codes cannot grow by 999997"):
        grow(made, MAX_CODES - 3)
    assert made.size == 4 and made.protected == 0


def test_the_frozen_codes_never_move_whatever_becomes_of_the_codebook() -> None:
    made = trained()
    frozen, before = FrozenCodes(made), made.embedding.clone()
    grow(made, 3, torch.randn(30, 3))
    for _ in range(5):
        made({"a": torch.randn(2, 5, 3)})
    assert torch.equal(frozen.embedding, before) and not torch.equal(made.embedding[:4], before)


def test_a_match_is_the_old_codes_vector_and_not_what_became_of_it() -> None:
    made = Codebook(2, 1)
    made.put(slice(None), torch.tensor([[0.0], [10.0]]))
    frozen = FrozenCodes(made)
    grow(made, 1, torch.tensor([[99.0], [100.0]]))
    made.put(slice(0, 2), torch.tensor([[3.0], [12.0]]))
    index, vector, matched = frozen.match(made, torch.tensor([[[1.0], [10.5], [80.0]]]))
    assert index.tolist() == [[0, 1, 2]] and matched.tolist() == [[True, True, False]]
    assert vector[0, :2].flatten().tolist() == [0.0, 10.0] and vector[0, 2] >= 99


def test_with_new_rows_at_infinity_every_step_is_matched() -> None:
    made = trained()
    frozen = FrozenCodes(made)
    grow(made, 2)
    made.put(slice(4, 6), torch.full((2, 3), 1e12))
    assert frozen.match(made, torch.randn(4, 7, 3))[2].all()


def test_new_codes_come_from_vectors_far_from_every_old_one() -> None:
    made = Codebook(2, 1)
    made.put(slice(None), torch.tensor([[0.0], [1.0]]))
    near, far = torch.tensor([[0.0], [1.0], [1.0], [0.0]]), torch.tensor([[50.0], [60.0]])
    grow(made, 2, torch.cat([near, far]))
    assert sorted(made.embedding[2:].flatten().tolist()) == [50.0, 60.0]


@pytest.mark.parametrize("rows", [0, -3, True])
def test_growing_by_nothing_or_by_what_is_no_whole_number_is_refused(rows: int) -> None:
    made = trained()
    with pytest.raises(ConfigError, match="cannot grow by"):
        grow(made, rows)
    assert (made.size, made.protected) == (4, 0)


@pytest.mark.parametrize("shape", [(5, 2), (0, 3)])
def test_vectors_of_another_shape_change_nothing(shape: tuple[int, int]) -> None:
    made = trained()
    before = made.embedding
    for change in (lambda vectors: grow(made, 2, vectors), made.start_from):
        with pytest.raises(FeatureShapeError, match="fit no code of width 3"):
            change(torch.randn(shape))
    assert made.embedding is before and made.protected == 0 and made.updates == 3


def test_constant_vectors_grow_nothing() -> None:
    made = trained()
    with pytest.raises(FeatureShapeError, match="all the same"):
        grow(made, 2, torch.ones(5, 3))
    assert made.size == 4


def test_a_codebook_that_does_not_continue_the_frozen_one_is_refused() -> None:
    with pytest.raises(ConfigError, match="does not continue"):
        FrozenCodes(trained()).match(Codebook(2, 3), torch.randn(1, 1, 3))
