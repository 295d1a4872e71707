from __future__ import annotations

import torch

from polysense.nn.common_specific import CommonSpecificExperts
from polysense.nn.sequence_encoder import SemanticEncoder
from polysense.nn.snapshot import Snapshot


def test_a_snapshot_holds_one_senses_way_and_ignores_later_training() -> None:
    semantic = SemanticEncoder(5, 8, layers=1, heads=2, hidden=8, dropout=0.5, maps=False, recurrent=False)
    adapter = CommonSpecificExperts(8, 2, ["text", "audio"])
    snapshot, x = Snapshot(semantic, adapter, "text"), torch.randn(2, 3, 5)
    before = snapshot(x, None)
    with torch.no_grad():
        adapter.common.weight.add_(1.0)
        semantic.project.weight.add_(1.0)
    assert torch.equal(snapshot.train()(x, None), before), "no dropout, no drift"
    assert not any("audio" in name or each.requires_grad for name, each in snapshot.named_parameters())


def test_without_an_adapter_it_is_the_encoder_alone() -> None:
    semantic = SemanticEncoder(5, 8, layers=1, heads=2, hidden=8, dropout=0.0, maps=False, recurrent=True)
    snapshot, x = Snapshot(semantic, None, "text"), torch.randn(2, 3, 5)
    torch.testing.assert_close(snapshot(x, None), semantic(semantic.front(x, None), None))
