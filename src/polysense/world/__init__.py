"""The embedded world: a small procedural world of real media files, for tests, demonstrations and reproductions."""

from polysense.world.attributes import EVENTS, LABELLED, class_names
from polysense.world.build import WorldSummary, build_world, load_world, manifest_digests, verify_world
from polysense.world.config import Difficulty, WorldConfig
from polysense.world.gallery import draw_gallery
from polysense.world.subsets import SUBSETS
from polysense.world.words import TEMPLATES

__all__ = [
    "EVENTS",
    "LABELLED",
    "SUBSETS",
    "TEMPLATES",
    "Difficulty",
    "WorldConfig",
    "WorldSummary",
    "build_world",
    "class_names",
    "draw_gallery",
    "load_world",
    "manifest_digests",
    "verify_world",
]
