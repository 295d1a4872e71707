from __future__ import annotations

import time

from eval.performance.interleaved import WARM_UPS, environment, interleaved


def test_both_sides_are_called_in_turn_after_the_warm_up() -> None:
    calls: list[str] = []

    def slow() -> None:
        calls.append("peer")
        time.sleep(0.004)

    row = interleaved("x", slow, lambda: calls.append("ours"), 3)
    assert calls == ["peer", "ours"] * (3 + WARM_UPS)
    assert row.peer_min >= 4 and row.ratio > 1 and row.line().startswith("x: peer ")
    assert environment()["cores"] >= 1
