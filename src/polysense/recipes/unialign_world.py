"""UniAlign reproduced on the embedded world: claims UA2, UA6, UA9, UA14 and UA15, with verdicts."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from polysense.data import Manifest, SampleDataset
from polysense.errors import ConfigError
from polysense.losses import label_similarity
from polysense.metrics import composed, match_ranks, recall_at, verdict
from polysense.modality import get_modality
from polysense.models.unialign import UniAlignModel
from polysense.recipes.cells import Cell, run_cells, settings_key
from polysense.recipes.claims import claim, exact_claim, interval, paired, undecided, write_report
from polysense.recipes.config import read_config
from polysense.recipes.demo import facts
from polysense.recipes.evaluation import Evaluator, unique_pool
from polysense.recipes.provenance import command, commit
from polysense.recipes.unialign import StageSettings, UniAlignRecipe, UniAlignRun
from polysense.report import evidence_markdown, plot_evidence
from polysense.trainer.unialign import ClassTable
from polysense.world import WorldSummary, load_world

SENSES = ("depth", "point_cloud", "video", "audio")
METHODS = ("joint", "incremental", "nce", "global", "bounds")
SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4, 5)
SHARE = (
    0.4,
    0.8,
)  # of a fully supervised model, that NCE alone is to reach: the world is neither too hard nor too easy
LEAST = 3.0  # times chance, that every added sense is to reach
COMPARED = {"UA6": ("joint", "global"), "UA9": ("joint", "nce")}
"""Claims that compare two methods: while undecided, these methods are run with more seeds (design.md section 8)."""

Records = Mapping[Cell, Mapping[str, Any]]


def recipe_of(cell: Cell, base: UniAlignRecipe) -> UniAlignRecipe:
    """The recipe of one cell; methods differ from "joint" in the one thing that their claim is about."""
    recipe = replace(base, seed=cell.seed)
    if cell.method == "incremental":
        stages = tuple(StageSettings(name=sense.replace("_", "-"), trains=(sense,)) for sense in SENSES)
        return replace(recipe, stages=stages, bounds=0)
    if cell.method == "nce":
        recipe = replace(recipe, objective=replace(recipe.objective, soft_bind=0.0))
    if cell.method == "global":
        recipe = replace(recipe, model={**recipe.model, "routing": "global"})
    return replace(recipe, bounds=0)


def work(cell: Cell, *, base: UniAlignRecipe, output: Path) -> dict[str, Any]:
    """One cell: train, score, and check that the anchor's image path has kept every bit."""
    run = UniAlignRun(recipe_of(cell, base), output / cell.name)
    if cell.method == "bounds":
        run.recipe = replace(base, seed=cell.seed)
        return {"bounds": {sense: run.bound(sense) for sense in SENSES}}
    before, processor = run.begin()
    images = run.recipe.evaluation.splits["test"][0].open(run.root)
    prints = [_fingerprint(Evaluator(before, processor, base.evaluation), images)]
    folder = run.run()
    model = UniAlignModel.from_pretrained(folder)
    evaluator = Evaluator(model, type(processor).from_pretrained(folder), base.evaluation)
    prints.append(_fingerprint(evaluator, images))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    return {
        "results": metrics["results"],
        "image_path_unchanged": prints[0] == prints[1],
        "composed": composed_queries(evaluator, run.root, base.evaluation.pool),
    }


def _fingerprint(evaluator: Evaluator, images: SampleDataset) -> str:
    return hashlib.sha256(evaluator.embed(images, "image").numpy().tobytes()).hexdigest()


def composed_queries(evaluator: Evaluator, root: Path, size: int) -> dict[str, dict[str, float]]:
    """UA14: text finds clips by sound and picture together; a form and a colour together find images with both."""
    clips = unique_pool(Manifest(root / "manifests/clips-test.jsonl", root=root), ["audio", "video"], size)
    texts = [f"{clips[i].captions['video'][0]} and {clips[i].captions['audio'][0]}" for i in range(len(clips))]
    queries = evaluator.encode_text(texts).cpu()
    senses = {sense: evaluator.embed(clips, sense) for sense in ("audio", "video")}
    senses["audio+video"] = composed(senses["audio"], senses["video"])
    found = {f"text to {name}": recall_at(match_ranks(queries, keys)) for name, keys in senses.items()}
    return {**found, **_form_and_colour(evaluator, root, size)}


def _form_and_colour(evaluator: Evaluator, root: Path, size: int) -> dict[str, dict[str, float]]:
    """Query: the depth map of a thing and the words of another colour. Right: an image of that shape and colour."""
    stills = unique_pool(Manifest(root / "manifests/stills-test.jsonl", root=root), ["image"], size)
    shown = [facts(str(stills[i].extra["semantics"]["image"])) for i in range(len(stills))]
    depth, images = evaluator.embed(stills, "depth"), evaluator.embed(stills, "image")
    asked: list[tuple[int, str]] = []
    for number, mine in enumerate(shown):
        others = sorted({each["colour"] for each in shown if each["shape"] == mine["shape"]} - {mine["colour"]})
        asked += [(number, others[number % len(others)])] if others else []
    words = evaluator.encode_text([f"a {colour} object" for _, colour in asked]).cpu()
    forms = depth[[number for number, _ in asked]]
    scores: dict[str, dict[str, float]] = {}
    for name, vectors in {"depth": forms, "colour": words, "depth+colour": composed(forms, words)}.items():
        similarity = vectors @ images.t()
        similarity[torch.arange(len(asked)), [number for number, _ in asked]] = -torch.inf
        best = similarity.topk(5, dim=-1).indices.tolist()
        hits = [
            [shown[i]["shape"] == shown[number]["shape"] and shown[i]["colour"] == colour for i in row]
            for row, (number, colour) in zip(best, asked, strict=True)
        ]
        scores[f"{name} to image"] = {"precision@5": fmean(fmean(map(float, row)) for row in hits),
                                      "hit@5": fmean(float(any(row)) for row in hits)}  # fmt: skip
    return scores


# ---- the report -----------------------------------------------------------------------------------------------------


def score(record: Mapping[str, Any], sense: str, split: str = "test", metric: str = "top1") -> Mapping[str, Any]:
    """The zero-shot figure of a cell."""
    return next(
        each for each in record["results"]
        if (each["task"], each["modality"], each["metric"]) == ("zero-shot classification", sense, metric)
        and each["dataset"].endswith(split)
    )  # fmt: skip


def _by_seed(records: Records, method: str, value: Callable[[Mapping[str, Any]], float]) -> dict[int, float]:
    return {cell.seed: value(records[cell]) for cell in sorted(records) if cell.method == method}


def _per_seed(records: Records, method: str, value: Callable[[Mapping[str, Any]], float]) -> list[float]:
    return list(_by_seed(records, method, value).values())


def _mean_top1(record: Mapping[str, Any]) -> float:
    return fmean(score(record, sense)["value"] for sense in SENSES)


def _differences(
    records: Records, better: str, worse: str, value: Callable[[Mapping[str, Any]], float]
) -> list[float]:
    return paired(_by_seed(records, better, value), _by_seed(records, worse, value))


def claims(records: Records, cost: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Every claim with its paired differences, their interval and the verdict (design.md section 8)."""

    def above_chance(record: Mapping[str, Any], split: str) -> float:
        found = [score(record, sense, split) for sense in SENSES]
        return float(min(each["value"] - LEAST * each["chance"] for each in found))

    def both_senses(record: Mapping[str, Any]) -> float:
        found = record["composed"]
        alone = max(found[f"text to {sense}"]["R@5"] for sense in ("audio", "video"))
        return float(found["text to audio+video"]["R@5"] - alone)

    def both_parts(record: Mapping[str, Any]) -> float:
        found = record["composed"]
        single = max(found[f"{name} to image"]["hit@5"] for name in ("depth", "colour"))
        return float(found["depth+colour to image"]["hit@5"] - single)

    differences = {
        "UA2": (
            "worst sense's top-1 minus three times chance",
            _per_seed(records, "joint", partial(above_chance, split="test")),
        ),
        "UA2 (compositional)": (
            "the same on combinations that no training sample has",
            _per_seed(records, "joint", partial(above_chance, split="compositional")),
        ),
        "UA6": ("grouping minus global routing, mean top-1", _differences(records, "joint", "global", _mean_top1)),
        "UA9": ("with minus without soft binding, mean top-1", _differences(records, "joint", "nce", _mean_top1)),
        "UA14 (A+V)": ("text to A+V minus the better single sense, R@5", _per_seed(records, "joint", both_senses)),
        "UA14 (Fig. 5)": ("depth + colour minus the better part, hit@5", _per_seed(records, "joint", both_parts)),
    }
    table = {name: claim(what, values) for name, (what, values) in differences.items()}
    ratios = [cost["flops_ratio"], cost["bytes_ratio"]]
    table["UA15"] = exact_claim(
        "FLOPs and bytes of encoding one sense with 8 senses in the model, divided by those with 2", ratios,
        holds=ratios == [1, 1],
    )  # fmt: skip
    return table


def by_sense(records: Records) -> dict[str, dict[str, dict[str, float | None]]]:
    """Where the compared methods differ: mean and 90 % interval of the paired difference of every sense's top-1."""
    table: dict[str, dict[str, dict[str, float | None]]] = {}
    for name, (better, worse) in COMPARED.items():
        for sense in SENSES:
            values = _differences(records, better, worse, partial(_value, sense=sense, split="test"))
            table.setdefault(name, {})[sense] = interval(values)
    return table


def held_to(records: Records) -> dict[str, Any]:
    """What every sense is held to, with means and intervals over the seeds, and verdicts.

    Returns:
        `nce_share`: sense to NCE alone as a share of full supervision, which is to lie within `SHARE`; `times_chance`:
        split, method and sense to top-1 divided by chance, which is to reach `LEAST`.
    """
    shares: dict[str, Any] = {}
    for sense in SENSES:
        bounds = _by_seed(records, "bounds", lambda record, s=sense: float(record["bounds"][s]))  # type: ignore[misc]
        reached = _by_seed(records, "nce", partial(_value, sense=sense, split="test"))
        values = [value / bounds[seed] for seed, value in reached.items() if seed in bounds]
        shares[sense] = _held(values, [min(value - SHARE[0], SHARE[1] - value) for value in values])
    times: dict[str, dict[str, dict[str, Any]]] = {}
    for split in ("test", "compositional"):
        for method in ("joint", "incremental"):
            for sense in SENSES:
                values = _per_seed(records, method, partial(_times_chance, sense=sense, split=split))
                held = _held(values, [value - LEAST for value in values])
                times.setdefault(split, {}).setdefault(method, {})[sense] = held
    return {"range": list(SHARE), "nce_share": shares, "least": LEAST, "times_chance": times}


def _held(values: Sequence[float], margins: Sequence[float]) -> dict[str, Any]:
    return {**interval(values), "values": list(values), "verdict": verdict(margins)}


def _times_chance(record: Mapping[str, Any], sense: str, split: str) -> float:
    found = score(record, sense, split)
    return float(found["value"] / found["chance"])


def bound_words(tables: Mapping[str, ClassTable], scale: float) -> dict[str, dict[str, float]]:
    """How much of soft binding's targets (Eq. 10) lies on classes that have a word in common with a sample's own.

    Data sets whose classes have no word in common are bound to one another by chance likenesses of their names.

    Args:
        tables: data set to its classes.
        scale: of the dot products.

    Returns:
        Data set to every other one to that share, from 0 to 1, the mean over its classes.
    """
    shares: dict[str, dict[str, float]] = {}
    for name, own in tables.items():
        for other_name, other in tables.items():
            if name != other_name:
                targets = label_similarity(own.embeddings, other.embeddings, scale)
                common = torch.tensor([[bool({*a.split()} & {*b.split()}) for b in other.names] for a in own.names])
                shares.setdefault(name, {})[other_name] = float((targets.cpu() * common).sum(dim=1).mean())
    return shares


def cost_of_senses(anchor: Path) -> dict[str, int | float]:
    """UA15, exactly: FLOPs and touched parameter bytes of encoding depth with two and with eight senses."""
    flops, touched = [], []
    for count in (2, 8):
        senses = [replace(get_modality("depth"), name=f"depth{i}") for i in range(count)]
        model = UniAlignModel.from_clip(anchor, senses)
        size = model.config.vision.image_size
        with FlopCounterMode(display=False) as counter:
            model.embed("depth0", torch.zeros(4, 1, size, size)).sum().backward()
        flops.append(counter.get_total_flops())
        own = [p for name, p in model.named_parameters() if p.grad is not None or name.startswith("clip.vision")]
        touched.append(sum(p.numel() * p.element_size() for p in own))
    return {"flops": flops[0], "flops_ratio": flops[1] / flops[0], "bytes": touched[0],
            "bytes_ratio": touched[1] / touched[0]}  # fmt: skip


def summary(
    records: Records, cost: Mapping[str, Any], words: Mapping[str, Mapping[str, float]]
) -> dict[str, Any]:  # fmt: skip
    """Everything that the report's JSON, table and plots are made of: scores over the seeds that all methods have."""
    everything, claimed = records, claims(records, cost)
    unchanged = all(record["image_path_unchanged"] for cell, record in records.items() if cell.method != "bounds")
    seeds = set.intersection(*({cell.seed for cell in records if cell.method == method} for method in METHODS))
    records = {cell: record for cell, record in records.items() if cell.seed in seeds}
    senses: dict[str, Any] = {}
    for sense in SENSES:
        bounds = _per_seed(records, "bounds", lambda r, s=sense: float(r["bounds"][s]))  # type: ignore[misc]
        entry: dict[str, Any] = {"bound": interval(bounds)}
        for split in ("test", "compositional"):
            for method in ("joint", "incremental", "nce", "global"):
                read = partial(_value, sense=sense, split=split)
                values = _per_seed(records, method, read)
                row = {**interval(values), "values": values}
                if split == "test":
                    row["share_of_bound"] = fmean(v / b for v, b in zip(values, bounds, strict=True))
                entry.setdefault(split, {})[method] = row
            first = next(records[cell] for cell in sorted(records) if cell.method == "joint")
            entry[split]["chance"] = score(first, sense, split)["chance"]
        senses[sense] = entry
    return {
        "command": command(), "commit": commit(), "seeds": sorted(seeds),
        "senses": senses, "held_to": held_to(records), "image_path_unchanged": unchanged, "cost": dict(cost),
        "claims": claimed,
        "by_sense": by_sense(everything), "bound_words": {name: dict(row) for name, row in words.items()},
        "composed": {cell.name: record["composed"] for cell, record in records.items() if cell.method == "joint"},
    }  # fmt: skip


def _value(record: Mapping[str, Any], sense: str, split: str) -> float:
    return float(score(record, sense, split)["value"])


def _binding(base: UniAlignRecipe, output: Path) -> tuple[Mapping[str, ClassTable], float]:
    """The classes that the joint phase binds to one another, and the scale at which it does."""
    run = UniAlignRun(recipe_of(Cell("joint", 0), base), output)
    model, processor = run.begin()
    for sense in SENSES:
        run.add(model, processor, sense)
    objective = run.objective(model, processor, list(base.sources))
    given = objective.settings.binding_scale
    return objective.tables, float(model.logit_scale) if given is None else given


def run(
    reports: Path, output: Path, check: Callable[[WorldSummary], None], *, config: str = "world",
    seeds: Sequence[int] = SEEDS, more_seeds: Sequence[int] = MORE_SEEDS, workers: int = 2,
) -> Path:  # fmt: skip
    """Run the missing cells and write `unialign-world.json`, its tables (.md) and plot (.png); the path is returned.

    Args:
        reports: folder of reports; cells go to `reports/unialign-world`, by recipe and world.
        output: folder for checkpoints and the world.
        check: refuses a world that is not the frozen one (`calibration.check_frozen`).
        seeds: of every method.
        more_seeds: of those methods whose comparison the former leave undecided.

    Raises:
        ConfigError: fewer than two seeds, from which no interval follows.
    """
    if len(seeds) < 2:
        raise ConfigError(f"a report on {len(seeds)} seed has no interval", fix="Give at least two seeds.")
    base = read_config(UniAlignRecipe, "unialign", config, [f"data_root={output / 'world'}"])
    anchor = UniAlignRun(replace(base, bounds=0), output).anchor
    world = load_world(output / "world")
    check(world)
    base = replace(base, anchor=str(anchor), world=None)
    key, cost = settings_key(base, world.content_hash), cost_of_senses(anchor)
    does = partial(work, base=base, output=output / key)
    compute = partial(run_cells, work=does, folder=reports / "unialign-world" / key, workers=workers)
    records = compute([Cell(method, seed) for seed in seeds for method in METHODS])
    open_methods = undecided(claims(records, cost), COMPARED)
    records |= compute([Cell(method, seed) for seed in more_seeds for method in open_methods])
    report = summary(records, cost, bound_words(*_binding(base, output / key / "binding")))
    return write_report(reports / "unialign-world.json", report, evidence_markdown(report), plot_evidence(report))


__all__ = ["claims", "run", "summary"]
