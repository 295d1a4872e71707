from __future__ import annotations

import torch

from polysense.nn.heads import EventLocaliser


def test_every_second_is_judged_by_itself() -> None:
    head, codes = EventLocaliser(4, 3), torch.randn(2, 5, 4)
    logits = head(codes)
    assert logits.shape == (2, 5, 3)
    torch.testing.assert_close(logits[:, 2:3], head(codes[:, 2:3]))


def test_the_head_is_two_linear_maps() -> None:
    head, codes = EventLocaliser(4, 3), torch.randn(2, 5, 4)
    weight = head.classify.weight @ head.project.weight
    bias = head.classify.weight @ head.project.bias + head.classify.bias
    torch.testing.assert_close(head(codes), codes @ weight.t() + bias)
