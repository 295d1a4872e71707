"""Train a small CLIP on image-text pairs: the anchor that the world's recipes build on."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from tokenizers import processors
from transformers import AutoTokenizer, CLIPConfig, CLIPImageProcessorPil, CLIPModel, PreTrainedTokenizerFast
from transformers import set_seed as seed_everything

from polysense.data import Mixture, Paraphrases
from polysense.models.unialign import UniAlignProcessor
from polysense.recipes.config import read_config, recipe_folder
from polysense.recipes.pretraining import byte_pairs, saving
from polysense.recipes.sources import DatasetSettings, SourceSettings, WorldSettings, open_sources
from polysense.trainer import LoopConfig, train, verify_folder
from polysense.trainer.clip import ClipObjective
from polysense.trainer.distributed import world_size

SPECIAL_TOKENS = ("<pad>", "<start>", "<unknown>", "<end>")


@dataclass(frozen=True, kw_only=True)
class AnchorRecipe:
    """Config of `training/anchors/clip.yaml`.

    Attributes:
        data_root: folder that data sets are relative to; the world is built there if `world` is given.
        world: the embedded world.
        sources: image data sets with captions.
        paraphrases: data sets whose captions, sense by sense, teach the text tower which sentences mean the same.
        tokenizer: folder of the tokenizer, relative to `training/anchors`.
        image_size: side of the pictures in pixels.
        vision, text: fields of `CLIPVisionConfig` and `CLIPTextConfig`.
        projection_dim: width of the shared space.
        augmentation: options of the image processor's training augmentation (`crop_scale`, `flip`).
        loop: see `LoopConfig`.
        seed: of initial weights, order of data and augmentation.
        imports: modules that register what the config names.
    """

    sources: dict[str, SourceSettings]
    loop: LoopConfig
    data_root: str = "runs/world"
    world: WorldSettings | None = None
    paraphrases: Sequence[DatasetSettings] = ()
    tokenizer: str = "tokenizer"
    image_size: int = 64
    vision: dict[str, Any] = field(default_factory=dict)
    text: dict[str, Any] = field(default_factory=dict)
    projection_dim: int = 128
    augmentation: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    imports: Sequence[str] = ()


def train_tokenizer(texts: Iterable[str], *, vocabulary: int = 1024, length: int = 48) -> PreTrainedTokenizerFast:
    """A byte-pair tokenizer in CLIP's manner: lower case, start and end tokens, every character known."""
    tokenizer = byte_pairs(texts, special=SPECIAL_TOKENS, unknown=SPECIAL_TOKENS[2], vocabulary=vocabulary)
    start, end = SPECIAL_TOKENS[1], SPECIAL_TOKENS[3]
    tokenizer.post_processor = processors.TemplateProcessing(
        single=f"{start} $A {end}", special_tokens=[(start, 1), (end, 3)]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token=SPECIAL_TOKENS[0], bos_token=start, unk_token=SPECIAL_TOKENS[2],
        eos_token=end, model_max_length=length,
    )  # fmt: skip


def build_clip(recipe: AnchorRecipe, tokenizer: Any) -> CLIPModel:
    """The untrained CLIP; its weights are a function of the recipe's seed."""
    seed_everything(recipe.seed)
    ids = {"bos_token_id": tokenizer.bos_token_id, "eos_token_id": tokenizer.eos_token_id,
           "pad_token_id": tokenizer.pad_token_id}  # fmt: skip
    text = {"vocab_size": len(tokenizer), "max_position_embeddings": tokenizer.model_max_length, **ids, **recipe.text}
    vision = {"image_size": recipe.image_size, **recipe.vision}
    return CLIPModel(CLIPConfig(text_config=text, vision_config=vision, projection_dim=recipe.projection_dim))


def train_anchor(recipe: AnchorRecipe, output: Path) -> Path:
    """Train (or finish, or just return) the anchor `output/anchor`: a plain Hugging Face CLIP folder.

    Raises:
        CheckpointError: an anchor is there and damaged.
    """
    folder = output / "anchor"
    if folder.exists():
        verify_folder(folder)
        return folder
    root = Path(recipe.data_root)
    if recipe.world is not None:
        recipe.world.build(root)
    tokenizer = AutoTokenizer.from_pretrained(recipe_folder() / "anchors" / recipe.tokenizer)
    size = recipe.image_size
    images = CLIPImageProcessorPil(size={"shortest_edge": size}, crop_size={"height": size, "width": size})
    processor = UniAlignProcessor(images, tokenizer, senses={"image": recipe.augmentation})
    model = build_clip(recipe, tokenizer)
    datasets = open_sources(recipe.sources, root)
    sources = [settings.source(name, datasets[name]) for name, settings in recipe.sources.items()]
    mixture = Mixture(sources, processor.features, seed=recipe.seed)
    texts = [settings.open(root) for settings in recipe.paraphrases]
    paraphrases = Paraphrases.from_datasets(texts) if texts else None
    objective = ClipObjective(model, lambda captions: processor.features("text", captions), paraphrases)

    loop = replace(recipe.loop, seed=recipe.seed).in_steps(mixture.steps_per_epoch(world_size()))
    train(objective, mixture, loop, output / "training" / "anchor", hooks=saving(folder, model, tokenizer, images))
    return folder


def run(config_source: str | Path, output: Path, overrides: Sequence[str] = (), imports: Sequence[str] = ()) -> Path:
    """Train an anchor by a config; the folder of the finished CLIP is returned.

    Raises:
        ConfigError: naming file and key.
    """
    recipe = read_config(AnchorRecipe, "anchors", config_source, overrides, imports)
    return train_anchor(recipe, output)
