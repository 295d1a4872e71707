"""Video as uniformly sampled frames through CLIP's picture pipeline (method-facts 1.5)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
from jaxtyping import Float, UInt8
from torch import Tensor

from polysense.errors import MediaError
from polysense.processing import media
from polysense.processing.arrays import in_memory_array
from polysense.processing.augment import draw_view
from polysense.processing.base import Facts
from polysense.processing.image import ImageProcessor, resized
from polysense.processing.video_files import read_frames

_LUMA = np.array([[0.299], [0.587], [0.114]], np.float32)


@dataclass(frozen=True, kw_only=True)
class VideoProcessor(ImageProcessor):
    """Frames from the middles of equal spans of a clip; clips with fewer frames give all they have, and a mask.

    Attributes:
        num_frames: frames drawn evenly from the whole clip, while `windows` is 1.
        windows: with more than one, step t is the frame in the middle of the t-th window of `seconds`, from the
            beginning of the clip; shorter clips give fewer steps. `windows=10` are COMET's ten steps.
        seconds: length of a window.
        subtract_background: whether the mean of a clip's frames is taken off each of them. Before a camera that
            stands still this leaves what moves; it is off by default, as CLIP's pictures are made.
        grayscale: whether all channels become the frame's luma (ITU-R BT.601). What happens does not depend on
            colour, which a net that learns without labels otherwise sees before all else.
    """

    kind: ClassVar[str] = "frames"
    fact_names: ClassVar[tuple[str, ...] | None] = ("frame_rate",)
    time_axis: ClassVar[bool] = True
    formats: ClassVar[tuple[str, ...]] = media.VIDEOS

    num_frames: int = 8
    windows: int = 1
    seconds: float = 1.0
    subtract_background: bool = False
    grayscale: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.channels == 3, "channels", "3")
        self._require(self.num_frames >= 1 and self.windows >= 1, "num_frames and windows", "at least 1")
        self._require(self.seconds > 0, "seconds", "above 0")

    def load(self, source: Any, facts: Facts | None = None) -> UInt8[np.ndarray, "time height width 3"]:
        """The sampled frames.

        Args:
            source: path, bytes or binary file of MP4, Matroska or AVI; an array `time height width 3` of 8-bit
                values; or a list of pictures, each in a form that `ImageProcessor.load` takes.
            facts: `frame_rate` of an array or list, in frames per second; only windows ask for it.

        Raises:
            MediaError: unreadable, without frames, too large, or with an impossible frame rate.
        """
        name = media.source_name(source)
        if isinstance(source, list | tuple):
            source = self._stacked([super(VideoProcessor, self).load(picture) for picture in source], name)
        if (array := in_memory_array(source)) is None:
            with media.open_media(source, self.formats) as opened:
                return read_frames(opened, self._times)
        if array.ndim != 4 or array.shape[-1] != 3 or array.dtype != np.uint8 or 0 in array.shape:
            raise MediaError(f"has shape {array.shape} and type {array.dtype}", where=name,
                             fix="Give 8-bit time, height, width, 3 with at least one frame.")  # fmt: skip
        rate = _frame_rate(facts or {}, name)
        times = np.array(self._times(len(array) / rate, rate))
        # the end of an array, which short windows ask for, shows its last frame, as that of a film does
        places = np.minimum(np.floor(times * rate + 1e-9).astype(int), len(array) - 1)
        taken: UInt8[np.ndarray, "time height width 3"] = array[places]
        return taken

    def features(
        self, raw: UInt8[np.ndarray, "time height width 3"], rng: np.random.Generator | None = None
    ) -> Float[Tensor, "time 3 size size"]:
        """Resize, crop and normalise every frame; with `rng`, one random crop and flip for all of them."""
        view = None if rng is None else draw_view(rng, raw.shape[1], raw.shape[2], self.crop_scale, self.flip)
        pictures = np.stack([resized(frame, self.size, view) for frame in raw])
        if self.grayscale:
            pictures = np.repeat(pictures.astype(np.float32) @ _LUMA, 3, axis=-1)
        frames = self._normalised(self._scaled(pictures))
        return frames - frames.mean(dim=0) if self.subtract_background else frames

    def _times(self, duration: float, rate: float) -> list[float]:
        """Seconds from the first frame at which frames are taken."""
        if self.windows > 1:
            steps = min(self.windows, max(1, round(duration / self.seconds)))
            return [min((step + 0.5) * self.seconds, duration) for step in range(steps)]
        frames = min(self.num_frames, max(1, round(duration * rate)))
        return [(step + 0.5) * duration / frames for step in range(frames)]

    def _stacked(self, frames: list[Any], name: str) -> UInt8[np.ndarray, "time height width 3"]:
        if not frames or len({frame.shape for frame in frames}) > 1:
            raise MediaError(f"is a list of {len(frames)} pictures of unequal sizes or none", where=name,
                             fix="Give at least one picture, all of one size.")  # fmt: skip
        return np.stack([np.rint(frame).astype(np.uint8) for frame in frames])


def _frame_rate(facts: Facts, name: str) -> float:
    """Frames per second of an array or list."""
    try:
        rate = float(facts.get("frame_rate", 1.0))
    except (TypeError, ValueError, OverflowError):
        rate = 0.0
    if not 0 < rate < np.inf:
        raise MediaError(f"has a frame rate of {facts.get('frame_rate')!r}", where=name,
                         fix="Give a positive number of frames per second.")  # fmt: skip
    return rate
