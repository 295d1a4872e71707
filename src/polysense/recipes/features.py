"""Train the small nets and the language model whose features a codebook is learned from: each alone, without labels.

What VGG19, VGGish and BERT are to the published features, these are to the embedded world: unimodal, unaligned, and
trained on another world than the one that is then described with them.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, TypeVar

from transformers import AutoModel, PreTrainedModel

from polysense.data import MediaRef, Mixture, SampleDataset, Source
from polysense.data.order import EpochOrder
from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.encoders import StepNetConfig
from polysense.models.encoders.extraction import (
    EncoderExtractor,
    SequenceExtractor,
    TextExtractor,
    fit_whitening,
    save_whitening,
)
from polysense.models.nested import nested_config
from polysense.nn.starts import named_draws
from polysense.processing import CachedFeatures, ModalityProcessor, processor_for
from polysense.recipes.config import place, read_config
from polysense.recipes.feature_pairs import PairRecipe
from polysense.recipes.feature_probes import probe_features
from polysense.recipes.llama_anchor import END, LlamaRecipe, build_llama, train_tokenizer
from polysense.recipes.pretraining import saving
from polysense.recipes.senses import SenseSettings
from polysense.recipes.sources import DatasetSettings, WorldSettings
from polysense.trainer import LoopConfig, train, verify_folder
from polysense.trainer.distributed import world_size
from polysense.trainer.language import LanguageObjective, TextFeed
from polysense.trainer.two_views import TwoViews, TwoViewsObjective

logger = logging.getLogger(__name__)

FOLDER = "comet"  # of the shipped configs
TEXT_NET = "text"
_CORPUS = 500  # files or texts that a whitening is fitted to, with some ten steps each
_MOST_STEPS = 64
_Item = TypeVar("_Item")


@dataclass(frozen=True, kw_only=True)
class NetSettings:
    """An encoder of one sense, trained on two views of every step.

    Attributes:
        data: files of the sense; their labels and captions are not looked at.
        sense: the modality, where the net's name is another.
        model: fields of the encoder's config with its `model_type`, a `step_net` by default.
        channels: values per pixel or point, if not the registered number.
        processor: options of the sense's processor, which also draws the views.
        batch_size: samples per process and micro-batch.
        temperature: of the contrast.
        shift: steps between the two views, see `TwoViewsObjective`.
        steps: of its training, if not the recipe's.
    """

    data: DatasetSettings
    sense: str = ""
    model: dict[str, Any] = field(default_factory=dict)
    channels: int | None = None
    processor: dict[str, Any] = field(default_factory=dict)
    batch_size: int = 16
    temperature: float = 0.1
    shift: int = 0
    steps: int = 0

    def part(self, sense: str) -> ModalityProcessor:
        """The processor of the sense with these options."""
        spec = SenseSettings(channels=self.channels, processor=self.processor).spec(sense)
        return processor_for(spec, int(self.model.get("height", StepNetConfig.height)))


@dataclass(frozen=True, kw_only=True)
class TextNetSettings:
    """A small causal language model of captions and narrations.

    Attributes:
        data: data sets whose captions and narrations are read, of every sense, word for word.
        model: fields of `LlamaConfig`.
        vocabulary: most tokens; words of the captions should be whole.
        batch_size: texts per process and micro-batch.
        steps: of its training, if not the recipe's.
    """

    data: Sequence[DatasetSettings]
    model: dict[str, Any] = field(default_factory=dict)
    vocabulary: int = 768
    batch_size: int = 64
    steps: int = 0


@dataclass(frozen=True, kw_only=True)
class FeatureRecipe:
    """Config of `training/comet/features.yaml`.

    Attributes:
        nets: name to the encoder of a sense.
        loop: see `LoopConfig`.
        text: the language model.
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: of another seed than the world that features are extracted from.
        probes: config whose probes tell what linear classifiers read out of the features, on other data.
        whitening_floor: of the whitening that is written beside every net (`polysense.nn.whitening`).
        cache_mib: decoded files that are kept in memory while a net is trained.
        seed: of initial weights, order of data and views.
        imports: modules that register what the config names.

    Raises:
        ConfigError: a net with the name of the language model's.
    """

    nets: dict[str, NetSettings]
    loop: LoopConfig
    text: TextNetSettings | None = None
    data_root: str = "runs/feature-world"
    world: WorldSettings | None = None
    probes: str = ""
    whitening_floor: float = 1e-3
    cache_mib: int = 2048
    seed: int = 0
    imports: Sequence[str] = ()

    def __post_init__(self) -> None:
        if TEXT_NET in self.nets:
            raise ConfigError(
                f"a net is called {TEXT_NET!r}", where="nets", fix="Describe the language model in text."
            )


def build_net(name: str, settings: NetSettings, seed: int) -> tuple[PreTrainedModel, ModalityProcessor]:
    """An untrained encoder, whose weights depend on its name and the seed alone, and its processor.

    Raises:
        ConfigError: a config or processor options that do not fit.
    """
    sense = settings.sense or name
    part = settings.part(sense)
    values = {"model_type": StepNetConfig.model_type, "channels": part.channels, **settings.model}
    if values["model_type"] == StepNetConfig.model_type:
        values["sense"] = _complete_spec(part).to_dict()
    with named_draws(f"{seed}/{name}"):
        return AutoModel.from_config(nested_config(values, where=f"nets: {name}: model")), part


def _complete_spec(part: ModalityProcessor) -> Modality:
    """The modality with every option of its processor, so that another sense can be processed in the same way."""
    spec = part.spec
    options = {key: value for key, value in part.to_dict().items() if key not in ("modality", "size", "channels")}
    return replace(spec, processor=options)


def train_net(recipe: FeatureRecipe, name: str, output: Path) -> Path:
    """Train (or finish, or just return) the encoder `output/nets/name`: a plain Hugging Face folder.

    Raises:
        ConfigError: the settings do not fit, named with their place.
        CheckpointError: it is there and damaged.
    """
    settings, folder = recipe.nets[name], output / "nets" / name
    if folder.exists():
        verify_folder(folder)
        return folder
    with place(f"nets: {name}"):
        model, part = build_net(name, settings, recipe.seed)
        dataset = settings.data.open(Path(recipe.data_root))
    cached = CachedFeatures(lambda _: part, recipe.cache_mib << 20)
    views = TwoViews(cached, part.spec.values_key, part.spec.mask_key)
    source = Source(name=name, modality=part.modality, dataset=dataset, batch_size=settings.batch_size)
    mixture = Mixture([source], views, seed=recipe.seed)
    with named_draws(f"{recipe.seed}/{name}/head"):
        objective = TwoViewsObjective(model, part.modality, settings.temperature, settings.shift)
    loop = _loop(recipe, settings.steps).in_steps(mixture.steps_per_epoch(world_size()))
    media = ((ref.open(), ref.facts) for ref in _media(dataset, part.modality))
    extractor = EncoderExtractor(encoder=model, part=part, steps=_MOST_STEPS, fit="cut", raster=False)
    whitening = _WhiteningOf(extractor, media, recipe.whitening_floor)
    train(objective, mixture, loop, output / "training" / name, hooks=saving(folder, model, whitening))
    return folder


def train_text_net(recipe: FeatureRecipe, settings: TextNetSettings, output: Path) -> Path:
    """Train (or finish, or just return) `output/nets/text`: a plain Hugging Face folder of a Llama and its tokenizer.

    Raises:
        ConfigError: data sets without captions, or a length in epochs.
        CheckpointError: it is there and damaged.
    """
    folder = output / "nets" / TEXT_NET
    if folder.exists():
        verify_folder(folder)
        return folder
    texts = list(dict.fromkeys(_texts(each.open(Path(recipe.data_root)) for each in settings.data)))
    if not texts:
        raise ConfigError("the data sets have no captions", where="text: data", fix="Name captioned data sets.")
    loop = _loop(recipe, settings.steps)
    if loop.epochs:
        raise ConfigError("texts are counted in steps", where="text: steps", fix="Give the number of steps.")
    llama = LlamaRecipe(loop=loop, model=settings.model, vocabulary=settings.vocabulary, spare=0, seed=recipe.seed)
    tokenizer = train_tokenizer(texts, llama)
    model = build_llama(llama, tokenizer)
    order = EpochOrder(len(texts), (recipe.seed, TEXT_NET))
    feed = TextFeed(
        lambda number: texts[order.locate(number)[1]] + END, tokenizer, settings.batch_size,
        f"{len(texts)} texts, seed {recipe.seed}",
    )  # fmt: skip
    extractor = TextExtractor(model=model.base_model, tokenizer=tokenizer, steps=_MOST_STEPS)
    whitening = _WhiteningOf(extractor, (((text,), None) for text in _spread(texts)), recipe.whitening_floor)
    hooks = saving(folder, model, tokenizer, whitening)
    train(LanguageObjective(model), feed, loop, output / "training" / TEXT_NET, hooks=hooks)
    return folder


def train_features(recipe: FeatureRecipe, output: Path) -> Path:
    """Train every net that is not there yet and probe their features; the folder of the nets is returned.

    Raises: see `train_net` and `probe_features`.
    """
    if recipe.world is not None:
        recipe.world.build(Path(recipe.data_root))
    for name in recipe.nets:
        train_net(recipe, name, output)
    if recipe.text is not None:
        train_text_net(recipe, recipe.text, output)
    if recipe.probes:
        pairs = read_config(PairRecipe, FOLDER, recipe.probes)
        probe_features(replace(pairs, nets=str(output / "nets"), store=str(output / "sequences")), output)
    return output / "nets"


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Train the nets of a config; their folder is returned.

    Raises:
        ConfigError: naming file and key.
    """
    recipe = read_config(FeatureRecipe, FOLDER, config_source, overrides, imports)
    return train_features(recipe, output)


@dataclass(frozen=True)
class _WhiteningOf:
    """A part of a net's folder that is made when the net is trained: the whitening of what it learned from."""

    extractor: SequenceExtractor
    sources: Iterable[tuple[Any, Any]]
    floor: float

    def save_pretrained(self, folder: Path) -> None:
        save_whitening(fit_whitening(self.extractor, self.sources, self.floor), folder)


def _media(dataset: SampleDataset, sense: str) -> Iterator[MediaRef]:
    """Files of a sense, of samples from everywhere."""
    for index in _spread(range(len(dataset))):
        if sense in dataset[index].media:
            yield dataset[index].media[sense]


def _spread(items: Sequence[_Item]) -> Sequence[_Item]:
    """As many as a whitening needs, at equal distances; less than twice as many, or all there are."""
    return items[:: max(1, len(items) // _CORPUS)]


def _loop(recipe: FeatureRecipe, steps: int) -> LoopConfig:
    return replace(recipe.loop, seed=recipe.seed).lasting(steps)


def _texts(datasets: Iterable[SampleDataset]) -> Iterator[str]:
    """Every caption, and every phrase of every narration."""
    for dataset in datasets:
        for index in range(len(dataset)):
            sample = dataset[index]
            for sentences in sample.captions.values():
                yield from sentences
            narrations = sample.extra.get("narrations", {})
            for phrases in narrations.values() if isinstance(narrations, Mapping) else ():
                yield from map(str, phrases)
