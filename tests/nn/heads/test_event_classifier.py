from __future__ import annotations

import torch

from polysense.nn.heads import EventClassifier


def identity_head() -> EventClassifier:
    head = EventClassifier(2, 2)
    for layer in (head.project, head.classify):
        torch.nn.init.eye_(layer.weight)
        torch.nn.init.zeros_(layer.bias)
    return head


def test_each_class_takes_its_strongest_second() -> None:
    codes = torch.tensor([[[1.0, -2.0], [0.5, 3.0], [-4.0, 0.0]]])
    assert identity_head()(codes).tolist() == [[1.0, 3.0]]


def test_padding_takes_no_part() -> None:
    codes = torch.tensor([[[-1.0, -2.0], [9.0, 9.0]]])
    assert identity_head()(codes, torch.tensor([[True, False]])).tolist() == [[-1.0, -2.0]]


def test_the_length_of_sequences_is_free_and_their_order_does_not_matter() -> None:
    head, codes = EventClassifier(4, 3), torch.randn(2, 7, 4)
    torch.testing.assert_close(head(codes), head(codes[:, torch.randperm(7)]))
    assert head(codes[:, :1]).shape == (2, 3)
