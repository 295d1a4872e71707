"""`make demo`: a world, an anchor, four new senses, and everything there is to show of them, in ten minutes."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from polysense.data import Manifest, Sample, SampleDataset
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes import unialign
from polysense.recipes.beside import beside
from polysense.recipes.config import read_config
from polysense.recipes.evaluation import EvaluationSettings, Evaluator, unique_pool
from polysense.recipes.provenance import wall_time
from polysense.report import (
    GalleryRow,
    Pool,
    Query,
    StageResults,
    draw_gallery,
    read_run,
    retrieve,
    snippet,
    to_png,
    write_report,
)
from polysense.world.attributes import COLOURS, EVENTS, GERUND, MATERIALS, SHAPES, SIZES
from polysense.world.gallery import draw_gallery as draw_world

_KINDS = {
    **dict.fromkeys(SHAPES, "shape"), **dict.fromkeys(COLOURS, "colour"), **dict.fromkeys(SIZES, "size"),
    **dict.fromkeys(MATERIALS, "material"), **dict.fromkeys(EVENTS, "event"),
    **dict.fromkeys(GERUND.values(), "event"),
}  # fmt: skip
_QUERIES = (("depth",), ("point_cloud",), ("audio",), ("depth", "text"), ("audio", "video"))

Say = Callable[[str], None]


def run(
    output: Path, say: Say, show: Callable[[Sequence[StageResults]], None], config: str | Path = "demo",
    overrides: Sequence[str] = (),
) -> Path:  # fmt: skip
    """Run the demonstration; whatever `output` holds already is not done again. Returns the report page.

    Args:
        say: shows a line to the user.
        show: shows the table of all stages.
        config: a config of `training/unialign`.
    """
    started = time.monotonic()
    folder = grow(output, say, config, overrides)
    galleries = {"Cross-modal retrieval": gallery(folder, world_of(output))}
    page = write_report(output, galleries)
    done = read_run(output)
    show(done.stages)
    say(f"\nFinished in {wall_time(started)}. Report with plots: {page}")
    say("Every stage is a checkpoint under " + str(output / "stages") + ". Embed a file of your own:\n")
    say(snippet(done))
    return page


def grow(output: Path, say: Say, config: str | Path = "demo", overrides: Sequence[str] = ()) -> Path:
    """Build the world and train all stages, as far as `output` does not hold them; the last one is returned.

    Arguments: see `run`.
    """
    started, root = time.monotonic(), world_of(output)
    recipe = read_config(unialign.UniAlignRecipe, "unialign", config, [f"data_root={root}", *overrides])
    if recipe.world is not None:
        recipe.world.build(root)
        picture = draw_world(root, output / "world.png")
        say(f"The world is built, after {wall_time(started)}; some of it: {picture}")
    work = unialign.UniAlignRun(recipe, output)
    with beside(partial(unialign.train_bounds, recipe, output), output / "training" / "bounds.log") as work.wait:
        return work.run()


def world_of(output: Path) -> Path:
    """Where the demonstration in `output` has its world."""
    return output / "world"


def gallery(checkpoint: Path, root: Path, *, items: int = 150, rows_per_query: int = 1) -> bytes:
    """The gallery of Fig. 5 for a checkpoint, as PNG: single and composed queries, what they find in other senses.

    A found sample counts as right if everything that both it and the query show is the same.
    """
    model, processor = UniAlignModel.from_pretrained(checkpoint), UniAlignProcessor.from_pretrained(checkpoint)
    evaluator = Evaluator(model, processor, EvaluationSettings())
    pools: dict[str, dict[str, Pool]] = {}
    for kind, shown in (("stills", ("image", "depth", "point_cloud")), ("clips", ("image", "video", "audio"))):
        path = root / "manifests" / f"{kind}-test.jsonl"
        known = [sense for sense in shown if sense in model.modalities]
        pool = unique_pool(Manifest(path, root=root), known, items)
        pools[kind] = {sense: _pool(evaluator, pool, sense) for sense in known}
        pools[kind]["text"] = _text_pool(evaluator, pool)
    drawn: list[GalleryRow] = []
    for senses in _QUERIES:
        home = next((p for p in pools.values() if set(senses) <= set(p)), None)
        if home is not None:
            targets = [pool for name, pool in home.items() if name not in senses][:2]
            drawn += [_row(home, senses, number, targets) for number in range(rows_per_query)]
    return to_png(draw_gallery(drawn))


def _pool(evaluator: Evaluator, dataset: SampleDataset, sense: str) -> Pool:
    part = evaluator.processor.part(sense)

    def load(number: int) -> Any:
        ref = dataset[number].ref(sense)
        return part.load(ref.open(), ref.facts)

    labels = [_main_clause(dataset[i], sense) for i in range(len(dataset))]
    return Pool(modality=sense, kind=part.kind, embeddings=evaluator.embed(dataset, sense), load=load, labels=labels)


def _main_clause(sample: Sample, sense: str) -> str:
    """What a sense shows of the sample's main thing; in clips, where others may come first, of the main event."""
    clauses = str(sample.extra["semantics"].get(sense, "")).split(" ; ")
    events = sample.extra.get("scene", {}).get("events", ())
    words = {str(value) for event in events if event["main"] for value in event.values()}
    return next((clause for clause in clauses if words.issuperset(clause.split())), clauses[0])


def _text_pool(evaluator: Evaluator, dataset: SampleDataset) -> Pool:
    texts = [str(dataset[i].extra["semantics"]["image"]) for i in range(len(dataset))]
    return Pool(modality="text", kind="text", embeddings=evaluator.encode_text(texts).cpu(),
                load=texts.__getitem__, labels=texts)  # fmt: skip


def _row(home: Mapping[str, Pool], senses: Sequence[str], number: int, targets: Sequence[Pool]) -> GalleryRow:
    parts = [(home[sense], number) for sense in senses]
    wanted = {k: v for pool, place in parts for k, v in facts(pool.labels[place]).items()}

    def relevant(pool: Pool, place: int) -> bool:
        shown = facts(pool.labels[place])
        return all(shown[kind] == word for kind, word in wanted.items() if kind in shown)

    return retrieve(Query(parts=parts, relevant=relevant), targets)


def facts(meaning: str) -> dict[str, str]:
    """Attributes that a canonical meaning states, of several clauses the first one."""
    return {_KINDS[word]: word for word in meaning.split(";")[0].split() if word in _KINDS}


__all__ = ["facts", "gallery", "grow", "run", "world_of"]
