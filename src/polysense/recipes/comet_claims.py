"""The claims of COMET's paper, each as a figure per seed that is above zero if the claim stands.

Every claim is judged twice: of COMET as it is printed, and of the recommended recipe, whose teacher is frozen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from polysense.metrics import UNDECIDED, mean_interval
from polysense.recipes.cells import Cell, Unit
from polysense.recipes.claims import by_number, claim, unmeasured
from polysense.recipes.comet_scores import CARRIED, SeedScores
from polysense.recipes.comet_variants import (
    COMET,
    FIRST,
    NUMBERS,
    PRINTED,
    REMOVALS,
    SECOND,
    SETTINGS,
    SPOKEN,
    full,
    named,
    with_experts,
    without,
)

WORDS: Mapping[str, str] = {PRINTED: "as printed", COMET: "frozen teacher"}
REMOVED = {"CO11": "replay", "CO12": "experts", "CO13": "gate", "CO14": "ewc", "CO15": "specific"}
AS_WELL, KEPT, LEARNED, DEAD = 0.01, 0.85, 0.85, 0.05
"""What "at least as well" allows, and the aim: the share of the first pair that is kept, of what DCID learns, and of
codes that may be dead."""


@dataclass(frozen=True, kw_only=True)
class ScoreClaim:
    """A claim that scores decide.

    Attributes:
        measure: what is computed, in words.
        value: the figure of one seed.
        methods: those that it needs, in every order of `orders`; while it is undecided they get more seeds.
        needs: a score that each of them has to have at some stage, where not every run has it.
        above: a score of which one of the methods has to be above chance at the end: of two guesses none is better.
    """

    measure: str
    value: Callable[[SeedScores], float]
    methods: tuple[str, ...]
    orders: tuple[str, ...] = (FIRST,)
    needs: tuple[str, ...] = ()
    above: str = ""

    def can_be_judged(self, seed: SeedScores) -> bool:
        """Whether a seed has all that the figure is made of."""
        return seed.has(self.methods, self.orders) and all(
            seed.course(score, method, order)
            for score in self.needs for method in self.methods for order in self.orders
        )  # fmt: skip

    def guesses(self, seeds: Sequence[SeedScores]) -> bool:
        """Whether these seeds leave it open that none of the methods is above chance."""
        if not self.above or len(seeds) < 2:
            return False
        best = [max(seed.excess(self.above, method, order)[-1] for method in self.methods for order in self.orders)
                for seed in seeds]  # fmt: skip
        return mean_interval(best)[1] <= 0


def _transfer(seed: SeedScores, method: str, order: str = FIRST) -> float:
    """What Table 1 has above chance, mean of stages 2 and 3."""
    return fmean(seed.at(CARRIED, method, order, stage) for stage in (2, 3))


def _unseen(seed: SeedScores, method: str) -> float:
    """What Table 6 (video-audio, both stages) and Table 8 (image-audio) have above chance, together."""
    averages = (seed.at(CARRIED, method, FIRST, 2), seed.at(CARRIED, method, FIRST, 3))
    return fmean((*averages, max(0.0, seed.excess("I-A", method, FIRST)[-1])))


def _later(seed: SeedScores, pair: str, method: str, order: str) -> list[float]:
    """Retrieval of the first stage's pair after the stages that follow."""
    return seed.course(pair, method, order)[1:]


def _over(
    rival: str, setting: str, measure: str, value: Callable[[SeedScores, str], float], order: str = FIRST,
    needs: tuple[str, ...] = ("transfer",), above: str = "",
) -> ScoreClaim:  # fmt: skip
    """A rival with COMET minus the rival alone."""
    better = named(rival, setting)
    return ScoreClaim(
        measure=f"{rival.upper()} with minus without COMET, {measure}", orders=(order,), needs=needs, above=above,
        value=lambda seed: value(seed, better) - value(seed, rival), methods=(rival, better),
    )  # fmt: skip


def _gains(setting: str) -> dict[str, ScoreClaim]:
    """CO1 to CO10 and CO17: what COMET adds."""

    def at(measure: str, stage: int, order: str = FIRST) -> Callable[[SeedScores, str], float]:
        return lambda seed, method: seed.at(measure, method, order, stage)

    def worst_later(pair: str, order: str) -> ScoreClaim:
        better = full(setting)
        return ScoreClaim(
            measure=f"DCID with minus without COMET, {pair} retrieval, worse of stages 2 and 3, {order}",
            value=lambda seed: min(
                own - bare
                for own, bare in zip(_later(seed, pair, better, order), _later(seed, pair, "dcid", order), strict=True)
            ),
            methods=("dcid", better), orders=(order,), needs=(pair,),
        )  # fmt: skip

    image = _over("dcid", setting, "image-text retrieval at stage 3, plus a point", at("I-T", 3), needs=("I-T",))
    return {
        "CO1": _over("dcid", setting, "Table 1 above chance after stage 2", at(CARRIED, 2)),
        "CO2": _over("dcid", setting, "Table 1 above chance after stage 3", at(CARRIED, 3)),
        "CO3": _over("turn", setting, "Table 1 above chance, mean of stages 2 and 3", _transfer),
        "CO4": _over("cmcm", setting, "Table 1 above chance, mean of stages 2 and 3", _transfer),
        "CO5 (transfer)": _over(
            "dcid", setting, f"Table 1 above chance, mean of stages 2 and 3, {SECOND}",
            lambda seed, method: _transfer(seed, method, SECOND), SECOND,
        ),
        "CO5 (first pair)": worst_later("A-T", SECOND),
        "CO6": worst_later("V-T", FIRST),
        "CO7": _over("dcid", setting, "audio-text retrieval after stage 3", at("A-T", 3), needs=("A-T",)),
        "CO8": ScoreClaim(
            measure=image.measure, value=lambda seed: image.value(seed) + AS_WELL, methods=image.methods,
            needs=image.needs,
        ),
        "CO9": _over(
            "dcid", setting, "image-audio retrieval after stage 3", at("I-A", 3), needs=("I-A",), above="I-A"
        ),
        "CO10": _over(
            "dcid", setting, "J&F of masks asked by speech, mean of stages 2 and 3",
            lambda seed, method: fmean(seed.at("segmentation J&F", method, SPOKEN, stage) for stage in (2, 3)),
            SPOKEN, ("segmentation J&F",),
        ),
        "CO17 (shared)": _over(
            "dcid", setting, "share of codes active in two senses or three, after stage 2",
            lambda seed, method: sum(seed.at(f"codes in {level}", method, FIRST, 2) for level in (2, 3)),
            needs=("codes in 2",),
        ),
        "CO17 (none)": ScoreClaim(
            measure="DCID without minus with COMET, share of codes active in no sense, after stage 2",
            value=lambda seed: at("codes in 0", 2)(seed, "dcid") - at("codes in 0", 2)(seed, full(setting)),
            methods=("dcid", full(setting)), needs=("codes in 0",),
        ),
    }  # fmt: skip


def _removals(setting: str) -> dict[str, ScoreClaim]:
    """CO11 to CO15: what each part is for."""
    whole, parts = full(setting), {part: without(setting, part) for part in REMOVALS}

    def loss(seed: SeedScores, part: str, value: Callable[[SeedScores, str], float] = _unseen) -> float:
        return value(seed, whole) - value(seed, parts[part])

    claims = {
        name: ScoreClaim(
            measure=f"COMET minus COMET without {REMOVALS[part].label}, Tables 6 and 8 above chance",
            value=lambda seed, part=part: loss(seed, part),  # type: ignore[misc]
            methods=(whole, parts[part]), needs=("transfer", "I-A"),
        )
        for name, part in REMOVED.items()
    }  # fmt: skip
    claims["CO11 (most)"] = ScoreClaim(
        measure="loss without replay minus the largest without another part, Table 6 above chance",
        value=lambda seed: loss(seed, "replay", _transfer)
        - max(loss(seed, part, _transfer) for part in REMOVED.values() if part != "replay"),
        methods=(whole, *(parts[part] for part in REMOVED.values())), needs=("transfer",),
    )  # fmt: skip
    return claims


def _numbers(setting: str) -> dict[str, ScoreClaim]:
    """CO16: more experts help up to six, and then no more."""
    whole = full(setting)

    def over(end: int) -> ScoreClaim:
        other = with_experts(setting, end)
        return ScoreClaim(
            measure=f"six experts minus {end}, Table 1 above chance, mean of stages 2 and 3",
            value=lambda seed: _transfer(seed, whole) - _transfer(seed, other), methods=(whole, other),
            needs=("transfer",),
        )  # fmt: skip

    return {"CO16 (rises)": over(NUMBERS[0]), "CO16 (falls)": over(NUMBERS[-1])}


def _aims(setting: str) -> dict[str, ScoreClaim]:
    """What the recommended recipe is to reach: nearly all is kept, and nearly all is learned."""
    method = full(setting)

    def learned(pair: str) -> ScoreClaim:
        return ScoreClaim(
            measure=f"{pair} retrieval as it is learned, above chance, as a share of DCID's, minus {LEARNED}",
            value=lambda seed: (
                seed.excess(pair, method, FIRST)[0] / max(seed.excess(pair, "dcid", FIRST)[0], 1e-9) - LEARNED
            ),
            methods=("dcid", method), needs=(pair,), above=pair,
        )  # fmt: skip

    def alive(stage: int) -> ScoreClaim:
        return ScoreClaim(
            measure=f"{DEAD} minus the share of codes that no sense chooses once, after stage {stage}",
            value=lambda seed: DEAD - seed.at("dead codes", method, FIRST, stage), methods=(method,),
            needs=("dead codes",),
        )  # fmt: skip

    return {
        "aim (retention)": ScoreClaim(
            measure=f"share of the first stage's video-text retrieval, above chance, after stage 3, minus {KEPT}",
            value=lambda seed: seed.kept("V-T", method, FIRST) - KEPT, methods=(method,), needs=("V-T",),
        ),
        "aim (dead codes, stage 2)": alive(2), "aim (dead codes, stage 3)": alive(3),
        "aim (plasticity, A-T)": learned("A-T"), "aim (plasticity, I-T)": learned("I-T"),
    }  # fmt: skip


def _worded(name: str, setting: str) -> str:
    """A claim's name with the reading of COMET that it is judged on."""
    start, bracket, rest = name.partition(" (")
    return f"{start} ({rest.removesuffix(')')}, {WORDS[setting]})" if bracket else f"{name} ({WORDS[setting]})"


def _claims() -> dict[str, ScoreClaim]:
    every = {
        _worded(name, setting): each
        for setting in reversed(SETTINGS)
        for kind in (_gains, _removals, _numbers, _aims)
        for name, each in kind(setting).items()
    }
    return by_number(every, "CO")


CLAIMS: Mapping[str, ScoreClaim] = _claims()


def score_claims(seeds: Mapping[Unit, SeedScores]) -> dict[str, dict[str, Any]]:
    """Every claim with its figure by seed, interval and verdict; or what of it was not measured."""
    return {name: _judged(each, seeds) for name, each in CLAIMS.items()}


def undecided_cells(table: Mapping[str, Mapping[str, Any]], seeds: Sequence[int]) -> list[Cell]:
    """The cells of further seeds that undecided claims need."""
    open_claims = [CLAIMS[name] for name, each in table.items() if each["verdict"] == UNDECIDED]
    wanted = {
        (order, method): None for each in open_claims for order in each.orders for method in each.methods
    }  # fmt: skip
    return [Cell(method, seed, order) for seed in seeds for order, method in wanted]


def _judged(each: ScoreClaim, seeds: Mapping[Unit, SeedScores]) -> dict[str, Any]:
    judged = [seed for seed in seeds.values() if each.can_be_judged(seed)]
    if each.guesses(judged):
        return unmeasured(each.measure, f"no method's {each.above} is clear of chance, so none can be better")
    if judged:
        return claim(each.measure, [each.value(seed) for seed in judged])
    lacking = [m for m in each.methods if not any(seed.has((m,), each.orders) for seed in seeds.values())]
    what = ", ".join(lacking) or "a common seed, or their scores"
    return unmeasured(each.measure, f"no seed has all of its methods; missing: {what}")


__all__ = ["CLAIMS", "ScoreClaim", "score_claims", "undecided_cells"]
