"""The claims of MERA's paper on relative gains, each as a figure per seed that is above zero if the claim stands."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean
from typing import Any

from polysense.recipes.cells import Unit
from polysense.recipes.claims import claim, unmeasured
from polysense.recipes.mera_gains import SeedGains

BOTH = ("sequential", "reverse")
RIVALS = ("fine-tuning", "replay-1", "replay-10", "ewc", "pathweave")
MERA = ("mera-1", "mera-10")
REALIGNED = {
    "ME10": "fine-tuning", "ME11": "replay-1", "ME12": "replay-10", "ME13": "ewc", "ME14": "pathweave",
    "ME15": "merging",
}  # fmt: skip
"""Claims that realigning improves a method (Table 5)."""

HEAVY, NEARLY_LOSSLESS, COMPARABLE, MARGIN = 0.65, 0.97, 0.1, 0.1
"""What "loses heavily" (the upper end of the world's calibration), "nearly lossless", "comparable" and "ten points or
more" are taken to be, as shares."""


@dataclass(frozen=True, kw_only=True)
class GainClaim:
    """A claim that relative gains decide.

    Attributes:
        measure: what is computed, in words.
        value: the figure of one seed.
        methods: those that it needs, in every order of `orders`; while it is undecided they get more seeds.
    """

    measure: str
    value: Callable[[SeedGains], float]
    methods: tuple[str, ...]
    orders: tuple[str, ...] = BOTH


def realigned(method: str) -> str:
    """The method that also realigns on 10 %; merging with it is MERA."""
    return "mera-10" if method == "merging" else f"{method}-realigned"


def _worse(value: Callable[[str], float]) -> float:
    """The order in which it is lower: what is claimed of both has to hold there."""
    return min(map(value, BOTH))


def _mean(value: Callable[[str], float]) -> float:
    return fmean(map(value, BOTH))


def _best(seed: SeedGains, order: str, place: int = 1) -> float:
    """Mean backward gain of the best rival of this seed, or of the second best."""
    return sorted((seed.mean(rival, order) for rival in RIVALS), reverse=True)[place - 1]


def _over_rivals(order: str) -> GainClaim:
    return GainClaim(
        measure=f"MERA (10 %) minus the seed's best rival minus ten points, mean backward gain, {order}",
        value=lambda seed: seed.mean("mera-10", order) - _best(seed, order) - MARGIN,
        methods=(*RIVALS, "mera-10"), orders=(order,),
    )  # fmt: skip


def _later_drops(seed: SeedGains, method: str, order: str) -> float:
    """The fall at the second stage minus the largest one after it."""
    gains = seed.backward(method, order)
    falls = [before - after for before, after in pairwise(gains)]
    return falls[0] - max(falls[1:])


def _plasticity(seed: SeedGains, method: str) -> float:
    """Forward gain after the first stage, mean of stages and orders (Fig. 3)."""
    return _mean(lambda order: fmean(seed.forward(method, order)[1:]))


def _early_transfer(seed: SeedGains) -> float:
    """Forward gain before the last stage, of the methods that the paper names (section 5.6)."""
    methods = ("ewc", "pathweave", *MERA)
    return fmean(_mean(lambda order, m=method: fmean(seed.forward(m, order)[1:-1])) for method in methods) - 1  # type: ignore[misc]


CLAIMS: Mapping[str, GainClaim] = {
    "ME1": GainClaim(
        measure=f"{HEAVY} (where the calibration ends) minus fine-tuning, mean backward gain, both orders",
        value=lambda seed: HEAVY - _mean(lambda order: seed.mean("fine-tuning", order)), methods=("fine-tuning",),
    ),
    "ME2": _over_rivals("sequential"),
    "ME3": _over_rivals("reverse"),
    "ME4": GainClaim(
        measure="MERA (1 %) minus the seed's best rival, mean backward gain, worse order",
        value=lambda seed: _worse(lambda order: seed.mean("mera-1", order) - _best(seed, order)),
        methods=(*RIVALS, "mera-1"),
    ),
    "ME5": GainClaim(
        measure=f"MERA (10 %)'s backward gain after the last stage, both orders, minus {NEARLY_LOSSLESS}",
        value=lambda seed: _mean(lambda order: seed.backward("mera-10", order)[-1]) - NEARLY_LOSSLESS,
        methods=("mera-10",),
    ),
    "ME6": GainClaim(
        measure="smallest deviation of all others minus MERA (10 %)'s, worse order",
        value=lambda seed: _worse(
            lambda order: min(seed.deviation(m, order) for m in (*RIVALS, "mera-1")) - seed.deviation("mera-10", order)
        ),
        methods=(*RIVALS, *MERA),
    ),
    "ME7": GainClaim(
        measure="merging alone minus the seed's second best rival, mean backward gain, worse order",
        value=lambda seed: _worse(lambda order: seed.mean("merging", order) - _best(seed, order, 2)),
        methods=(*RIVALS, "merging"),
    ),
    "ME8": GainClaim(
        measure="realigning alone minus fine-tuning, mean backward gain, worse order",
        value=lambda seed: _worse(
            lambda order: seed.mean("fine-tuning-realigned", order) - seed.mean("fine-tuning", order)
        ),
        methods=("fine-tuning", "fine-tuning-realigned"),
    ),
    "ME9": GainClaim(
        measure="both together minus the better of merging and realigning, mean backward gain, worse order",
        value=lambda seed: _worse(
            lambda order: seed.mean("mera-10", order)
            - max(seed.mean("merging", order), seed.mean("fine-tuning-realigned", order))
        ),
        methods=("mera-10", "merging", "fine-tuning-realigned"),
    ),
    **{
        f"{name} ({what})": claimed
        for name, method in REALIGNED.items()
        for what, claimed in (
            ("mean", GainClaim(
                measure=f"{method}: with minus without realigning, mean backward gain, worse order",
                value=lambda seed, m=method: _worse(  # type: ignore[misc]
                    lambda order: seed.mean(realigned(m), order) - seed.mean(m, order)
                ),
                methods=(method, realigned(method)),
            )),
            ("stability", GainClaim(
                measure=f"{method}: without minus with realigning, deviation over the stages, worse order",
                value=lambda seed, m=method: _worse(  # type: ignore[misc]
                    lambda order: seed.deviation(m, order) - seed.deviation(realigned(m), order)
                ),
                methods=(method, realigned(method)),
            )),
        )
    },
    "ME16 (EWC and PathWeave)": GainClaim(
        measure="lower of EWC and PathWeave minus the best of the others, mean forward gain, both orders",
        value=lambda seed: min(_plasticity(seed, m) for m in ("ewc", "pathweave"))
        - max(_plasticity(seed, m) for m in ("fine-tuning", "replay-1", "replay-10", *MERA)),
        methods=(*RIVALS, *MERA),
    ),
    "ME16 (MERA)": GainClaim(
        measure="MERA (10 %) minus the mean of EWC and PathWeave plus ten points, mean forward gain, both orders",
        value=lambda seed: _plasticity(seed, "mera-10")
        - fmean(_plasticity(seed, m) for m in ("ewc", "pathweave")) + COMPARABLE,
        methods=("ewc", "pathweave", "mera-10"),
    ),
    "ME19": GainClaim(
        measure="fall of the backward gain at stage 2 minus the largest later one, mean of methods, both orders",
        value=lambda seed: fmean(_later_drops(seed, m, order) for m in (*RIVALS, *MERA) for order in BOTH),
        methods=(*RIVALS, *MERA),
    ),
    "ME20": GainClaim(
        measure="MERA (10 %) with the language model frozen minus unfrozen while realigning, both orders",
        value=lambda seed: _mean(lambda order: seed.mean("mera-10", order) - seed.mean("mera-10-unfrozen", order)),
        methods=("mera-10", "mera-10-unfrozen"),
    ),
    "ME21": GainClaim(
        measure="forward gain before the last stage minus 1, mean of EWC, PathWeave and MERA, both orders",
        value=_early_transfer, methods=("ewc", "pathweave", *MERA),
    ),
}  # fmt: skip

AIMS: Mapping[str, GainClaim] = {
    f"aim ({order})": GainClaim(
        measure=f"MERA (10 %) minus {least}, mean backward gain, {order}",
        value=lambda seed, order=order, least=least: seed.mean("mera-10", order) - least,  # type: ignore[misc]
        methods=("mera-10",), orders=(order,),
    )
    for order, least in zip(BOTH, (0.97, 0.93), strict=True)
}  # fmt: skip
"""What MERA is to keep on the world."""
COMPARED: Mapping[str, tuple[str, ...]] = {name: each.methods for name, each in CLAIMS.items()}


def gain_claims(seeds: Mapping[Unit, SeedGains]) -> dict[str, dict[str, Any]]:
    """Every claim and aim with its figure by seed, interval and verdict; or which of its methods were not run."""
    return {name: _judged(each, seeds) for name, each in {**CLAIMS, **AIMS}.items()}


def _judged(each: GainClaim, seeds: Mapping[Unit, SeedGains]) -> dict[str, Any]:
    values = [each.value(seed) for seed in seeds.values() if seed.has(each.methods, each.orders)]
    if values:
        return claim(each.measure, values)
    lacking = _lacking(each, seeds.values())
    return unmeasured(each.measure, f"no seed has all of its methods; missing: {', '.join(lacking)}")


def _lacking(each: GainClaim, seeds: Iterable[SeedGains]) -> list[str]:
    seeds = list(seeds)
    return [m for m in each.methods if not any(seed.has((m,), each.orders) for seed in seeds)] or ["a common seed"]


__all__ = ["AIMS", "CLAIMS", "COMPARED", "gain_claims"]
