"""What MERA and its rivals cost (Table 3): training as its cells measured it, inference on their last checkpoints."""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from polysense.models.mera import MeraForConditionalGeneration
from polysense.recipes.cells import Cell, Unit
from polysense.recipes.claims import claim, exact_claim, unmeasured
from polysense.recipes.mera_claims import BOTH, MERA, RIVALS
from polysense.recipes.mera_gains import Records

COST, BASE, PLAIN = "cost", "language model alone", "fine-tuning"
_PROMPT, _TOKENS, _REPEATS = 64, 16, 9
_STATUS, _CLEAR = Path("/proc/self/status"), Path("/proc/self/clear_refs")


class PeakMemory:
    """Most memory that this process had resident since this was made, where the system tells (Linux)."""

    def __init__(self) -> None:
        try:
            _CLEAR.write_text("5")
            self._told = True
        except OSError:
            self._told = False

    def mib(self) -> float | None:
        """In mebibytes; `None` where nobody tells."""
        if not self._told:
            return None
        lines = dict(line.split(":", 1) for line in _STATUS.read_text(encoding="utf-8").splitlines() if ":" in line)
        return int(lines["VmHWM"].split()[0]) / 1024


# ---- inference ------------------------------------------------------------------------------------------------------


def inference_cost(folders: Mapping[str, Path], llm: Path) -> dict[str, dict[str, int | float]]:
    """Bytes of the language model, FLOPs and milliseconds per generated token, of checkpoints and of the bare model.

    All are timed in turn, call by call, in this process; the fastest of nine rounds counts.

    Args:
        folders: name to checkpoint.
        llm: the language model that all of them began with.
    """
    models = {BASE: MeraForConditionalGeneration.from_parts(llm).eval()}
    models |= {name: MeraForConditionalGeneration.from_pretrained(folder) for name, folder in folders.items()}
    best = dict.fromkeys(models, float("inf"))
    for _ in range(_REPEATS):
        for name, model in models.items():
            best[name] = min(best[name], _decode(model, _TOKENS))
    return {
        name: {"bytes": _language_bytes(model), "flops": _flops(model), "milliseconds": 1000 * best[name] / _TOKENS}
        for name, model in models.items()
    }


def _language_bytes(model: MeraForConditionalGeneration) -> int:
    """Of every weight once, tied ones too."""
    own = {id(p): p for part in (model.model.language_model, model.lm_head) for p in part.parameters()}
    return sum(p.numel() * p.element_size() for p in own.values())


@torch.no_grad()
def _decode(model: MeraForConditionalGeneration, tokens: int) -> float:
    """Seconds that some tokens take after a prompt."""
    out = model(input_ids=torch.full((1, _PROMPT), 5), use_cache=True)
    begun = time.perf_counter()
    for _ in range(tokens):
        out = model(input_ids=torch.full((1, 1), 5), cache=out.cache, use_cache=True)
    return time.perf_counter() - begun


def _flops(model: MeraForConditionalGeneration) -> int:
    """Of one token after the prompt."""
    with torch.no_grad():
        out = model(input_ids=torch.full((1, _PROMPT), 5), use_cache=True)
        with FlopCounterMode(display=False) as counter:
            model(input_ids=torch.full((1, 1), 5), cache=out.cache, use_cache=True)
    return int(counter.get_total_flops())


# ---- table and claims -----------------------------------------------------------------------------------------------


def _training(records: Records, method: str, unit: Unit) -> tuple[float, float] | None:
    """Seconds of all stages and mebibytes at the peak, mean of both orders, divided by fine-tuning's."""
    ratios = []
    for order in BOTH:
        own, plain = (records.get(Cell(name, unit[0], order, unit[1])) for name in (method, PLAIN))
        if own is None or plain is None:
            return None
        seconds = [sum(stage["seconds"] for stage in each["stages"]) for each in (own, plain)]
        peaks = [each.get("peak_mib") or float("nan") for each in (own, plain)]
        ratios.append((seconds[0] / seconds[1], peaks[0] / peaks[1]))
    return fmean(each[0] for each in ratios), fmean(each[1] for each in ratios)


def _training_by_seed(records: Records, method: str, what: int) -> dict[Unit, float]:
    units = sorted({cell.unit for cell in records})
    found = {unit: ratios[what] for unit in units if (ratios := _training(records, method, unit)) is not None}
    return {unit: value for unit, value in found.items() if value == value}  # no peaks where the system tells none


def _inference_by_seed(records: Records, method: str, what: str, beside: str) -> list[float]:
    cells = [records[cell]["inference"] for cell in sorted(records) if cell.method == COST]
    return [each[method][what] / each[beside][what] for each in cells if method in each]


def cost_table(records: Records) -> dict[str, dict[str, float | None]]:
    """Method to its costs as multiples of fine-tuning's, means of all seeds (Table 3); `None` was not measured."""
    table: dict[str, dict[str, float | None]] = {}
    for method in (*RIVALS, *MERA):
        table[method] = {
            "training memory": _or_none(_training_by_seed(records, method, 1).values()),
            "training time": _or_none(_training_by_seed(records, method, 0).values()),
            "inference memory": _or_none(_inference_by_seed(records, method, "bytes", PLAIN)),
            "latency per token": _or_none(_inference_by_seed(records, method, "milliseconds", PLAIN)),
        }
    return table


def _or_none(values: Collection[float]) -> float | None:
    return fmean(values) if values else None


def cost_claims(records: Records) -> dict[str, dict[str, Any]]:
    """ME17 and ME18, with the paper's ratios and a tolerance of five points."""
    times = {method: _training_by_seed(records, method, 0).values() for method in MERA}
    memory = {method: _training_by_seed(records, method, 1) for method in ("mera-10", "ewc", "pathweave")}
    both = memory["ewc"].keys() & memory["pathweave"].keys()
    more = [min(memory["ewc"][unit], memory["pathweave"][unit]) - 1 for unit in sorted(both)]
    latency = _inference_by_seed(records, "mera-10", "milliseconds", BASE)
    slower = _inference_by_seed(records, "pathweave", "milliseconds", BASE)
    exact = [
        ratio for what in ("bytes", "flops") for ratio in _inference_by_seed(records, "mera-10", what, BASE)
    ]  # fmt: skip
    sized = "bytes of the language model and FLOPs per token of MERA (10 %), divided by the bare model's"
    return {
        "ME17 (time, 1 %)": _claim("1.07 minus training time of MERA (1 %) / fine-tuning's",
                                   [1.07 - ratio for ratio in times["mera-1"]]),
        "ME17 (time, 10 %)": _claim("1.20 minus training time of MERA (10 %) / fine-tuning's",
                                    [1.20 - ratio for ratio in times["mera-10"]]),
        "ME17 (memory)": _claim("1.05 minus peak memory in training of MERA (10 %) / fine-tuning's",
                                [1.05 - ratio for ratio in memory["mera-10"].values()]),
        "ME17 (EWC and PathWeave)": _claim("lower peak memory of EWC and PathWeave / fine-tuning's, minus 1", more),
        "ME18 (size)": exact_claim(sized, exact, holds=set(exact) == {1.0}) if exact
        else unmeasured(sized, "no checkpoint was measured"),
        "ME18 (latency)": _claim("1.05 minus time per token of MERA (10 %) / the bare model's",
                                 [1.05 - ratio for ratio in latency]),
        "ME18 (PathWeave)": _claim("time per token of PathWeave / the bare model's, minus 1",
                                   [ratio - 1 for ratio in slower]),
    }  # fmt: skip


def _claim(measure: str, values: Sequence[float]) -> dict[str, Any]:
    return claim(measure, values) if values else unmeasured(measure, "no seed has the cells that it needs")


__all__ = ["PeakMemory", "cost_claims", "cost_table", "inference_cost"]
