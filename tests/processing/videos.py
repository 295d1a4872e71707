"""Small real videos whose frames tell their own number."""

from __future__ import annotations

from pathlib import Path

import av
import numpy as np


def numbered_frame(number: int, size: int = 64) -> np.ndarray:
    """A grey picture of brightness `8 * number`, the number being taken modulo 32."""
    return np.full((size, size, 3), 8 * (number % 32), np.uint8)


def write_video(path: Path, *, frames: int, rate: int = 10, key_every: int = 10, codec: str = "libx264") -> None:
    """Encode `numbered_frame`s, with B-frames where the codec has them."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width = stream.height = 64
        stream.pix_fmt, stream.gop_size = "yuv420p", key_every
        for number in range(frames):
            container.mux(stream.encode(av.VideoFrame.from_ndarray(numbered_frame(number), format="rgb24")))
        container.mux(stream.encode())
