"""What a recipe would only fail on hours later, refused before anything is written."""

from __future__ import annotations

import json
import logging
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from transformers import CLIPConfig

from polysense.errors import ConfigError
from polysense.modality import Modality
from polysense.models.base import local_folder
from polysense.models.comet import CometConfig, CometModel
from polysense.models.unialign import UniAlignConfig, UniAlignModel, UniAlignProcessor
from polysense.models.unialign.configuration_unialign import config_on_clip
from polysense.recipes.config import leaves, place
from polysense.recipes.senses import SenseSettings
from polysense.safety import read_json
from polysense.trainer.comet import CometObjective
from polysense.trainer.comet_prediction import last_moment
from polysense.trainer.comet_settings import CometSettings

logger = logging.getLogger(__name__)


def check_stages(stages: Iterable[tuple[str, Sequence[str]]], served: Iterable[str]) -> None:
    """Names that can be folders, and for every trained sense a source.

    Args:
        stages: name and trained senses of each stage.
        served: senses that the sources train.

    Raises:
        ConfigError: naming the stage.
    """
    known = sorted(set(served))
    for name, senses in stages:
        where = f"stages: {name}"
        if not re.fullmatch(r"[\w-]+", name) or not senses:
            raise ConfigError("the stage has no name that can be a folder's, or trains nothing", where=where,
                              fix="Use letters, digits and dashes, and list at least one sense.")  # fmt: skip
        if missing := [sense for sense in senses if sense not in {*known, "text"}]:
            raise ConfigError(f"no source trains {missing[0]!r}", where=where,
                              fix=f"Add one under sources; there are: {', '.join(known) or 'none'}.")  # fmt: skip


def check_text(stages: Sequence[Sequence[str]], options: Mapping[str, Any], anchor: str | None) -> None:
    """Whether text trains where it has to, and only where it can.

    Args:
        stages: trained senses of each stage.
        options: the recipe's `model`.
        anchor: folder or Hub name that the recipe begins with; `None` if it trains its own.

    Raises:
        ConfigError: a stage trains text alone, or without experts for it; or no stage trains new ones.
    """
    where, trained = "stages", any("text" in senses for senses in stages)
    unified, is_new = bool(options.get("unified_text")), True
    if (trained or unified) and anchor is not None:
        folder = local_folder(anchor, {})
        is_new = not is_unialign(folder)
        unified = unified if is_new else bool(read_json(folder / "config.json").get("unified_text"))
    if trained and not unified:
        raise ConfigError("a stage trains text, which CLIP's frozen text tower encodes", where=where,
                          fix="Set model.unified_text: true, or leave text out.")  # fmt: skip
    if any(set(senses) == {"text"} for senses in stages):
        raise ConfigError("a stage trains text alone, and text learns from what it is paired with", where=where,
                          fix="Train it beside a sense that has a source, such as trains: [image, text].")  # fmt: skip
    if unified and is_new and stages and not trained:
        raise ConfigError("no stage trains text, whose experts begin untrained with unified_text", where=where,
                          fix="Add text to the senses that a stage trains.")  # fmt: skip


def check_model(folder: Path, options: Mapping[str, Any], senses: Mapping[str, Modality]) -> None:
    """Build the model of the last stage without weights: what does not fit the anchor shows now.

    Args:
        folder: of the anchor, a CLIP or a UniAlign checkpoint.
        options: the recipe's `model`.
        senses: specs of all senses that the recipe adds.

    Raises:
        ConfigError: unknown or unusable options, or, on a UniAlign checkpoint, others than it was made with.
    """
    added = {name: spec.to_dict() for name, spec in senses.items()}
    with place("model"), torch.device("meta"):
        if is_unialign(folder):
            config = UniAlignConfig.from_pretrained(folder)
            _check_same(config, options)
            config.modalities = {**added, **config.modalities}
        else:
            config = config_on_clip(CLIPConfig.from_pretrained(folder), added, options, where="model")
        UniAlignModel(config)


def warn_of_kept(
    folder: Path, senses: Mapping[str, SenseSettings], augmentation: Mapping[str, Any], image_templates: Sequence[str]
) -> None:
    """Warn of each setting of a sense that a checkpoint has already: it goes on as it was made.

    Args:
        folder: of the anchor; of a CLIP, all is taken as it is given.
        senses, augmentation, image_templates: as the recipe has them.
    """
    if not is_unialign(folder):
        return
    processor, specs = UniAlignProcessor.from_pretrained(folder), UniAlignConfig.from_pretrained(folder).senses
    given: dict[str, Any] = {"augmentation": augmentation, "image_templates": image_templates}
    made: dict[str, Any] = {"augmentation": processor.senses.get("image", {}),
                            "image_templates": processor.templates.get("image")}  # fmt: skip
    for name in sorted({*senses} & {*specs}):
        given[f"senses.{name}"] = asdict(senses[name])
        made[f"senses.{name}"] = {
            "channels": specs[name].channels, "tokenizer": specs[name].tokenizer,
            "processor": processor.senses.get(name, {}), "templates": processor.templates.get(name),
        }  # fmt: skip
    kept = dict(leaves(json.loads(json.dumps(made))))
    for key, value in leaves(json.loads(json.dumps(given))):
        if value not in (None, []) and kept.get(key) != value:
            logger.warning("%s = %r changes nothing: %s goes on with %r, as it was made", key, value, folder.name,
                           kept.get(key))  # fmt: skip


def check_kept(stages: Iterable[Path], options: Mapping[str, Any]) -> None:
    """Refuse to go on from stages with options of the model that they were not made with: these would have no effect.

    Args:
        stages: their folders, which need not be there.
        options: the recipe's `model`.

    Raises:
        ConfigError: naming the stage and the option.
    """
    for folder in stages:
        if (folder / "config.json").is_file():
            with place(f"model: {folder.name}"):
                _check_same(UniAlignConfig.from_pretrained(folder), options)


def _check_same(config: UniAlignConfig, options: Mapping[str, Any]) -> None:
    for key, value in options.items():
        if key != "image_tokenized" and getattr(config, key) != value:
            raise ConfigError(f"{key} is {value!r}, and {getattr(config, key)!r} in the checkpoint", where=key,
                              fix="Leave the key out, or begin in another folder: a checkpoint keeps what it was made "
                                  "with.")  # fmt: skip


def check_model_options(options: Mapping[str, Any], senses: Mapping[str, Modality]) -> None:
    """Names and types of `model`, as far as they can be judged without the anchor; see `check_model`."""
    with place("model"):
        config_on_clip(CLIPConfig(), {name: spec.to_dict() for name, spec in senses.items()}, options, where="model")


def check_comet(options: Mapping[str, Any], objective: CometSettings, senses: Sequence[str], steps: int) -> None:
    """Build a COMET model and its objective without weights: options that do not go together show now.

    Args:
        options: the recipe's `model`, with what its method changes.
        objective: weights of the losses.
        senses: of a stage.
        steps: of every sequence.

    Raises:
        ConfigError: naming the option.
    """
    features = {sense: {"feature_dim": 1} for sense in senses}  # their widths are known once they are extracted
    with place("model"), torch.device("meta"):
        model = CometModel(CometConfig(modalities=features, **options))
        if steps > 1 and (objective.contrast or objective.replay):
            last_moment(steps, model.config.horizon)
    with place("objective"), torch.device("meta"):
        CometObjective(model, modalities=senses, settings=objective)


def is_unialign(folder: Path) -> bool:
    """Whether a model folder is a UniAlign checkpoint."""
    return bool(read_json(folder / "config.json").get("model_type") == UniAlignConfig.model_type)
