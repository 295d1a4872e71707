"""The embedded world: a small procedural world of real media files, for tests, demonstrations and reproductions."""

from polysense.world.attributes import class_names
from polysense.world.build import WorldSummary, build_world, load_world, verify_world
from polysense.world.config import Difficulty, WorldConfig
from polysense.world.words import TEMPLATES

__all__ = [
    "TEMPLATES",
    "Difficulty",
    "WorldConfig",
    "WorldSummary",
    "build_world",
    "class_names",
    "load_world",
    "verify_world",
]
