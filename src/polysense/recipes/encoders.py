"""Encoders that a recipe builds on, by folder, by name on the Hub, or by the config that trains them."""

from __future__ import annotations

from dataclasses import asdict, replace
from pathlib import Path

from polysense.models.base import local_folder
from polysense.recipes import anchors, unialign
from polysense.recipes.config import read_config, recipe_folder
from polysense.recipes.sources import WorldSettings

_UNIALIGN = "unialign:"


def encoder_folder(name: str, output: Path, root: Path, world: WorldSettings | None) -> Path:
    """The folder of an encoder, which is trained in `output` if its name is one of a config.

    Args:
        name: a folder or a name on the Hub; a config of `training/anchors`, or `unialign:` and one of
            `training/unialign`.
        root: folder that data sets are relative to.
        world: the embedded world there, if any.
    """
    if name.startswith(_UNIALIGN):
        config = name.removeprefix(_UNIALIGN)
        built = [] if world is None else [f"world.{key}={value}" for key, value in asdict(world).items()]
        overrides = [f"data_root={root}", "bounds=0", *built]  # nobody asks here how good it is
        return unialign.run(config, output / f"unialign-{config}", overrides)
    if is_elsewhere(name):
        return local_folder(name, {})
    recipe = read_config(anchors.AnchorRecipe, "anchors", name)
    return anchors.train_anchor(replace(recipe, data_root=str(root), world=world), output)


def is_elsewhere(name: str) -> bool:
    """Whether a name is a folder or a repository, not a config of `training/anchors`."""
    return Path(name).exists() or not (recipe_folder() / "anchors" / f"{name}.yaml").exists()
