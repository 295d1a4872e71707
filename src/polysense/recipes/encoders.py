"""Encoders that a recipe builds on, by folder, by name on the Hub, or by the config that trains them."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import asdict, replace
from pathlib import Path

from polysense.errors import CheckpointError, ConfigError
from polysense.models.base import local_folder
from polysense.recipes import anchors, features, unialign
from polysense.recipes.config import read_config, recipe_folder, shipped_names
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
        return folder_elsewhere(name, _shipped)
    recipe = read_config(anchors.AnchorRecipe, "anchors", name)
    return anchors.train_anchor(replace(recipe, data_root=str(root), world=world), output)


def check_encoder(name: str) -> None:
    """Refuse the name of an encoder that `encoder_folder` could neither find nor train.

    Raises:
        ConfigError: there is no such config or net.
        CheckpointError, UnsafeFileError: see `local_folder`.
    """
    if name.startswith(_UNIALIGN):
        read_config(unialign.UniAlignRecipe, "unialign", name.removeprefix(_UNIALIGN))
    elif name.startswith(NET):
        net_recipe(name)
    elif is_elsewhere(name):
        folder_elsewhere(name, _shipped)


def folder_elsewhere(name: str, shipped: Callable[[], Iterable[str]]) -> Path:
    """The folder that a name is of, or that its repository has been fetched to.

    Args:
        shipped: names that might have been meant; they are told if there is neither.

    Raises:
        CheckpointError, UnsafeFileError: see `local_folder`.
    """
    try:
        return local_folder(name, {})
    except CheckpointError as error:
        if "/" in name or Path(name).exists():
            raise
        fix = f"{error.fix} Or give one of the shipped names: {', '.join(shipped())}."
        raise type(error)(error.what, where=error.where, fix=fix) from error


def _shipped() -> list[str]:
    trained = [f"{_UNIALIGN}{each}" for each in shipped_names(unialign.UniAlignRecipe, "unialign")]
    nets = [f"{NET}{each}" for each in _net_recipes().nets]
    return [*shipped_names(anchors.AnchorRecipe, "anchors"), *trained, *nets]


def is_elsewhere(name: str) -> bool:
    """Whether a name is a folder or a repository, not a config of `training/anchors`."""
    return Path(name).exists() or not (recipe_folder() / "anchors" / f"{name}.yaml").exists()


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
