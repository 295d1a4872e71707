from __future__ import annotations

import torch
from torch import nn

from polysense.nn.starts import named_draws, reset_own, start_anew


def test_a_start_depends_on_its_key_alone() -> None:
    first, again, other = (nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4)) for _ in range(3))
    for part, key in ((first, "0/depth"), (again, "0/depth"), (other, "1/depth")):
        start_anew(part, key)
    weights = [part.state_dict() for part in (first, again, other)]
    assert torch.equal(weights[0]["0.weight"], weights[1]["0.weight"])
    assert not torch.equal(weights[0]["0.weight"], weights[2]["0.weight"])
    assert torch.equal(weights[0]["1.weight"], torch.ones(4))


def test_the_callers_numbers_are_taken_up_again() -> None:
    expected = torch.rand(2)
    torch.manual_seed(0)
    first = torch.rand(1)
    with named_draws("audio"):
        inside = torch.rand(1)
    assert torch.equal(torch.cat([first, torch.rand(1)]), expected)
    assert not torch.equal(inside, expected[1:])


def test_modules_without_a_reset_are_left_alone() -> None:
    part = nn.ModuleDict({"a": nn.Identity()})
    reset_own(part)
    start_anew(part, "key")
    assert list(part) == ["a"]
