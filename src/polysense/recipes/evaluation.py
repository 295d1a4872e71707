"""Score a checkpoint: zero-shot classification, retrieval both ways, composed queries."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from tqdm.auto import tqdm
from transformers import AutoModel, AutoProcessor

from polysense.data import Sample, SampleDataset, Subset, keyed_rng
from polysense.errors import ConfigError, UnknownModalityError
from polysense.hub.records import distinct
from polysense.metrics import accuracy, composed, match_ranks, proportion_interval, recall_at
from polysense.models.base import best_device, local_folder, reading
from polysense.models.unialign import UniAlignModel, UniAlignProcessor
from polysense.recipes.class_texts import class_table
from polysense.recipes.config import check_positive, import_modules, place
from polysense.recipes.provenance import command, commit
from polysense.recipes.sources import DatasetSettings, class_names
from polysense.safety import read_json
from polysense.storage import check_writable, write_whole, writing


@dataclass(frozen=True, kw_only=True)
class EvaluationSettings:
    """What a stage is scored on.

    Attributes:
        splits: name of a split to its data sets; a sense is scored on those that have it.
        composed: pairs of senses whose mean embedding retrieves text, such as `[[audio, video]]`.
        ks: cut-offs of recall.
        pool: most items of a retrieval pool, drawn with unique semantics.
        limit: most samples of a classification test, told apart by the classes of all; `None` takes all.
        batch_size: samples encoded at once.

    Raises:
        ConfigError: a number below 1.
    """

    splits: Mapping[str, Sequence[DatasetSettings]] = field(default_factory=dict)
    composed: Sequence[Sequence[str]] = ()
    ks: Sequence[int] = (1, 5, 10)
    pool: int = 200
    limit: int | None = None
    batch_size: int = 64

    def __post_init__(self) -> None:
        check_positive(self, "pool", "limit", "batch_size")
        if not self.ks or min(self.ks) < 1:
            raise ConfigError(f"ks is {list(self.ks)}", fix="Give positive numbers.")

    def check(self, root: Path, senses: Collection[str]) -> None:
        """Refuse data sets that cannot be opened, or that name a file of any of `senses` which is not there.

        Raises:
            ConfigError: naming the data set, and the sample whose file is missing.
        """
        for split, datasets in self.splits.items():
            for number, settings in enumerate(datasets):
                with place(f"splits: {split}[{number}]"):
                    _check_files(settings.open(root), senses)


def _check_files(dataset: SampleDataset, senses: Collection[str]) -> None:
    """Look for the files of all rows, unless the first row, like the others, holds its media in itself."""
    has_files = any(ref.is_path for ref in dataset[0].media.values())
    for index in tqdm(range(len(dataset) if has_files else 0), desc="looking for files", delay=2, leave=False):
        dataset[index].check_files(senses)


@dataclass(frozen=True, kw_only=True)
class Result:
    """One figure.

    Attributes:
        low, high: 90 % interval of the share over the test's samples; `None` where none is known.
        chance: what guessing gives.
        upper_bound: what a fully supervised model of the sense reaches, where one was trained.
        count: samples the figure rests on.
    """

    task: str
    modality: str
    dataset: str
    metric: str
    value: float
    chance: float
    count: int
    low: float | None = None
    high: float | None = None
    upper_bound: float | None = None


class Evaluator:
    """Scores one model and its processor; embeddings of a data set and sense are computed once and kept."""

    def __init__(self, model: UniAlignModel, processor: UniAlignProcessor, settings: EvaluationSettings) -> None:
        model.eval()
        self.model, self.processor, self.settings = model, processor, settings
        # by identity; the data set is kept with them, since another one may get the address of one that is gone
        self._cache: dict[tuple[int, str], tuple[SampleDataset, Float[Tensor, "samples embed"]]] = {}

    @torch.no_grad()
    def encode_text(self, texts: Sequence[str]) -> Float[Tensor, "texts embed"]:
        """Unit vectors of texts."""
        return self.model.embed("text", self._to_device(self.processor.features("text", list(texts))))

    @torch.no_grad()
    def embed(self, dataset: SampleDataset, modality: str) -> Float[Tensor, "samples embed"]:
        """Unit vectors of one sense of every sample, on the CPU."""
        key = (id(dataset), modality)
        if key not in self._cache:
            size = self.settings.batch_size
            batches = tqdm(range(0, len(dataset), size), desc=f"encoding {modality}", delay=2, leave=False)
            parts = []
            for start in batches:
                refs = [dataset[i].ref(modality) for i in range(start, min(start + size, len(dataset)))]
                features = self.processor.features(modality, [r.open() for r in refs], facts=[r.facts for r in refs])
                parts.append(self.model.embed(modality, self._to_device(features)).float().cpu())
            self._cache[key] = dataset, torch.cat(parts)
        return self._cache[key][1]

    def _to_device(self, features: Mapping[str, Tensor]) -> dict[str, Tensor]:
        return {name: tensor.to(self.model.device) for name, tensor in features.items()}

    def classifier(self, names: Sequence[str], modality: str) -> Float[Tensor, "classes embed"]:
        """Class embeddings by the sense's templates."""
        return class_table(names, modality, self.processor, self.encode_text).embeddings.cpu()

    def zero_shot(
        self, dataset: SampleDataset, modality: str, name: str, upper_bound: float | None = None, *,
        classes: Sequence[str] = (),
    ) -> list[Result]:  # fmt: skip
        """Top-1 and top-5 accuracy over `classes`, by default over those that occur in the data set."""
        names = tuple(classes) or class_names(dataset, modality)
        labels = torch.tensor([names.index(str(label)) for label in dataset.labels(modality)])
        scores = accuracy(self.embed(dataset, modality), self.classifier(names, modality), labels)
        make = partial(_result, "zero-shot classification", modality, name, count=len(labels))
        chances = {"top1": 1 / len(names), "top5": min(1.0, 5 / len(names))}
        bounds = {"top1": upper_bound}
        return [make(metric, value, chances[metric], bounds.get(metric)) for metric, value in scores.items()]

    def retrieval(self, pool: SampleDataset, senses: Sequence[str], target: str, name: str) -> list[Result]:
        """Recall both ways between one sense (or the composition of several) and text or image of the same sample."""
        queries = composed(*(self.embed(pool, sense) for sense in senses))
        if target == "text":
            keys = self.encode_text([_caption(pool[i], senses) for i in range(len(pool))]).cpu()
        else:
            keys = self.embed(pool, target)
        label, results = "+".join(senses), []
        for task, ranks in (
            (f"retrieval {label} to {target}", match_ranks(queries, keys)),
            (f"retrieval {target} to {label}", match_ranks(keys, queries)),
        ):
            for metric, value in recall_at(ranks, self.settings.ks).items():
                chance = min(1.0, int(metric.removeprefix("R@")) / len(pool))
                results.append(_result(task, label, name, metric, value, chance, None, count=len(pool)))
        return results

    def run(self, root: Path, bounds: Mapping[str, float] | None = None) -> list[Result]:
        """Every score of every split for every sense that the model has and the split holds.

        Args:
            root: data root of the splits' data sets.
            bounds: top-1 accuracy of the fully supervised model of each sense on the split "test".
        """
        results: list[Result] = []
        for split, datasets in self.settings.splits.items():
            for settings in datasets:
                dataset = settings.open(root)
                for sense in (sense for sense in self.model.modalities if sense != "text"):
                    bound = (bounds or {}).get(sense) if split == "test" else None
                    results += self._score(_showing(dataset, [sense]), sense, settings.name, bound)
                for senses in self.settings.composed:
                    told = _told(_showing(dataset, senses), senses)
                    if set(senses) <= set(self.model.modalities) and len(told):
                        pool = unique_pool(told, senses, self.settings.pool)
                        results += self.retrieval(pool, senses, "text", settings.name)
        return results

    def _score(self, dataset: SampleDataset, sense: str, name: str, bound: float | None) -> list[Result]:
        results: list[Result] = []
        labelled = [i for i, label in enumerate(dataset.labels(sense)) if label is not None]
        if labelled:
            subset = Subset(dataset, tuple(labelled[: self.settings.limit]))
            results += self.zero_shot(subset, sense, name, bound, classes=class_names(dataset, sense))
        if len(told := _told(dataset, [sense])):
            pool = unique_pool(told, [sense], self.settings.pool)
            results += self.retrieval(pool, [sense], "text", name)
            if sense != "image" and len(seen := _showing(pool, ["image"])):
                results += self.retrieval(seen, [sense], "image", name)
        return results


def _showing(dataset: SampleDataset, senses: Sequence[str]) -> SampleDataset:
    """The samples that have media of all of some senses."""
    return _where(dataset, lambda sample: set(senses) <= set(sample.media), is_alike=True)


def _told(dataset: SampleDataset, senses: Sequence[str]) -> SampleDataset:
    """The samples that have captions of all of some senses."""
    return _where(dataset, lambda sample: all(sample.captions.get(sense) for sense in senses))


def _where(dataset: SampleDataset, holds: Callable[[Sample], bool], *, is_alike: bool = False) -> SampleDataset:
    """The samples of which something holds; the data set itself where it holds of all: embeddings are kept by it.

    Reading rows that hold their media is slow: what does not hold of the first of them holds of none, and what holds
    of it, of all if `is_alike`.
    """
    if len(dataset) and not any(ref.is_path for ref in dataset[0].media.values()):
        if not holds(dataset[0]):
            return Subset(dataset, ())
        if is_alike:
            return dataset
    rows = tuple(index for index in range(len(dataset)) if holds(dataset[index]))
    return dataset if len(rows) == len(dataset) else Subset(dataset, rows)


def unique_pool(dataset: SampleDataset, senses: Sequence[str], size: int) -> Subset:
    """At most `size` samples no two of which mean the same in `senses`, drawn by a key so that all runs share them."""
    order = keyed_rng("retrieval pool", *senses).permutation(len(dataset))
    seen: set[str] = set()
    chosen: list[int] = []
    for index in map(int, order):
        meaning = _meaning(dataset[index], senses)
        if meaning not in seen and len(chosen) < size:
            seen.add(meaning)
            chosen.append(index)
    return Subset(dataset, tuple(chosen))


def _meaning(sample: Sample, senses: Sequence[str]) -> str:
    stated = sample.extra.get("semantics")
    semantics = stated if isinstance(stated, Mapping) else {}
    return " | ".join(str(semantics.get(sense, (sample.captions.get(sense) or (sample.id,))[0])) for sense in senses)


def _caption(sample: Sample, senses: Sequence[str]) -> str:
    """The sample's first caption of the senses that are composed; several are joined."""
    return " and ".join(sample.captions[sense][0] for sense in senses)


def _result(
    task: str, modality: str, dataset: str, metric: str, value: float, chance: float, bound: float | None, *,
    count: int,
) -> Result:  # fmt: skip
    low, high = proportion_interval(value, count)
    return Result(
        task=task, modality=modality, dataset=dataset, metric=metric, value=value, chance=chance, low=low, high=high,
        upper_bound=bound, count=count,
    )  # fmt: skip


def metrics_record(results: Sequence[Result], seed: int | None) -> dict[str, Any]:
    """What `metrics.json` holds; `seed` is that of the training, and left out where it is not known."""
    known = {} if seed is None else {"seed": seed}
    return {"command": command(), "commit": commit(), **known, "results": distinct(map(asdict, results))}


def data_root(manifest: Path) -> Path:
    """What a manifest's media are relative to: its folder, or the folder above if that one is called `manifests`."""
    folder = manifest.absolute().parent
    return folder.parent if folder.name == "manifests" else folder


def named(manifests: Sequence[Path]) -> dict[Path, str]:
    """What results call each manifest: by its file, or where another is called so too, by its whole path."""
    names = Counter(path.stem for path in {*manifests})
    return {path: path.stem if names[path.stem] == 1 else str(path.with_suffix("")) for path in manifests}


def run(
    checkpoint: str, manifests: Sequence[Path], output: Path | None = None, imports: Sequence[str] = (), *,
    revision: str | None = None, composed: Sequence[Sequence[str]] = (),
) -> dict[str, Any]:  # fmt: skip
    """Score a checkpoint (folder or Hub name) on manifests; the figures are returned and written to `output` (JSON).

    Each manifest is a split of its own, named by its file; a manifest's media are relative to its folder, or to the
    folder above if that one is called `manifests`.

    Args:
        revision: tag, branch or commit of a checkpoint on the Hub.
        composed: senses whose mean embedding retrieves text, such as `[("audio", "video")]`.

    Raises:
        ConfigError: no manifest, one with nothing to score, an output that cannot be written, or
            senses to compose that no sample of a manifest has with captions of each.
        UnknownModalityError: senses to compose that the checkpoint lacks.
        CheckpointError, ManifestError: see the parts.
    """
    import_modules(imports)
    if not manifests:
        raise ConfigError("there is no manifest to evaluate on", fix="Give at least one JSONL manifest.")
    if output is not None:
        check_writable(output)
    folder = local_folder(checkpoint, {"revision": revision})
    with reading(checkpoint):
        model, processor = AutoModel.from_pretrained(folder).to(best_device()), AutoProcessor.from_pretrained(folder)
    if unknown := [sense for senses in composed for sense in senses if sense not in model.modalities]:
        raise UnknownModalityError(unknown[0], model.modalities, where="composed")
    results: list[Result] = []
    for path, name in named(manifests).items():
        root = data_root(path)
        settings = DatasetSettings(manifest=str(path.absolute().relative_to(root)))
        asked = EvaluationSettings(splits={name: [settings]}, composed=composed)
        found = Evaluator(model, processor, asked).run(root)
        if not found:
            senses = ", ".join(sense for sense in model.modalities if sense != "text")
            raise ConfigError(f"no sample has a label or a caption of {senses}", where=path,
                              fix="Give labels or captions of a sense that the checkpoint has.")  # fmt: skip
        results += found
    scored = {result.modality for result in results}
    if missing := [label for senses in composed if (label := "+".join(senses)) not in scored]:
        raise ConfigError(f"no sample has {missing[0]} and captions of each", where="composed",
                          fix="Give a manifest whose samples have all of these senses, with captions.")  # fmt: skip
    record = metrics_record(results, seed_of(folder))
    if output is not None:
        with writing(output):
            write_whole(output, json.dumps(record, indent=1) + "\n")
    return record


def seed_of(folder: Path) -> int | None:
    """What a stage says it was trained with."""
    path = folder / "stage.json"
    seed = read_json(path).get("seed") if path.exists() else None
    return seed if isinstance(seed, int) else None


__all__ = ["EvaluationSettings", "Evaluator", "Result", "data_root", "metrics_record", "run", "seed_of", "unique_pool"]
