"""Small real videos whose frames tell their own number."""

from __future__ import annotations

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np


def numbered_frame(number: int, size: int = 64) -> np.ndarray:
    """A grey picture of brightness `8 * number`, the number being taken modulo 32."""
    return np.full((size, size, 3), 8 * (number % 32), np.uint8)


def write_video(
    target: Path | io.BytesIO, *, frames: int, rate: int = 10, key_every: int = 10, codec: str = "libx264",
    format: str | None = None, first: int = 0,
) -> None:  # fmt: skip
    """Encode `numbered_frame`s, with B-frames where the codec has them.

    Args:
        format: of a file in memory, which has no ending that tells it.
        first: number of the frame that it begins with, at that frame's time.
    """
    with av.open(str(target) if isinstance(target, Path) else target, "w", format=format) as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.gop_size = "yuv420p", key_every
        for number in range(first, first + frames):
            frame = av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")
            frame.pts, frame.time_base = number, Fraction(1, rate)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
