"""MERA reproduced on the embedded world: rivals, ablations and MERA in two orders; claims ME1 to ME21, with verdicts.

The recipe is `training/mera/world.yaml`. All cells of a seed share a folder, so that whatever they have in common is
trained once: the first stage of every order, which is the expert of its sense.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any

from polysense.errors import ConfigError
from polysense.recipes import mera_cost, unialign
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
from polysense.recipes.claims import by_number, undecided, write_report
from polysense.recipes.config import import_modules, read_config
from polysense.recipes.encoders import is_elsewhere, net_recipe
from polysense.recipes.llama_anchor import LlamaRecipe
from polysense.recipes.mera import MeraRun
from polysense.recipes.mera_claims import BOTH, COMPARED, MERA, RIVALS, gain_claims
from polysense.recipes.mera_config import MeraRecipe
from polysense.recipes.mera_gains import (
    APART,
    EXPERT,
    ONE_ENCODER,
    SIX,
    Records,
    expert,
    gain_tables,
    gains_by_seed,
    raw_scores,
)
from polysense.recipes.provenance import command, commit
from polysense.recipes.sources import WorldSettings
from polysense.recipes.turns import taking_turns
from polysense.recipes.unialign import UniAlignRecipe
from polysense.report import gains_markdown, plot_gains
from polysense.storage import fingerprint
from polysense.world import WorldSummary, load_world

SENSES = ("image", "video", "audio", "point_cloud")
ORDERS: Mapping[str, Sequence[str]] = {
    **dict(zip(BOTH, (SENSES, SENSES[::-1]), strict=True)),
    ONE_ENCODER: SENSES,
    SIX: (*SENSES, "depth", "thermal"),
}
MERGING = "merging"
BEYOND = (MERGING, *APART)
"""What may be computed beyond the paper: other merge methods, one encoder for all senses, six senses."""
SEEDS, MORE_SEEDS = (0, 1, 2), (3, 4, 5)


@dataclass(frozen=True, kw_only=True)
class Method:
    """What a method changes in the recipe.

    Attributes:
        label: its name in the paper's tables.
        learning: the recipe's `method`.
        merge: the recipe's `merge`.
        replay: share of earlier data that joins the second phase.
        realign: share that realigning replays; `None`: no realigning.
        unfrozen: realigning trains the language model too, at a tenth of its LoRA's rate, as LLaVA's scripts do.
    """

    label: str
    learning: Mapping[str, Any] = field(default_factory=lambda: {"name": "fresh_lora"})
    merge: str | None = None
    replay: float = 0.0
    realign: float | None = None
    unfrozen: bool = False


_BARE = {
    "fine-tuning": Method(label="Fine-tuning"),
    "replay-1": Method(label="Replay (1 %)", replay=0.01),
    "replay-10": Method(label="Replay (10 %)", replay=0.1),
    "ewc": Method(label="EWC", learning={"name": "ewc"}),
    "pathweave": Method(label="PathWeave", learning={"name": "pathweave"}),
}
METHODS: Mapping[str, Method] = {
    **_BARE,
    "mera-1": Method(label="MERA (1 %)", merge="running_average", realign=0.01),
    "mera-10": Method(label="MERA (10 %)", merge="running_average", realign=0.1),
    "merging": Method(label="Merging", merge="running_average"),
    **{
        f"{name}-realigned": replace(bare, label=f"{bare.label} + realigning", realign=0.1)
        for name, bare in _BARE.items()
    },
    "mera-10-unfrozen": Method(
        label="MERA (10 %), unfrozen", merge="running_average", realign=0.1, unfrozen=True
    ),
}  # fmt: skip
MERGED: Mapping[str, Method] = {
    f"mera-10-{name}": Method(label=f"MERA (10 %), {name}", merge=name, realign=0.1)
    for name in ("task_arithmetic", "ties", "dare", "slerp")
}
"""Beyond the paper: MERA with other merge methods."""


def recipe_of(cell: Cell, base: MeraRecipe) -> MeraRecipe:
    """The recipe of one cell: its order, its seed and what its method changes; an expert learns one sense."""
    if cell.method == EXPERT:
        sense = cell.order.rpartition("-")[2]
        return replace(base, seed=cell.seed, stages=(sense,), merge=None, realign=None)
    method = {**METHODS, **MERGED}[cell.method]
    realign = base.realign
    if realign is None:
        raise ConfigError("the recipe does not realign", where="realign", fix="Give its learning rate and length.")
    if method.unfrozen:
        rate = base.joint.learning_rates["language_model"] / 10
        realign = replace(realign, learning_rates={**realign.learning_rates, "language_model": rate})
    return replace(
        base, seed=cell.seed, stages=tuple(ORDERS[cell.order]), merge=method.merge, method=dict(method.learning),
        joint=replace(base.joint, replay=method.replay),
        realign=None if method.realign is None else replace(realign, replay=method.realign),
    )  # fmt: skip


# ---- a cell ---------------------------------------------------------------------------------------------------------


def work(cell: Cell, *, bases: Mapping[str, MeraRecipe], output: Path) -> dict[str, Any]:
    """One cell: every stage's scores, steps, seconds and hashes of the language model, and the peak of memory.

    Args:
        bases: recipe of the paper's four senses by "", and of orders that have another.
        output: folder of all cells' checkpoints.
    """
    base, folder = bases.get(cell.order.partition("-")[0], bases[""]), output / f"seed{cell.seed}"
    import_modules(base.imports)
    if cell.method == mera_cost.COST:
        last = {name: trained(Cell(name, cell.seed, cell.order), base, folder)[-1] for name in (*RIVALS, *MERA)}
        return {"inference": mera_cost.inference_cost(last, Path(base.llm))}
    memory = mera_cost.PeakMemory()
    stages = trained(cell, base, folder)
    record = {"stages": [_stage(stage) for stage in stages], "peak_mib": memory.mib()}
    for stage in stages:
        shutil.rmtree(folder / "training" / stage.name, ignore_errors=True)  # it is finished, and disks are not
    return record


def trained(cell: Cell, base: MeraRecipe, folder: Path) -> list[Path]:
    """The stage folders of a cell's run; the first stage is left to one process, for others have it too."""
    recipe = recipe_of(cell, base)
    with taking_turns(folder / "first" / recipe.stages[0]):
        MeraRun(replace(recipe, stages=recipe.stages[:1]), folder).run()
    return MeraRun(recipe, folder).run()


def _stage(folder: Path) -> dict[str, Any]:
    stage = json.loads((folder / "stage.json").read_text(encoding="utf-8"))
    metrics = json.loads((folder / "metrics.json").read_text(encoding="utf-8"))
    kept = {key: stage[key] for key in ("name", "trained", "steps", "seconds", "hashes")}
    return {**kept, "results": metrics["results"]}


def language_model_kept(records: Records) -> bool:
    """Whether realigning left the language model as it was, to the last bit, in all cells where it has to."""
    frozen = [record for cell, record in records.items() if cell.method != "mera-10-unfrozen"]
    hashes = [stage["hashes"] for record in frozen for stage in record.get("stages", ())]
    before = "language model before realigning"
    return all(each[before] == each["language model"] for each in hashes if before in each)


# ---- what cells begin with ------------------------------------------------------------------------------------------


@dataclass(frozen=True, kw_only=True)
class Setting:
    """What all cells rest on, before anything but the world is made.

    Attributes:
        recipe: as its config has it, with the place of the world.
        world: its content.
        key: of recipe, world, and the configs of language model and encoders.
        output: folder of checkpoints.
    """

    recipe: MeraRecipe
    world: WorldSummary
    key: str
    output: Path

    @property
    def folder(self) -> Path:
        """Where the checkpoints of this setting's cells go."""
        return self.output / "mera" / self.key

    def base(self) -> MeraRecipe:
        """The recipe with its language model and its encoders trained, which all seeds share, as folders."""
        run = MeraRun(self.recipe, self.output / "mera" / self._parts)
        senses = {
            name: replace(each, encoder=str(run.encoder(each.encoder).resolve()))
            for name, each in self.recipe.senses.items()
        }
        store = str((self.output / "frozen-tokens").resolve())
        llm = str(Path(run.llm or "").resolve())
        return replace(self.recipe, llm=llm, senses=senses, frozen_store=store, world=None)

    @property
    def _parts(self) -> str:
        return f"parts-{settings_key(parts_settings(self.recipe), self.world.content_hash)}"

    def one_encoder(self, base: MeraRecipe) -> MeraRecipe:
        """The recipe with the UniAlign checkpoint as the encoder of every sense."""
        like = base.senses["image"]
        return replace(base, senses=dict.fromkeys(SENSES, like))

    def six(self, base: MeraRecipe) -> MeraRecipe:
        """The recipe of the chain of six senses: their encoder has learned `thermal`, which is not in the library."""
        like, config = base.senses["image"], self.recipe.senses["image"].encoder.rpartition(":")[2]
        source = "{modality: thermal, anchors: [image], data: {manifest: manifests/train-thermal.jsonl}}"
        encoder = unialign.run(config, self.folder / "thermal", [
            f"anchor={like.encoder}", f"data_root={base.data_root}", "world=null", "bounds=0",
            f"sources={{thermal: {source}}}", "stages=[{name: thermal, trains: [thermal]}]",
        ], ["thermal"])  # fmt: skip
        whole = str(encoder.resolve())
        senses = {sense: replace(base.senses.get(sense, like), encoder=whole, processor={}) for sense in ORDERS[SIX]}
        more = [sense for sense in ORDERS[SIX] if sense not in base.senses]
        scenes, asked = base.sources["image"], base.evaluation.tests["image"]  # the same ones, by another sense
        tests = {**base.evaluation.tests, **{sense: replace(asked, modality=sense) for sense in more}}
        return replace(
            base, senses=senses, imports=("thermal",), evaluation=replace(base.evaluation, tests=tests),
            sources={**base.sources, **{sense: replace(scenes, modality=sense) for sense in more}},
        )  # fmt: skip


def setting(config: str, output: Path) -> Setting:
    """Build the world of a recipe, and tell what its cells are called by."""
    recipe = read_config(MeraRecipe, "mera", config)
    world = recipe.world or WorldSettings()
    folder = world.folder(output)
    recipe = replace(recipe, data_root=str(folder.resolve()))
    world.build(folder)
    built = load_world(folder)
    key = settings_key(replace(recipe, data_root=""), parts_settings(recipe), built.content_hash)
    return Setting(recipe=recipe, world=built, key=key, output=output)


def parts_settings(recipe: MeraRecipe) -> dict[str, Any]:
    """Configs of the language model and of the encoders; folders and repositories stand for themselves."""
    found = {"llm": _settings(LlamaRecipe, recipe.llm)}
    for name in sorted({each.encoder for each in recipe.senses.values()}):
        system, _, config = name.rpartition(":")
        if system == "unialign":
            own = read_config(UniAlignRecipe, "unialign", config)
            found[name] = [chosen(own), _settings(AnchorRecipe, own.anchor)]
        elif system == "net":
            found[name] = chosen(net_recipe(name))
        else:
            found[name] = _settings(AnchorRecipe, name)
    return found


def _settings(kind: Any, name: str) -> Any:
    """What a config of `training/anchors` says, or the name of what is there already."""
    return name if is_elsewhere(name) else chosen(read_config(kind, "anchors", name))


# ---- the report -----------------------------------------------------------------------------------------------------


def cells_of(seeds: Sequence[int], methods: Sequence[str]) -> list[Cell]:
    """Experts first, then what the paper compares and then all others, in both orders, seed by seed."""
    compared = [method for method in methods if method in (*RIVALS, *MERA)]
    others = [method for method in methods if method not in compared]
    return [
        *(expert(BOTH[0], sense, seed) for seed in seeds for sense in SENSES),
        *(Cell(method, seed, order)
          for group in (compared, others) for seed in seeds for order in BOTH for method in group),
    ]  # fmt: skip


def claims(records: Records) -> dict[str, dict[str, Any]]:
    """All claims in the order of their numbers, then the aims."""
    table = {**gain_claims(gains_by_seed(records, ORDERS)), **mera_cost.cost_claims(records)}
    return by_number(table, "ME")


def summary(records: Records) -> dict[str, Any]:
    """Everything that the report's JSON, tables and plots are made of."""
    methods = {**METHODS, **MERGED}
    return {
        "command": command(), "commit": commit(),
        "seeds": [*map(unit_name, sorted({cell.unit for cell in records}))],
        "orders": {name: list(order) for name, order in ORDERS.items()},
        "methods": {name: method.label for name, method in methods.items()},
        "raw": raw_scores(records, ORDERS),
        "gains": gain_tables(gains_by_seed(records, ORDERS), ORDERS), "cost": mera_cost.cost_table(records),
        "language_model_unchanged": language_model_kept(records), "claims": claims(records),
    }  # fmt: skip


def run(
    reports: Path, output: Path, check: Callable[[Setting], None], *, config: str = "world",
    only: Chosen = ALL, seeds: Sequence[int] = SEEDS, beyond: Sequence[str] = (), workers: int = 2,
) -> Path:  # fmt: skip
    """Run the missing cells and write `mera-world.json`, its tables (.md) and plots (.png); the path is returned.

    Args:
        reports: folder of reports; cells go to `reports/mera-world`, by recipe and world.
        output: folder for checkpoints, the world and frozen tokens.
        check: refuses a world or a recipe that is not the calibrated one (`mera_calibration.check_calibrated`).
        only: compute these alone, whose methods may also be "expert" and "cost"; with none, only report on what
            is there.
        seeds: of every method; those whose comparison they leave undecided get `MORE_SEEDS`.
        beyond: also these of `BEYOND`, on the first seed; for six senses the module `thermal`, which registers one of
            them, has to be importable.

    Raises:
        ConfigError: fewer than two seeds, from which no interval follows; or an unknown method, order or extension.
    """
    if len(seeds) < 2:
        raise ConfigError(f"a report on {len(seeds)} seed has no interval", fix="Give at least two seeds.")
    orders = dict.fromkeys(cell.order for cell in (*cells_of(seeds, list(METHODS)), *beyond_cells(seeds[0])))
    only.check((EXPERT, mera_cost.COST, *METHODS, *MERGED), orders)
    if unknown := sorted(set(beyond) - set(BEYOND)):
        raise ConfigError(f"nothing beyond the paper is called {unknown[0]!r}", where="beyond",
                          fix=f"Known: {', '.join(BEYOND)}.")  # fmt: skip
    found = setting(config, output)
    check(found)
    base, folder = found.base(), reports / "mera-world" / found.key
    bases = {"": base}
    does = partial(work, bases=bases, output=found.folder)
    encoders = {sense: each.encoder for sense, each in found.recipe.senses.items()}
    folders = {"language model": base.llm, **{encoders[sense]: each.encoder for sense, each in base.senses.items()}}
    parts = parts_name(map(Path, folders.values()))

    def compute(cells: Sequence[Cell], workers: int = workers) -> None:
        wanted = [replace(cell, parts=parts) for cell in cells if cell in only]
        run_cells(wanted, does, folder, workers=workers)

    compute(cells_of(seeds, list(METHODS)))
    if open_methods := undecided(claims(finished_cells(folder)), COMPARED):
        compute(cells_of(MORE_SEEDS, open_methods))
    own = {ONE_ENCODER: found.one_encoder, SIX: found.six}
    bases |= {order: build(base) for order, build in own.items() if order in beyond}
    compute(beyond_cells(seeds[0], beyond))
    compute([Cell(mera_cost.COST, seed, BOTH[0]) for seed in seeds], workers=1)
    prints = {name: fingerprint(Path(place), ignore=("README.md",)) for name, place in folders.items()}
    report = {**summary(finished_cells(folder)), "parts": prints, "encoders": encoders}
    return write_report(reports / "mera-world.json", report, gains_markdown(report), plot_gains(report))


def beyond_cells(seed: int, named: Sequence[str] = BEYOND) -> list[Cell]:
    """What goes beyond the paper: one encoder for all senses, a longer chain, and other ways of merging."""
    apart = [order for order in APART if order in named]
    return [
        *(expert(order, sense, seed) for order in apart for sense in ORDERS[order]),
        *(Cell(method, seed, order) for order in apart for method in ("mera-10", "fine-tuning")),
        *(Cell(method, seed, BOTH[0]) for method in MERGED if MERGING in named),
    ]


__all__ = ["METHODS", "ORDERS", "Setting", "claims", "recipe_of", "run", "setting", "summary", "work"]
