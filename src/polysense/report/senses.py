"""One sample of a sense as a picture: a drawing function per tokenizer kind, so that users' senses are drawn too."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from typing import Any

import matplotlib as mpl
import numpy as np
from jaxtyping import Float, Shaped, UInt8
from matplotlib.axes import Axes
from numpy.typing import NDArray

from polysense.report.style import INK, SOFT

Array = NDArray[Any]

_COLOUR_MAPS = {"depth": "viridis", "thermal": "inferno"}
_NO_READING = {"depth": 1.0}  # disparity is largest where the file has none; elsewhere 0 stands for that
_FRAMES = 4  # of a video
_WINDOW, _HOP = 512, 128  # samples of the spectrogram
_TILT, _TURN = np.radians(24.0), np.radians(-52.0)  # from where a cloud is looked at
_LINE, _LINES = 17, 6  # characters and lines of a text that fit its cell


def draw_sense(axes: Axes, kind: str, modality: str, raw: Any) -> None:
    """Draw one raw sample into a square cell.

    Args:
        axes: the cell; ticks and grid are taken off, the frame is left to the caller.
        kind: tokenizer kind of the modality; one without a drawing gets its name written.
        modality: chooses the colour map of one-channel pictures.
        raw: what `ModalityProcessor.load` of the modality returns, or a text.
    """
    axes.set_xticks([])
    axes.set_yticks([])
    axes.grid(visible=False)
    if isinstance(raw, str):
        _draw_text(axes, modality, raw)
    else:
        _DRAWINGS.get(kind, _draw_name)(axes, modality, np.asarray(raw))
    axes.set_box_aspect(1)


def _draw_grid(axes: Axes, modality: str, raw: Shaped[np.ndarray, "height width channels"]) -> None:
    axes.imshow(_picture(raw, modality), interpolation="nearest", aspect="auto")


def _draw_frames(axes: Axes, modality: str, raw: Shaped[np.ndarray, "time height width channels"]) -> None:
    """A strip of frames, read like text: two above, two below."""
    chosen = np.linspace(0, len(raw) - 1, _FRAMES).round().astype(int)
    frames = [_picture(raw[index], modality) for index in chosen]
    gap = max(1, frames[0].shape[0] // 32)
    padded = [np.pad(f, ((gap, gap), (gap, gap), (0, 0)), constant_values=255) for f in frames]
    axes.imshow(np.vstack([np.hstack(padded[:2]), np.hstack(padded[2:])]), interpolation="nearest", aspect="auto")


def _draw_sound(axes: Axes, modality: str, raw: Float[np.ndarray, " samples"]) -> None:
    """Loudness over time (to the right) and frequency (up)."""
    wave = np.pad(raw.reshape(-1), (0, max(0, _WINDOW - raw.size)))
    frames = np.lib.stride_tricks.sliding_window_view(wave, _WINDOW)[::_HOP] * np.hanning(_WINDOW)
    power = np.abs(np.fft.rfft(frames, axis=1).T) ** 2
    loudness = np.log10(power[1 : _WINDOW // 4] + 1e-8)
    low, high = np.percentile(loudness, (10, 99.8))
    axes.imshow(loudness, cmap="magma", vmin=low, vmax=max(high, low + 1e-6), origin="lower", aspect="auto")


def _draw_points(axes: Axes, modality: str, raw: Float[np.ndarray, "points channels"]) -> None:
    """The cloud from aside and a little above, near points over far ones."""
    centred = raw[:, :3] - (raw[:, :3].max(axis=0) + raw[:, :3].min(axis=0)) / 2
    x, y, z = centred.T
    across, away = x * np.cos(_TURN) - y * np.sin(_TURN), x * np.sin(_TURN) + y * np.cos(_TURN)
    up = z * np.cos(_TILT) + away * np.sin(_TILT)
    order = np.argsort(-away)
    if raw.shape[1] >= 6:
        colours = raw[:, 3:6] / (255 if raw[:, 3:6].max() > 1 else 1)
    else:
        colours = mpl.colormaps["viridis"](_scaled(z))[:, :3]
    axes.scatter(across[order], up[order], c=colours[order].clip(0, 1), s=2.2, linewidths=0)
    reach = 1.1 * max(np.abs(across).max(), np.abs(up).max(), 1e-6)
    axes.set(xlim=(-reach, reach), ylim=(-reach, reach), facecolor="#f6f7f9")


def _draw_text(axes: Axes, modality: str, raw: str) -> None:
    lines = textwrap.wrap(raw, _LINE, max_lines=_LINES, placeholder=" ...") or [""]
    axes.set_facecolor("#fbf7ec")
    axes.text(
        0.5, 0.5, "\n".join(lines), transform=axes.transAxes, ha="center", va="center", fontsize=7.5, color=INK,
        linespacing=1.35,
    )  # fmt: skip


def _draw_name(axes: Axes, modality: str, raw: Array) -> None:
    axes.text(0.5, 0.5, modality, transform=axes.transAxes, ha="center", va="center", fontsize=8, color=SOFT)


def _picture(raw: Shaped[np.ndarray, "height width channels"], modality: str) -> UInt8[np.ndarray, "height width 3"]:
    """Colours as they are where there are three, a colour map otherwise; what was not measured stays black."""
    raw = raw[..., None] if raw.ndim == 2 else raw
    if raw.shape[-1] == 3:
        full = 1.0 if raw.dtype.kind == "f" else float(np.iinfo(raw.dtype).max)
        return np.asarray(np.clip(raw / full, 0, 1) * 255, dtype=np.uint8)
    values = raw[..., 0].astype(np.float64)
    measured = values != _NO_READING.get(modality, 0.0)
    coloured = mpl.colormaps[_COLOUR_MAPS.get(modality, "cividis")](_scaled(values, measured))[..., :3]
    return np.asarray(np.where(measured[..., None], coloured, 0) * 255, dtype=np.uint8)


def _scaled(values: Array, measured: Array | None = None) -> Array:
    """Values from 0 to 1 between the first and last percentile of those that were measured."""
    counted = values[measured] if measured is not None and measured.any() else values
    low, high = np.percentile(counted, (1, 99))
    return np.asarray(np.clip((values - low) / max(high - low, 1e-9), 0, 1))


_DRAWINGS: dict[str, Callable[[Axes, str, Array], None]] = {
    "grid": _draw_grid, "frames": _draw_frames, "spectrogram": _draw_sound, "points": _draw_points,
}  # fmt: skip
