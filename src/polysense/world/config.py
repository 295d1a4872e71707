"""What a world is built from: sizes, difficulty, seed."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from typing import Any

from polysense.errors import ConfigError
from polysense.safety import check_keys

VERSION = 4  # of the content: to be raised with every change that alters a file

KINDS = ("stills", "clips")
SPLITS = ("train", "validation", "test", "compositional")

SIZES: dict[str, dict[str, dict[str, int]]] = {
    "tiny": {
        "stills": {"train": 48, "validation": 8, "test": 16, "compositional": 8},
        "clips": {"train": 9, "validation": 1, "test": 2, "compositional": 1},
    },
    "demo": {
        "stills": {"train": 2400, "validation": 100, "test": 300, "compositional": 100},
        "clips": {"train": 960, "validation": 20, "test": 80, "compositional": 40},
    },
    "standard": {
        "stills": {"train": 4800, "validation": 200, "test": 600, "compositional": 400},
        "clips": {"train": 2400, "validation": 80, "test": 320, "compositional": 160},
    },
}


@dataclass(frozen=True, kw_only=True)
class Difficulty:
    """Everything that makes the world hard, as numbers; the named levels are `Difficulty.named(...)`."""

    objects: tuple[float, float, float]
    """Probability of one, two and three objects in a still."""
    near_miss: float
    """Probability that a further object shares the subject's shape or colour."""
    off_centre: float
    """Largest distance of the subject from the point the camera looks at, metres."""
    subject_central: bool
    """Whether the subject is always the object nearest to the camera axis; otherwise only the caption names it."""
    tilt: float
    """Largest tilt of an object against the floor, degrees."""
    clutter: int
    """Largest number of small things lying about."""
    occluder: float
    """Probability that something hangs in front of the subject."""
    min_visible: float
    """Least share of the subject's pixels that must be seen."""
    size_jitter: float
    """Half-width of the relative spread of an object's radius (and, with it, of its pitch)."""
    colour_jitter: float
    """Standard deviation of an object's colour, of full scale."""
    light: tuple[float, float]
    """Range of the brightness of the light."""
    texture: float
    """Contrast of the floor and the wall."""
    image_noise: float
    """Standard deviation of the pixel noise, of full scale."""
    depth_noise: float
    """Standard deviation of the depth noise at one metre, metres; it grows with the square of depth."""
    depth_holes: float
    """Largest share of depth pixels without a reading."""
    thermal_noise: float
    """Standard deviation of the thermal noise, kelvin; half of it is a slow drift over the picture."""
    point_jitter: float
    """Standard deviation of a point along each axis, as a share of the object's radius."""
    point_missing: float
    """Largest share of the object's surface that was not scanned."""
    point_strays: float
    """Share of points that belong to the ground and to other things."""
    snr: tuple[float, float]
    """Range of the loudness of the main event over the background noise, decibels."""
    reverberation: float
    """Longest reverberation time, seconds."""
    rooms: int
    """Number of rooms in which clips are filmed; a room has its camera, light, backdrop and clutter."""
    tempo: float
    """Half-width of the relative spread of the rhythm and speed of events."""

    @classmethod
    def named(cls, name: str) -> Difficulty:
        """The level "easy", "standard" or "hard".

        Raises:
            ConfigError: another name.
        """
        if name not in _LEVELS:
            raise ConfigError(f"unknown difficulty {name!r}", fix=f"Use one of {', '.join(_LEVELS)}.")
        return _LEVELS[name]

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> Difficulty:
        """Rebuild a difficulty from JSON; `ConfigError` unless it names every number and nothing else."""
        known = {f.name for f in fields(cls)}
        if set(values) != known:
            raise ConfigError(
                f"difficulty keys differ from the expected ones: {sorted(set(values) ^ known)}",
                fix="Give every number of polysense.world.Difficulty and nothing else.",
            )
        arguments: dict[str, Any] = {key: tuple(v) if isinstance(v, list) else v for key, v in values.items()}
        return cls(**arguments)


_LEVELS = {
    "easy": Difficulty(
        objects=(1.0, 0.0, 0.0), near_miss=0.0, off_centre=0.05, subject_central=True, tilt=0.0, clutter=0,
        occluder=0.0, min_visible=0.9, size_jitter=0.03, colour_jitter=0.01, light=(0.9, 1.1), texture=0.05,
        image_noise=0.01, depth_noise=0.001, depth_holes=0.0, thermal_noise=0.1, point_jitter=0.005,
        point_missing=0.0, point_strays=0.08, snr=(25.0, 35.0), reverberation=0.05, rooms=1, tempo=0.1,
    ),
    "standard": Difficulty(
        objects=(0.35, 0.4, 0.25), near_miss=0.35, off_centre=0.14, subject_central=True, tilt=15.0, clutter=4,
        occluder=0.2, min_visible=0.65, size_jitter=0.08, colour_jitter=0.045, light=(0.5, 1.25), texture=0.25,
        image_noise=0.04, depth_noise=0.004, depth_holes=0.08, thermal_noise=0.8, point_jitter=0.03,
        point_missing=0.4, point_strays=0.2, snr=(10.0, 25.0), reverberation=0.4, rooms=3, tempo=0.2,
    ),
    "hard": Difficulty(
        objects=(0.1, 0.4, 0.5), near_miss=0.6, off_centre=0.3, subject_central=False, tilt=70.0, clutter=8,
        occluder=0.5, min_visible=0.4, size_jitter=0.11, colour_jitter=0.07, light=(0.3, 1.4), texture=0.4,
        image_noise=0.08, depth_noise=0.015, depth_holes=0.25, thermal_noise=1.6, point_jitter=0.06,
        point_missing=0.55, point_strays=0.3, snr=(0.0, 14.0), reverberation=1.0, rooms=12, tempo=0.35,
    ),
}  # fmt: skip


@dataclass(frozen=True, kw_only=True)
class WorldConfig:
    """What to build.

    Attributes:
        size: "tiny" (tests), "demo", "standard", or any other word when `counts` says how much.
        difficulty: "easy", "standard", "hard", or a `Difficulty` of one's own.
        seed: of the world's content.
        counts: number of samples by kind ("stills", "clips") and split; `None` takes those of the named size.

    Raises:
        ConfigError: an unknown size, difficulty, kind or split, or a negative count.
    """

    size: str = "standard"
    difficulty: str | Difficulty = "standard"
    seed: int = 0
    counts: Mapping[str, Mapping[str, int]] | None = field(default=None)

    def __post_init__(self) -> None:
        if self.counts is None and self.size not in SIZES:
            raise ConfigError(
                f"unknown world size {self.size!r}", fix=f"Use one of {', '.join(SIZES)} or give counts."
            )
        for kind, splits in (self.counts or {}).items():
            if kind not in KINDS or set(splits) - set(SPLITS):
                raise ConfigError(
                    f"counts name an unknown kind or split: {kind} {sorted(splits)}",
                    fix=f"Kinds: {', '.join(KINDS)}; splits: {', '.join(SPLITS)}.",
                )
            if any(not isinstance(n, int) or n < 0 for n in splits.values()):
                raise ConfigError(f"counts of {kind} are not all whole numbers of at least 0", fix="Correct them.")
        _ = self.level

    @property
    def level(self) -> Difficulty:
        return Difficulty.named(self.difficulty) if isinstance(self.difficulty, str) else self.difficulty

    def count(self, kind: str, split: str) -> int:
        counts = SIZES[self.size] if self.counts is None else self.counts
        return counts.get(kind, {}).get(split, 0)

    def to_dict(self) -> dict[str, Any]:
        """Resolved form: every number that shapes the content, as JSON."""
        return {
            "size": self.size,
            "difficulty": self.difficulty if isinstance(self.difficulty, str) else "custom",
            "level": json.loads(json.dumps(asdict(self.level))),
            "seed": self.seed,
            "counts": {kind: {split: self.count(kind, split) for split in SPLITS} for kind in KINDS},
        }

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> WorldConfig:
        """Inverse of `to_dict`; unknown keys raise `ConfigError`."""
        check_keys(values, ("size", "difficulty", "level", "seed", "counts"), "a world config")
        rest = {key: values[key] for key in ("size", "seed", "counts") if key in values}
        if "level" not in values:
            return cls(difficulty=values.get("difficulty", "standard"), **rest)
        level = Difficulty.from_dict(values["level"])
        name = values.get("difficulty")
        return cls(difficulty=name if name in _LEVELS and _LEVELS[name] == level else level, **rest)

    @property
    def content_hash(self) -> str:
        """SHA-256 of all that decides the content: version and config, but for the names of size and level."""
        content = {key: value for key, value in self.to_dict().items() if key not in ("size", "difficulty")}
        return hashlib.sha256(json.dumps([VERSION, content], sort_keys=True).encode()).hexdigest()
