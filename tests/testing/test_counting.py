from __future__ import annotations

import torch
from torch import nn

from polysense.testing.counting import flops, parameter_bytes, saved_bytes


def test_flops_of_a_product_by_hand() -> None:
    assert flops(lambda: torch.ones(2, 3) @ torch.ones(3, 5)) == 2 * 2 * 3 * 5


def test_only_parameters_that_are_read_count_and_count_once() -> None:
    model = nn.ModuleDict({"used": nn.Linear(3, 4), "idle": nn.Linear(30, 40)})
    x = torch.ones(2, 3)
    assert parameter_bytes(model, lambda: model["used"](model["used"](x)[:, :3])) == 4 * (3 * 4 + 4)


def test_saved_bytes_leave_parameters_out_and_count_a_storage_once() -> None:
    layer, x = nn.Linear(3, 4), torch.ones(2, 3)
    parameters = list(layer.parameters())
    assert saved_bytes(lambda: layer(x), parameters) == 4 * 2 * 3
    assert saved_bytes(lambda: layer(x) + layer(x[:1]), parameters) == 4 * 2 * 3
    hidden = torch.ones(2, 3, requires_grad=True)
    assert saved_bytes(lambda: hidden.sigmoid(), parameters) == 4 * 2 * 3
