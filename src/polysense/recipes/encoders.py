"""Encoders that a recipe builds on, by folder, by name on the Hub, or by the config that trains them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path

from polysense.errors import ConfigError
from polysense.models.base import local_folder
from polysense.recipes import anchors, features, unialign
from polysense.recipes.config import config_names, read_config, recipe_folder, shipped_names
from polysense.recipes.sources import WorldSettings

_UNIALIGN, NET = "unialign:", "net:"


def encoder_folder(name: str, output: Path, root: Path, world: WorldSettings | None) -> Path:
    """The folder of an encoder, which is trained in `output` if its name is one of a config.

    Args:
        name: a folder or a name on the Hub; a config of `training/anchors`; `unialign:` and a config of
            `training/unialign`; or `net:` and a net of `training/comet/features.yaml`, which learns without labels
            from another world.
        root: folder that data sets are relative to.
        world: the embedded world there, if any.

    Raises:
        ConfigError: there is no such config or net.
    """
    if name.startswith(_UNIALIGN):
        config = name.removeprefix(_UNIALIGN)
        built = [] if world is None else [f"world.{key}={value}" for key, value in asdict(world).items()]
        overrides = [f"data_root={root}", "bounds=0", *built]  # nobody asks here how good it is
        return unialign.run(config, output / f"unialign-{config}", overrides)
    if name.startswith(NET):
        folder = output / "features"
        net = replace(net_recipe(name), data_root=str(folder / "world"))
        return features.train_features(net, folder) / name.removeprefix(NET)
    if is_elsewhere(name):
        return local_folder(name, {})
    recipe = read_config(anchors.AnchorRecipe, "anchors", name)
    return anchors.train_anchor(replace(recipe, data_root=str(root), world=world), output)


def check_encoder(name: str, own: Sequence[str]) -> None:
    """Refuse the name of an encoder that could neither be found nor trained.

    Args:
        own: what the recipe trains by names without a prefix.

    Raises:
        ConfigError: there is no such config or net.
        CheckpointError, UnsafeFileError: see `local_folder`.
    """
    if name.startswith(_UNIALIGN):
        read_config(unialign.UniAlignRecipe, "unialign", name.removeprefix(_UNIALIGN))
    elif name.startswith(NET):
        net_recipe(name)
    elif name not in own or Path(name).exists():
        shipped = [f"{_UNIALIGN}{config}" for config in config_names(recipe_folder() / "unialign")]
        named_folder(name, [*own, *shipped, *(f"{NET}{net}" for net in _net_recipes().nets)])


def named_folder(name: str, own: Sequence[str]) -> Path:
    """The folder of a model that is here or on the Hub.

    Args:
        own: the other names that there are, told if it is neither.

    Raises:
        CheckpointError, UnsafeFileError: see `local_folder`.
    """
    also = f", or one of {', '.join(own)}" if own else ""
    return local_folder(name, {}, fix=f"Give a folder, owner/name on the Hub{also}.")


def clip_configs() -> list[str]:
    """Configs of `training/anchors` that train an encoder; the others train language models."""
    return shipped_names(anchors.AnchorRecipe, "anchors")


def is_elsewhere(name: str) -> bool:
    """Whether a name is a folder or a repository, not a config of `training/anchors`."""
    return Path(name).exists() or name not in config_names(recipe_folder() / "anchors")


def net_recipe(name: str) -> features.FeatureRecipe:
    """What trains the net that `net:audio` names.

    Raises:
        ConfigError: there is no such net.
    """
    recipe, net = _net_recipes(), name.removeprefix(NET)
    if net not in recipe.nets:
        raise ConfigError(f"features.yaml has no net {net!r}", fix=f"Choose {', '.join(recipe.nets)}.")
    return replace(recipe, nets={net: recipe.nets[net]}, text=None, probes="")


def _net_recipes() -> features.FeatureRecipe:
    return read_config(features.FeatureRecipe, features.FOLDER, "features")
