from __future__ import annotations

import json
from pathlib import Path

from polysense.testing.toy import ToyObjective, toy_mixture
from polysense.trainer import Hooks, LoopConfig, LoopState, train


def test_hooks_are_called_in_their_time_and_a_finished_run_ends_its_stage_again(tmp_path: Path) -> None:
    calls: list[str] = []

    def evaluate(state: LoopState) -> dict[str, float]:
        assert not state.objective.module.training
        calls.append(f"evaluate {state.step}")
        return {"accuracy": 0.5}

    hooks = Hooks(
        on_step_end=lambda state: calls.append(f"step {state.step}"),
        on_evaluate=evaluate,
        on_stage_end=lambda state: calls.append(f"end {state.step} {dict(state.metrics)}"),
    )
    settings = LoopConfig(steps=3, eval_every=2)
    train(ToyObjective(), toy_mixture(), settings, tmp_path, hooks=hooks)
    end = "end 3 {'accuracy': 0.5}"
    assert calls == ["step 1", "step 2", "evaluate 2", "step 3", "evaluate 3", end]
    calls.clear()
    result = train(ToyObjective(), toy_mixture(), settings, tmp_path, hooks=hooks)
    assert calls == ["evaluate 3", end] and result.metrics == {"accuracy": 0.5} and result.resumed_from == 3
    lines = [json.loads(line) for line in (tmp_path / "log.jsonl").read_text().splitlines()]
    assert {"event": "evaluate", "step": 2, "metrics": {"accuracy": 0.5}} in lines


def test_a_run_without_hooks_has_no_metrics(tmp_path: Path) -> None:
    assert train(ToyObjective(), toy_mixture(), LoopConfig(steps=1), tmp_path).metrics == {}
