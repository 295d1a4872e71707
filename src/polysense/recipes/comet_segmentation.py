"""Segmentation that is learned from text and asked for by speech (COMET, Table 5), with the codes' encoder frozen."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor
from tqdm.auto import tqdm
from transformers import CLIPSegConfig

from polysense.data import MediaRef, Sample, SampleDataset, Subset, keyed_rng
from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError, ManifestError
from polysense.losses import mask_loss
from polysense.metrics import contour_accuracy, mean_interval, region_similarity
from polysense.models.base import local_folder, reading
from polysense.models.referring import ReferringSegmenter, ReferringSegmenterConfig
from polysense.nn.starts import named_draws
from polysense.processing import ImageProcessor, VideoProcessor
from polysense.processing.masks import load_masks, resized_masks
from polysense.recipes.codes import CodeEncoder, CodeSequences, encoded
from polysense.recipes.evaluation import Result
from polysense.recipes.head_training import HeadSettings, train_head
from polysense.recipes.sources import DatasetSettings

_THRESHOLD = 0.5
_SMALL_TEXT = {"hidden_size": 8, "intermediate_size": 8, "num_hidden_layers": 1, "num_attention_heads": 1}


@dataclass(frozen=True, kw_only=True)
class SegmentationSettings:
    """What a head learns to segment, and by which sense it is asked.

    A sample has `referring` expressions and either "image" and "mask" or "video" and "masks" (frame below frame).

    Attributes:
        train: samples whose expressions are the text queries.
        tests: name to samples; where they have the asking sense, it must say their first expression.
        ask: the sense that replaces text at the test.
        clipseg: folder or Hub name of a CLIPSeg to begin with; `None` makes a new one of `sizes`.
        sizes: values of a `CLIPSegConfig` (`vision_config` and the decoder's).
        frames: frames taken of a video for training; a test takes all.
        expressions: most expressions of a training sample, drawn by a key that all runs share; `None` takes all.
        head: how it is trained.

    Raises:
        ConfigError: nothing to train on or no test, or fewer than one frame or expression of a sample.
    """

    train: Sequence[DatasetSettings]
    tests: Mapping[str, DatasetSettings]
    ask: str = "speech"
    clipseg: str | None = None
    sizes: Mapping[str, Any] = field(default_factory=dict)
    frames: int = 4
    expressions: int | None = 2
    head: HeadSettings = field(default_factory=lambda: HeadSettings(batch_size=32, learning_rate=1.0e-3))

    def __post_init__(self) -> None:
        if not self.train or not self.tests:
            raise ConfigError(f"there are {len(self.train)} data sets to train on and {len(self.tests)} tests",
                              fix="Give one of each, or more.")  # fmt: skip
        if self.frames < 1 or (self.expressions is not None and self.expressions < 1):
            raise ConfigError(f"{self.frames} frames and {self.expressions} expressions are taken of a sample",
                              fix="Give 1 or more.")  # fmt: skip

    @property
    def senses(self) -> tuple[str, str]:
        """The one that teaches and the one that asks."""
        return TEXT, self.ask


@dataclass(frozen=True)
class Queries:
    """Expressions with the frames that they are about.

    Attributes:
        frames: pictures of all samples, one after the other.
        truth: for each query and each of its frames, where the object is.
        rows: for each query, the numbers of its frames.
        codes: what asks, a sequence per query.
    """

    frames: Float[Tensor, "frames 3 height width"]
    truth: list[Bool[Tensor, "_ height width"]]
    rows: list[range]
    codes: CodeSequences


@dataclass(frozen=True)
class Expressions:
    """Referring expressions as a data set of texts."""

    texts: tuple[str, ...]

    def __len__(self) -> int:
        return len(self.texts)

    def __getitem__(self, index: int) -> Sample:
        return Sample(f"expression/{self.texts[index]}", {TEXT: MediaRef(self.texts[index])})

    def labels(self, modality: str) -> Sequence[str | None]:
        return [None] * len(self)


def check_segmentation(settings: SegmentationSettings, root: Path) -> None:
    """Look for samples that can be learned from or tested on, and whether the head can be made.

    Raises:
        ConfigError: a data set without such samples, or sizes that no CLIPSeg has.
        ManifestError: an expression that names no object.
        CheckpointError: the CLIPSeg to begin with cannot be found.
    """
    _clipseg_config(settings)
    for each in [*settings.train, *settings.tests.values()]:
        dataset = each.open(root)
        referred = [_is_referred(dataset[number]) for number in range(len(dataset))]
        if not any(referred):
            raise _nothing_referred()


def segmentation_results(
    settings: SegmentationSettings, encode: CodeEncoder, root: Path, *, seed: int = 0
) -> tuple[ReferringSegmenter, list[Result]]:
    """Train the head with text and test it with text and with the asking sense: J, F and their mean.

    The upper bound of what is asked by another sense is the same asked by text; chance is the mean over queries that
    were exchanged, so it is what the head reaches that looks at the picture alone.

    Args:
        encode: the frozen encoder in evaluation mode.
        root: folder that the data sets are relative to.
        seed: of the head's initial weights and of the order of samples.

    Raises:
        ConfigError: no sample has a picture, masks and an expression.
        ManifestError, MediaError: a file cannot be used.
    """
    training = [_queries(_read(each.open(root), settings, training=True), encode, TEXT) for each in settings.train]
    model = _head(settings, training[0].codes.vectors.shape[-1], seed)
    model.to(training[0].codes.vectors.device)
    _train(model, training, settings.head, key=f"segmentation {seed}")
    results = []
    for name, each in settings.tests.items():
        read = _read(each.open(root), settings, training=False)
        by_text = segmentation_scores(model, _queries(read, encode, TEXT))
        results += _results(f"segmentation {TEXT} to {TEXT}", TEXT, name, by_text, None)
        if all(settings.ask in sample.media for sample in read.samples):
            asked = segmentation_scores(model, _queries(read, encode, settings.ask))
            results += _results(f"segmentation {TEXT} to {settings.ask}", settings.ask, name, asked, by_text)
    return model, results


@dataclass(frozen=True)
class Scores:
    """J and F of every query, the mean over its frames; `chance` is J and F with another query's codes."""

    region: Float[Tensor, " queries"]
    contour: Float[Tensor, " queries"]
    chance: tuple[float, float]


@torch.no_grad()
def segmentation_scores(model: ReferringSegmenter, queries: Queries) -> Scores:
    """Segment all frames of all queries with a trained head."""
    model.eval()
    own, other = list[tuple[Tensor, Tensor]](), list[tuple[Tensor, Tensor]]()
    shift = torch.arange(len(queries.rows)).roll(-1)
    for number, rows in enumerate(tqdm(queries.rows, desc="segmenting", delay=2, leave=False)):
        frames = queries.frames[rows.start : rows.stop]
        for chosen, scores in ((number, own), (int(shift[number]), other)):
            vectors = queries.codes.vectors[chosen].expand(len(rows), -1, -1)
            steps = queries.codes.steps[chosen].expand(len(rows), -1)
            masks = (model(frames, vectors, steps).sigmoid() > _THRESHOLD).cpu()
            truth = queries.truth[number].cpu()
            scores.append((region_similarity(masks, truth).mean(), contour_accuracy(masks, truth).mean()))
    (region, contour), (j, f) = (torch.tensor(each).t() for each in (own, other))
    return Scores(region, contour, (float(j.mean()), float(f.mean())))


@dataclass(frozen=True)
class _Read:
    """Frames and masks of a data set, and whose expressions are asked for."""

    samples: list[Sample]
    dataset: SampleDataset
    frames: Float[Tensor, "frames 3 height width"]
    truth: list[Bool[Tensor, "_ height width"]]
    rows: list[range]
    owners: list[int]
    texts: list[str]


def _read(dataset: SampleDataset, settings: SegmentationSettings, *, training: bool) -> _Read:
    """Decode a data set; for a test only each sample's first expression is taken, which is what was spoken."""
    size = _side(settings)
    samples, frames, truth = list[Sample](), list[Tensor](), list[Tensor]()
    rows, owners, texts, kept = list[range](), list[int](), list[str](), list[int]()
    for number in tqdm(range(len(dataset)), desc="reading masks", delay=2, leave=False):
        sample = dataset[number]
        if not _is_referred(sample):
            continue
        expressions = _expressions(sample, settings.expressions) if training else sample.extra["referring"][:1]
        pictures, masks = _film(sample, size, settings.frames if training else None)
        begin = sum(len(each) for each in frames)
        for each in expressions:
            truth.append(torch.from_numpy(masks == each["object"]))
            rows.append(range(begin, begin + len(pictures)))
            owners.append(len(samples))
            texts.append(each["expression"])
        frames.append(pictures)
        samples.append(sample)
        kept.append(number)
    if not samples:
        raise _nothing_referred()
    return _Read(samples, Subset(dataset, tuple(kept)), torch.cat(frames), truth, rows, owners, texts)


def _is_referred(sample: Sample) -> bool:
    """Whether a sample has expressions and masks. Raises `ManifestError` for what is no expression of an object."""
    said = sample.extra.get("referring") or []
    for each in said if isinstance(said, list) else [said]:
        told = each if isinstance(each, dict) else {}
        number, words = told.get("object"), told.get("expression")
        if type(number) is not int or not 1 <= number <= 255 or not isinstance(words, str):
            raise ManifestError(f"{each!r:.80} among its `referring` tells no object from 1 to 255", where=sample.id,
                                fix='Write {"expression": text, "object": the number of its pixels}.')  # fmt: skip
    return bool(said) and bool({"mask", "masks"} & set(sample.media))


def _nothing_referred() -> ConfigError:
    return ConfigError("no sample has a picture, its mask and an expression", where="segmentation",
                       fix="Give rows with `referring` and the media mask or masks.")  # fmt: skip


def _expressions(sample: Sample, most: int | None) -> list[Any]:
    every = sample.extra.get("referring", [])
    order = keyed_rng("expressions", sample.id).permutation(len(every))[:most]
    return [every[int(place)] for place in sorted(order)]


def _film(sample: Sample, size: int, most: int | None) -> tuple[Tensor, np.ndarray[Any, np.dtype[np.uint8]]]:
    """Frames and masks of a sample: one of a still, `most` evenly spaced or all of a clip."""
    if "masks" not in sample.media:
        processor = ImageProcessor(modality="image", size=size)
        picture = processor.load(sample.ref("image").open())
        return processor.features(picture)[None], _fitting(sample, "mask", 1, picture.shape[:2], size)
    count = int(sample.ref("masks").facts.get("frames", 1))
    video = VideoProcessor(modality="video", size=size, num_frames=count)
    film = video.load(sample.ref("video").open())
    frames, masks = video.features(film), _fitting(sample, "masks", count, film.shape[1:3], size)
    if len(frames) != count:
        raise ConfigError(f"the film has {len(frames)} frames and {count} masks", where=sample.id,
                          fix="Give one mask for each frame.")  # fmt: skip
    chosen = np.linspace(0, count - 1, min(most or count, count)).round().astype(int)
    return frames[torch.from_numpy(chosen)], masks[chosen]


def _fitting(
    sample: Sample, name: str, count: int, picture: tuple[int, int], size: int
) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """The masks of a sample, cut as its picture is. Raises `ManifestError` if they are of another form than it."""
    masks = load_masks(sample.ref(name).open(), count)
    height, width = masks.shape[1:]
    if abs(height * picture[1] - width * picture[0]) > max(*picture, height, width):  # but for the rounding of sides
        raise ManifestError(f"{count} masks of {height} x {width} beside a picture of {picture[0]} x {picture[1]}",
                            where=f"{sample.id}: {name}",
                            fix="Give the picture's masks; `frames` tells how many are in a file.")  # fmt: skip
    return resized_masks(masks, size)


def _queries(read: _Read, encode: CodeEncoder, sense: str) -> Queries:
    """The same queries, asked by text or by another sense of the samples."""
    if sense == TEXT:
        unique = tuple(dict.fromkeys(read.texts))
        codes, places = encoded(encode, sense, Expressions(unique)), [unique.index(text) for text in read.texts]
    else:
        codes, places = encoded(encode, sense, read.dataset), read.owners
    rows = torch.tensor(places, device=codes.vectors.device)
    chosen = CodeSequences(codes.vectors[rows], None, None if codes.mask is None else codes.mask[rows])
    return Queries(read.frames.to(rows.device), read.truth, read.rows, chosen)


def _head(settings: SegmentationSettings, dim: int, seed: int) -> ReferringSegmenter:
    with named_draws(f"segmentation {seed}"):
        if settings.clipseg is not None:
            return ReferringSegmenter.from_clipseg(settings.clipseg, dim)
        return ReferringSegmenter(ReferringSegmenterConfig(clipseg_config=_clipseg_values(settings), code_dim=dim))


def _side(settings: SegmentationSettings) -> int:
    """Size of the head's frames in pixels."""
    return int(_clipseg_config(settings).vision_config.image_size)


def _clipseg_config(settings: SegmentationSettings) -> Any:
    """Of the CLIPSeg that the head begins with or is made as."""
    if settings.clipseg is None:
        return ReferringSegmenterConfig(clipseg_config=_clipseg_values(settings)).clipseg
    folder = local_folder(settings.clipseg, {})
    with reading(folder):
        return CLIPSegConfig.from_pretrained(folder)


def _clipseg_values(settings: SegmentationSettings) -> dict[str, Any]:
    return {"text_config": _SMALL_TEXT, **settings.sizes}


def _train(model: ReferringSegmenter, sets: Sequence[Queries], settings: HeadSettings, *, key: str) -> None:
    """Every frame of every query is a sample."""
    places = [
        (group, query, frame)
        for group, queries in enumerate(sets)
        for query, rows in enumerate(queries.rows)
        for frame in range(len(rows))
    ]

    def loss(rows: Int[Tensor, " rows"]) -> Tensor:
        chosen = [places[row] for row in rows.tolist()]
        frames = torch.stack([sets[group].frames[sets[group].rows[query][frame]] for group, query, frame in chosen])
        truth = torch.stack([sets[group].truth[query][frame] for group, query, frame in chosen])
        codes = torch.stack([sets[group].codes.vectors[query] for group, query, _ in chosen])
        steps = torch.stack([sets[group].codes.steps[query] for group, query, _ in chosen])
        return mask_loss(model(frames, codes, steps), truth.to(frames))

    train_head(model, loss, len(places), settings, key=key, after_epoch=lambda: None)


def _results(task: str, modality: str, dataset: str, scores: Scores, bound: Scores | None) -> list[Result]:
    def columns(each: Scores) -> dict[str, Tensor]:
        return {"J": each.region, "F": each.contour, "J&F": (each.region + each.contour) / 2}

    chances = {"J": scores.chance[0], "F": scores.chance[1], "J&F": sum(scores.chance) / 2}
    results = []
    for metric, values in columns(scores).items():
        mean, low, high = mean_interval(values.tolist())
        upper = None if bound is None else float(columns(bound)[metric].mean())
        results.append(
            Result(task=task, modality=modality, dataset=dataset, metric=metric, value=mean, chance=chances[metric],
                   low=low, high=high, upper_bound=upper, count=len(values))
        )  # fmt: skip
    return results
