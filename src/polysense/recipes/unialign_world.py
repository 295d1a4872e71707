"""UniAlign reproduced on the embedded world: claims UA2, UA6, UA9, UA14 and UA15, with verdicts.

What is finished is kept: the report may be made in several sittings, and says of a claim whose cells are missing that
it was not measured.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, partial
from pathlib import Path
from statistics import fmean
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from polysense.data import Manifest, SampleDataset
from polysense.errors import ConfigError
from polysense.losses import label_similarity
from polysense.metrics import composed, match_ranks, recall_at
from polysense.modality import get_modality
from polysense.models.base import local_folder
from polysense.models.unialign import UniAlignModel
from polysense.recipes.anchors import AnchorRecipe
from polysense.recipes.cells import (
    ALL,
    Cell,
    Chosen,
    chosen,
    finished_cells,
    parts_name,
    run_cells,
    settings_key,
    unit_name,
)
from polysense.recipes.claims import undecided, write_report
from polysense.recipes.config import read_config
from polysense.recipes.demo import facts
from polysense.recipes.evaluation import Evaluator, unique_pool
from polysense.recipes.provenance import command, commit
from polysense.recipes.sources import WorldSettings
from polysense.recipes.unialign import StageSettings, UniAlignRecipe, UniAlignRun
from polysense.recipes.unialign_claims import (
    BOUNDS,
    COMPARED,
    METHODS,
    SENSES,
    Records,
    by_sense,
    claims,
    held_to,
    sense_table,
)
from polysense.report import evidence_markdown, plot_evidence
from polysense.trainer.unialign import ClassTable
from polysense.world import WorldSummary, load_world

SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4, 5)


# ---- cells ----------------------------------------------------------------------------------------------------------


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
    run = UniAlignRun(recipe_of(cell, base), output / cell.parts / cell.name)
    if cell.method == BOUNDS:
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


# ---- what an anchor alone decides -----------------------------------------------------------------------------------


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


def _binding(base: UniAlignRecipe, output: Path) -> tuple[Mapping[str, ClassTable], float]:
    """The classes that the joint phase binds to one another, and the scale at which it does."""
    run = UniAlignRun(recipe_of(Cell("joint", 0), base), output)
    model, processor = run.begin()
    for sense in SENSES:
        run.add(model, processor, sense)
    objective = run.objective(model, processor, list(base.sources))
    given = objective.settings.binding_scale
    return objective.tables, float(model.logit_scale) if given is None else given


def measure_anchor(base: UniAlignRecipe, output: Path) -> dict[str, Any]:
    """What the report says of the anchor and of no cell, and by which command and commit it does."""
    anchor = Path(base.anchor)
    return {
        "cost": cost_of_senses(anchor), "bound_words": bound_words(*_binding(base, output / "binding")),
        "anchor": {"command": command(), "commit": commit(), "parts": parts_name([anchor])},
    }  # fmt: skip


def told_of_anchor(report: Path, key: str) -> dict[str, Any]:
    """The same as a former report of this setting has it, for want of an anchor; nothing if there is none."""
    former = json.loads(report.read_text(encoding="utf-8")) if report.exists() else {}
    if former.get("key", key) != key:
        former = {}
    by = former.get("anchor", {name: former[name] for name in ("command", "commit") if name in former})
    return {"cost": former.get("cost"), "bound_words": former.get("bound_words", {}), "anchor": by}


# ---- what cells begin with ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cells rest on, before anything is made.

    Attributes:
        recipe: as its config has it, with the place of the world.
        world: what is built there.
        key: of recipe, anchor and world, wherever they lie.
        output: folder of checkpoints.
    """

    recipe: UniAlignRecipe
    world: WorldSettings
    key: str
    output: Path

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this setting's cells go."""
        return self.output / "unialign" / self.key

    @property
    def begun(self) -> bool:
        """Whether world and anchor are there, so that nothing has to be trained to look at them."""
        anchor = _elsewhere(self.recipe.anchor) or (self.output / "anchor").exists()
        return anchor and Path(self.recipe.data_root, "world.json").exists()

    def built(self) -> WorldSummary:
        """The world, built if need be."""
        root = Path(self.recipe.data_root)
        self.world.build(root)
        return load_world(root)

    def base(self) -> UniAlignRecipe:
        """The recipe with its anchor trained, which all seeds share, as a folder."""
        anchor = UniAlignRun(replace(self.recipe, bounds=0), self.output).anchor
        return replace(self.recipe, anchor=str(local_folder(anchor, {}).resolve()), world=None)


def setting(config: str, output: Path) -> Setting:
    """Tell what the cells of a recipe are called by."""
    recipe = read_config(UniAlignRecipe, "unialign", config)
    world, anchor = recipe.world or WorldSettings(), recipe.anchor
    trained = anchor if _elsewhere(anchor) else chosen(read_config(AnchorRecipe, "anchors", anchor))
    key = settings_key(replace(recipe, data_root=""), trained, world.config.content_hash)
    root = str(world.folder(output).resolve())
    return Setting(recipe=replace(recipe, data_root=root), world=world, key=key, output=output)


def _elsewhere(anchor: str) -> bool:
    """Whether an anchor is a folder or a Hub name, and no config."""
    return Path(anchor).exists() or "/" in anchor


# ---- the report -----------------------------------------------------------------------------------------------------


def summary(records: Records, anchor: Mapping[str, Any]) -> dict[str, Any]:
    """Everything that the report's JSON, table and plots are made of.

    Args:
        records: all cells.
        anchor: see `measure_anchor`.
    """
    kept = [record["image_path_unchanged"] for cell, record in records.items() if cell.method != BOUNDS]
    return {
        "command": command(), "commit": commit(),
        "seeds": [*map(unit_name, sorted({cell.unit for cell in records}))],
        "senses": sense_table(records), "held_to": held_to(records),
        "image_path_unchanged": all(kept) if kept else None,
        "claims": claims(records, anchor["cost"]), "by_sense": by_sense(records), **anchor,
        "composed": {
            cell.file.with_suffix("").as_posix(): record["composed"]
            for cell, record in records.items() if cell.method == "joint"
        },
    }  # fmt: skip


def run(
    reports: Path, output: Path, check: Callable[[WorldSummary], None], *, config: str = "world",
    only: Chosen = ALL, seeds: Sequence[int] = SEEDS, more_seeds: Sequence[int] = MORE_SEEDS, workers: int = 2,
) -> Path:  # fmt: skip
    """Run the missing cells and write `unialign-world.json`, its tables (.md) and plot (.png); the path is returned.

    Args:
        reports: folder of reports; cells go to `reports/unialign-world`, by recipe and world.
        output: folder for checkpoints and the world.
        check: refuses a world that is not the frozen one (`calibration.check_frozen`), where anything is computed.
        only: compute these alone; without a method, only report on what is there, for which nothing is made.
        seeds: of every method.
        more_seeds: of those methods whose comparison the former leave undecided.

    Raises:
        ConfigError: fewer than two seeds, from which no interval follows; an unknown method, or any order.
    """
    if len(seeds) < 2:
        raise ConfigError(f"a report on {len(seeds)} seed has no interval", fix="Give at least two seeds.")
    only.check(METHODS)
    found = setting(config, output)
    folder, path = reports / "unialign-world" / found.key, reports / "unialign-world.json"

    @cache
    def begin() -> UniAlignRecipe:
        check(found.built())
        return found.base()

    def compute(cells: Sequence[Cell]) -> None:
        wanted = [cell for cell in cells if cell in only]
        if wanted:
            base = begin()
            parts, does = parts_name([Path(base.anchor)]), partial(work, base=base, output=found.folder)
            run_cells([replace(cell, parts=parts) for cell in wanted], does, folder, workers=workers)

    compute([Cell(method, seed) for seed in seeds for method in METHODS])
    still_open = undecided(claims(finished_cells(folder), None), COMPARED)
    compute([Cell(method, seed) for seed in more_seeds for method in still_open])
    anchor = measure_anchor(begin(), found.folder) if found.begun else told_of_anchor(path, found.key)
    report = {**summary(finished_cells(folder), anchor), "key": found.key}
    return write_report(path, report, evidence_markdown(report), plot_evidence(report))


__all__ = ["Setting", "recipe_of", "run", "setting", "summary", "work"]
