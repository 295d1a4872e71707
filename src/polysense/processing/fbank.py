"""Kaldi's log mel filter banks, all frames of all windows at once.

Same values as Kaldi's `compute-fbank-feats --dither=0 --htk-compat --use-energy=false --window-type=hanning` on
snipped edges, which is what AST, ImageBind, ViT-Lens and Meta-Transformer were trained on.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np
from jaxtyping import Float
from scipy.fft import rfft

FRAME_SECONDS, SHIFT_SECONDS = 0.025, 0.010
LOW_HZ = 20.0
PRE_EMPHASIS = 0.97
MEL_FLOOR = float(np.finfo(np.float32).eps)  # smallest energy before the logarithm, as in Kaldi


def frame_count(samples: int, sampling_rate: int) -> int:
    """Number of whole frames in a waveform; 0 where it is shorter than one."""
    length, shift = _frame_sizes(sampling_rate)
    return 0 if samples < length else 1 + (samples - length) // shift


def log_mel(
    waves: Float[np.ndarray, "windows samples"], sampling_rate: int, mel_bins: int
) -> Float[np.ndarray, "windows mel frames"]:
    """Log mel energies of each window of a waveform in -1 to 1.

    Args:
        waves: windows of equal length, at least one frame (25 ms) long.
        sampling_rate: in Hz.
        mel_bins: number of triangular filters between 20 Hz and half the sampling rate.
    """
    length, shift = _frame_sizes(sampling_rate)
    frames = np.lib.stride_tricks.sliding_window_view(waves.astype(np.float32), length, axis=-1)[:, ::shift]
    centred = frames - frames.mean(axis=-1, keepdims=True, dtype=np.float64).astype(np.float32)
    emphasised = centred.copy()
    emphasised[..., 1:] -= np.float32(PRE_EMPHASIS) * centred[..., :-1]
    # the first sample of a frame has no predecessor and is emphasised against itself
    emphasised[..., 0] *= np.float32(1 - PRE_EMPHASIS)
    emphasised *= np.hanning(length).astype(np.float32)
    fft_length = 1 << (length - 1).bit_length()
    spectrum = rfft(emphasised, n=fft_length)
    power = spectrum.real**2 + spectrum.imag**2
    energies = power @ _mel_filters(sampling_rate, fft_length, mel_bins)
    banks: Float[np.ndarray, "windows mel frames"] = np.log(np.maximum(energies, MEL_FLOOR)).swapaxes(-1, -2)
    return banks


def _frame_sizes(sampling_rate: int) -> tuple[int, int]:
    return int(FRAME_SECONDS * sampling_rate), int(SHIFT_SECONDS * sampling_rate)


@lru_cache(maxsize=8)
def _mel_filters(sampling_rate: int, fft_length: int, mel_bins: int) -> Float[np.ndarray, "frequencies mel"]:
    """Triangles with equal widths on Kaldi's mel scale, drawn on that scale."""
    low, high = _mel(np.array([LOW_HZ, sampling_rate / 2]))
    edges = np.linspace(low, high, mel_bins + 2)
    mel = _mel(np.arange(fft_length // 2 + 1) * sampling_rate / fft_length)[:, None]
    rising = (mel - edges[:-2]) / (edges[1:-1] - edges[:-2])
    falling = (edges[2:] - mel) / (edges[2:] - edges[1:-1])
    filters: Float[np.ndarray, "frequencies mel"] = np.maximum(0, np.minimum(rising, falling)).astype(np.float32)
    return filters


def _mel(hertz: Float[np.ndarray, " hertz"]) -> Float[np.ndarray, " hertz"]:
    scale: Float[np.ndarray, " hertz"] = 1127 * np.log(1 + hertz / 700)
    return scale
