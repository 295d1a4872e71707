"""Media files: encoded in memory, hashed, written once."""

from __future__ import annotations

import hashlib
import io
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from jaxtyping import Float, UInt8, UInt16
from PIL import Image

SAMPLING_RATE = 16_000
FRAME_RATE = 2
_VERTEX = np.dtype([("x", "<f4"), ("y", "<f4"), ("z", "<f4"), ("red", "u1"), ("green", "u1"), ("blue", "u1")])


def png(picture: UInt8[np.ndarray, "height width *channels"] | UInt16[np.ndarray, "height width"]) -> bytes:
    """PNG of (height, width[, 3]): 8 bit grey or RGB, or 16 bit grey."""
    buffer = io.BytesIO()
    Image.fromarray(picture).save(buffer, format="PNG", compress_level=3)
    return buffer.getvalue()


def ply(points: Float[np.ndarray, "n 3"], colours: UInt8[np.ndarray, "n 3"]) -> bytes:
    """Binary little-endian PLY of points (n, 3) and colours (n, 3)."""
    vertices = np.empty(len(points), dtype=_VERTEX)
    for axis, name in enumerate(("x", "y", "z")):
        vertices[name] = points[:, axis]
    for channel, name in enumerate(("red", "green", "blue")):
        vertices[name] = colours[:, channel]
    kinds = {"<f4": "float", "|u1": "uchar"}
    properties = "".join(f"property {kinds[_VERTEX[name].str]} {name}\n" for name in _VERTEX.names or ())
    header = f"ply\nformat binary_little_endian 1.0\nelement vertex {len(points)}\n{properties}end_header\n"
    return header.encode() + vertices.tobytes()


def flac(wave: Float[np.ndarray, " samples"]) -> bytes:
    """16-bit mono FLAC of a wave (samples,) in [-1, 1] at 16 kHz."""
    buffer = io.BytesIO()
    whole = np.rint(np.clip(wave, -1, 1) * 32767).astype(np.int16)
    soundfile.write(buffer, whole, SAMPLING_RATE, format="FLAC", subtype="PCM_16", compression_level=0.3)
    return buffer.getvalue()


def mp4(frames: UInt8[np.ndarray, "frames height width 3"]) -> bytes:
    """MPEG-4 video of frames (frames, height, width, 3), two a second, by an encoder that every build of av has."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4", options={"fflags": "+bitexact"}) as container:
        stream = container.add_stream("mpeg4", rate=FRAME_RATE)
        stream.height, stream.width, stream.pix_fmt = frames.shape[1], frames.shape[2], "yuv420p"
        stream.codec_context.thread_count, stream.codec_context.gop_size = 1, 10
        stream.codec_context.options = {"flags": "+bitexact+qscale", "qmin": "2", "qmax": "3", "global_quality": "236"}
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())
    return buffer.getvalue()


def store(root: Path, path: str, content: bytes, **facts: Any) -> dict[str, Any]:
    """Write one file below the world's folder; returns its manifest entry."""
    target = root / path
    try:
        target.write_bytes(content)
    except FileNotFoundError:
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(content)
    return {"path": path, "sha256": hashlib.sha256(content).hexdigest(), **facts}
