"""Depth maps as disparity, after ImageBind and ViT-Lens (method-facts 1.5).

    metres = decode(file)
    disparity = baseline * focal / clamp(metres, 0.01, 50)
    value = clamp(disparity, 0.01, 75) / 75

Focal length (pixels) and baseline (metres) are facts of the sample; a camera preset stands in where a sample has none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
from jaxtyping import Float, Shaped, UInt16

from polysense.errors import MediaError
from polysense.processing import augment
from polysense.processing.base import Facts
from polysense.processing.image import GridProcessor
from polysense.processing.media import source_name

MIN_METRES, MAX_METRES = 0.01, 50.0
MIN_DISPARITY, MAX_DISPARITY = 0.01, 75.0
SUNRGBD_MAX_METRES = 8.0  # what the recipe of the SUN RGB-D sensors caps correctly decoded distances at
LEGACY_FACTOR = 8.0

# focal length in pixels and baseline in metres; the focal lengths are those of the SUN RGB-D and NYU calibrations
CAMERAS: dict[str, tuple[float, float]] = {
    "kv1": (518.857901, 0.075),
    "kv2": (529.5, 0.075),
    "realsense": (691.584229, 0.095),
    "xtion": (570.342224, 0.095),
    "nyu": (518.86, 0.075),
}


@dataclass(frozen=True, kw_only=True)
class DepthProcessor(GridProcessor):
    """16-bit depth pictures, or arrays of metres.

    Attributes:
        encoding: how integers become distances: "millimetres", or "sunrgbd" (millimetres rotated left by three bits).
        legacy_scale: reproduce the error of the omnivore and ViT-Lens code, which reads SUN RGB-D files as plain
            millimetres and so sees everything eight times as far; only for weights that were trained that way.
        missing: what a distance of 0, no measurement, becomes: "nearest" as in the published recipes, whose data have
            their holes filled (the clamp makes it the largest disparity), or "farthest" for sensors that leave holes.
        camera: preset for samples whose facts have neither intrinsics nor a camera of their own.
        erase: in training, probability of erasing a rectangle.
        warps: in training, number of geometric RandAugment operations.
        warp_magnitude: their strength, 0 to 30.
    """

    formats: ClassVar[tuple[str, ...]] = ("PNG picture", "TIFF picture", "NumPy array")
    fact_names: ClassVar[tuple[str, ...] | None] = ("focal", "baseline", "intrinsics", "camera")

    channels: int = 1
    mean: tuple[float, ...] = (0.0418,)
    std: tuple[float, ...] = (0.0295,)
    encoding: Literal["millimetres", "sunrgbd"] = "millimetres"
    legacy_scale: bool = False
    missing: Literal["nearest", "farthest"] = "nearest"
    camera: Literal["kv1", "kv2", "realsense", "xtion", "nyu"] = "kv1"
    erase: float = 0.25
    warps: int = 2
    warp_magnitude: int = 9

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.channels == 1, "channels", "1")
        self._require(0 <= self.erase <= 1, "erase", "a probability")
        self._require(self.warps >= 0 and 0 <= self.warp_magnitude <= 30, "warps", "0 or more, of magnitude 0 to 30")

    def load(self, source: Any, facts: Facts | None = None) -> Float[np.ndarray, "height width 1"]:
        """Scaled disparity in [0.01 / 75, 1].

        Args:
            source: a 16-bit picture (integers in `encoding`), a float picture or array (metres), or an integer array.
            facts: `intrinsics` (fx, fy, cx, cy in pixels) or `focal`, `baseline` (metres), or `camera` (a preset).

        Raises:
            MediaError: unreadable, 8-bit, negative, without a single measurement, or with impossible camera facts.
        """
        name = source_name(source)
        stored = super().load(source, facts)
        focal, baseline = self._optics(facts or {}, name)
        metres = self._metres(stored, name)
        if self.missing == "farthest":
            metres = np.where(metres == 0, MAX_METRES, metres)
        disparity = baseline * focal / np.clip(metres, MIN_METRES, MAX_METRES)
        scaled: Float[np.ndarray, "height width 1"] = np.clip(disparity, MIN_DISPARITY, MAX_DISPARITY) / MAX_DISPARITY
        return scaled.astype(np.float32)

    def assumed(self, facts: Facts) -> Facts:
        """Focal length and baseline of the preset, as far as the facts name neither them nor a camera."""
        focal, baseline = CAMERAS[self.camera]
        preset = {} if "camera" in facts else {"focal": focal, "baseline": baseline}
        known = {*facts, *(["focal"] if "intrinsics" in facts else [])}
        return {name: value for name, value in preset.items() if name not in known}

    def _augmented(
        self, values: Float[np.ndarray, "1 size size"], rng: np.random.Generator
    ) -> Float[np.ndarray, "1 size size"]:
        warped = augment.warp(values, rng, self.warps, self.warp_magnitude)
        return augment.erase(warped, rng, self.erase)

    def _metres(self, stored: Shaped[np.ndarray, "height width 1"], name: str) -> Float[np.ndarray, "height width 1"]:
        if stored.dtype == np.uint8:
            raise MediaError("has 8-bit values, too coarse for distances", where=name,
                             fix="Store depth as a 16-bit PNG in millimetres or a float array in metres.")  # fmt: skip
        if (stored < 0).any() or not (stored > 0).any():
            reason = "has negative distances" if (stored < 0).any() else "has no measurement (all values are 0)"
            raise MediaError(reason, where=name, fix="Check how the depth map was written.")
        if stored.dtype.kind == "f":
            return stored * (LEGACY_FACTOR if self.legacy_scale else 1.0)
        if stored.max() > np.iinfo(np.uint16).max:
            raise MediaError("has distances above 16 bits", where=name, fix="Store millimetres, or metres as floats.")
        raw = stored.astype(np.uint16)
        if self.encoding == "millimetres":
            return raw / 1000 * (LEGACY_FACTOR if self.legacy_scale else 1.0)
        return raw / 1000 if self.legacy_scale else np.minimum(rotate_right_3(raw) / 1000, SUNRGBD_MAX_METRES)

    def _optics(self, facts: Facts, name: str) -> tuple[float, float]:
        """Focal length in pixels and baseline in metres of one sample."""
        camera = facts.get("camera", self.camera)
        if not isinstance(camera, str) or camera not in CAMERAS:
            raise MediaError(f"has the unknown camera {camera!r}", where=name, fix=f"Known: {', '.join(CAMERAS)}.")
        focal, baseline = CAMERAS[camera]
        try:
            focal = float(facts["intrinsics"][0] if "intrinsics" in facts else facts.get("focal", focal))
            baseline = float(facts.get("baseline", baseline))
        except (TypeError, ValueError, LookupError, OverflowError) as error:
            raise MediaError(
                "has camera facts that are no numbers",
                where=name,
                fix="Give intrinsics [fx, fy, cx, cy] in pixels and baseline in metres.",
            ) from error
        if not (np.isfinite([focal, baseline]).all() and focal > 0 and baseline > 0):
            raise MediaError(f"has focal length {focal} and baseline {baseline}", where=name,
                             fix="Both must be positive: pixels and metres.")  # fmt: skip
        return focal, baseline


def rotate_right_3(values: UInt16[np.ndarray, " ..."]) -> UInt16[np.ndarray, " ..."]:
    """Undo SUN RGB-D's circular shift: the three lowest bits are the three highest of the distance."""
    return (values >> 3) | (values << 13)
