"""Sound as filter-bank pictures (AST, ViT-Lens, Meta-Transformer; method-facts 1.5)."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from numbers import Real
from typing import Any, ClassVar, Literal

import numpy as np
import soundfile
import torch
from jaxtyping import Float, Shaped
from scipy.signal import resample_poly
from torch import Tensor
from torch.nn.functional import interpolate

from polysense.errors import MediaError, SamplingRateError
from polysense.processing import fbank, media
from polysense.processing.arrays import in_memory_array
from polysense.processing.base import Facts, ModalityProcessor

_RATES = (1_000, 384_000)  # Hz: sampling rates that are resampled
_LOUDEST = 16.0  # times full scale, 24 dB: mixing floats gets nowhere near it, integers kept as floats do
_BLOCK = 1 << 16  # samples decoded at a time, so that many channels cost no memory


@dataclass(frozen=True, kw_only=True)
class AudioProcessor(ModalityProcessor):
    """Mono waveform to Kaldi filter banks, one picture per window.

    One window of the default ten seconds is the whole clip of AudioSet or VGGSound as one picture. `windows=3,
    seconds=5` are ViT-Lens's evaluation clips; `windows=10, seconds=1, layout="consecutive"` are COMET's ten steps.

    Attributes:
        sampling_rate: Hz that files must have.
        resample: convert files of another rate instead of refusing them.
        windows: number of windows; in training a single window begins at random, several keep their places.
        seconds: length of a window; shorter clips are padded with silence after the filter bank.
        layout: "spread" puts the windows evenly over the clip; "consecutive" lays them end to end from its beginning,
            so that clips shorter than all windows give fewer of them (and a mask in a batch).
        mel_bins: filters between 20 Hz and half the sampling rate.
        picture: resize each window to `size` x `size` (bilinear with anti-aliasing); else `mel_bins` x frames.
        subtract_background: whether the median over a clip is taken off each mel bin: before a microphone that hears
            the same hum and hiss all the time this leaves what happens. Give `mean` as 0 then.
        mean: subtracted from the log energies.
        std: what they are divided by (ViT-Lens: the standard deviation; Meta-Transformer: twice that).
        freq_mask: in training, largest number of mel bins masked.
        time_mask: in training, largest number of frames masked (10 ms each).
        noise: in training, largest amplitude of uniform noise added to the normalised picture.
        roll: in training, largest number of frames by which a picture is rolled.
        mel_shift: in training, largest number of mel bins by which the pictures of a clip are moved up or down: the
            same happens to a larger or smaller thing.
        allow_silence: accept clips in which every sample is the same.
    """

    kind: ClassVar[str] = "spectrogram"
    fact_names: ClassVar[tuple[str, ...] | None] = ("sampling_rate", "silent")
    time_axis: ClassVar[bool] = True

    channels: int = 1
    sampling_rate: int = 16_000
    resample: bool = False
    windows: int = 1
    seconds: float = 10.0
    layout: Literal["spread", "consecutive"] = "spread"
    mel_bins: int = 128
    picture: bool = True
    subtract_background: bool = False
    mean: float = -4.2677
    std: float = 4.5690
    freq_mask: int = 12
    time_mask: int = 48
    noise: float = 0.1
    roll: int = 10
    mel_shift: int = 0
    allow_silence: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        self._require(self.channels == 1, "channels", "1 (sound is mixed down to mono)")
        self._require(_RATES[0] <= self.sampling_rate <= _RATES[1], "sampling_rate", f"within {_RATES} Hz")
        self._require(self.windows >= 1 and self.mel_bins >= 1, "windows and mel_bins", "at least 1")
        self._require(0.025 <= self.seconds <= 3600, "seconds", "between 0.025 and 3600")
        self._require(self.std > 0, "std", "above 0")
        self._require(min(self.freq_mask, self.time_mask, self.noise, self.roll) >= 0, "augmentation", "0 or more")
        self._require(0 <= self.mel_shift < self.mel_bins, "mel_shift", "0 or more, and below mel_bins")

    def load(self, source: Any, facts: Facts | None = None) -> Float[np.ndarray, " samples"]:
        """Mono waveform in -1 to 1 at `sampling_rate`; several channels are averaged.

        Args:
            source: path, bytes or binary file that soundfile reads; `{"array", "sampling_rate"}` as the datasets
                library gives it; or an array, with `sampling_rate` among the facts. The longer axis of an array is
                time.
            facts: `sampling_rate` in Hz of a bare array; `silent`, true of a clip that is meant to be.

        Raises:
            SamplingRateError: another rate than the processor's without `resample`, or an array without a rate.
            MediaError: unreadable, too long, shorter than a frame, silent, or with values that are not finite or far
                beyond full scale.
        """
        name = media.source_name(source)
        if (array := in_memory_array(source)) is not None:
            known = source if isinstance(source, Mapping) else (facts or {})
            wave, rate = _mono(array, name), known.get("sampling_rate")
        else:
            with media.open_media(source, media.SOUNDS) as opened:
                wave, rate = _decode(opened)
        wave = self._at_own_rate(wave, rate, name)
        if not np.isfinite(wave).all():
            raise MediaError("has samples that are not finite", where=name, fix="Write the file again.")
        if (loudest := float(np.abs(wave).max(initial=0))) > _LOUDEST:
            raise MediaError(f"has samples up to {loudest:g}, and full scale is 1", where=name,
                             fix="Divide by the largest value of the integers it was made of.")  # fmt: skip
        if fbank.frame_count(len(wave), self.sampling_rate) == 0:
            raise MediaError(f"has {len(wave)} samples, less than one frame of 25 ms", where=name,
                             fix="Record at least a few tenths of a second.")  # fmt: skip
        if np.ptp(wave) == 0 and not (self.allow_silence or (facts or {}).get("silent")):
            raise MediaError("is digital silence (every sample is the same)", where=name,
                             fix=f"Drop the clip, or say that it is meant: the fact silent of the file (--fact "
                                 f"{self.modality}.silent=true), or allow_silence of the processor.")  # fmt: skip
        return wave

    def features(
        self, raw: Float[np.ndarray, " samples"], rng: np.random.Generator | None = None
    ) -> Float[Tensor, "windows 1 mel frames"]:
        """Filter banks of each window, normalised; with `rng`, masked, noisy, rolled and shifted."""
        centred = raw - raw.mean()
        length = round(self.seconds * self.sampling_rate)
        starts = self._starts(len(centred), length, rng)
        pieces = [centred[start : start + length] for start in starts]
        banks = np.stack([self._bank(piece, length) for piece in pieces])
        if self.subtract_background:
            banks = banks - np.median(banks, axis=(0, 2), keepdims=True)
        if rng is not None:
            banks = np.stack([self._masked(bank, rng) for bank in banks])
        values = (banks - self.mean) / self.std
        if rng is not None:
            values = values + rng.random(values.shape, np.float32) * np.float32(rng.uniform(0, self.noise))
            values = np.roll(values, int(rng.integers(-self.roll, self.roll + 1)), axis=-1)
            values = self._shifted(values, rng) if self.mel_shift else values
        out = torch.from_numpy(values.astype(np.float32))[:, None]
        if self.picture:
            out = interpolate(out, (self.size, self.size), mode="bilinear", align_corners=False, antialias=True)
        return out

    def _starts(self, samples: int, length: int, rng: np.random.Generator | None) -> list[int]:
        spare = max(samples - length, 0)
        if self.layout == "consecutive":
            frame = int(fbank.FRAME_SECONDS * self.sampling_rate)
            # a last window shorter than one frame holds nothing that the filter bank could see
            return [i * length for i in range(self.windows) if i == 0 or samples - i * length >= frame]
        if self.windows == 1:
            return [spare // 2 if rng is None else int(rng.integers(spare + 1))]
        return [round(spare * i / (self.windows - 1)) for i in range(self.windows)]

    def _bank(self, piece: Float[np.ndarray, " samples"], length: int) -> Float[np.ndarray, "mel frames"]:
        bank = fbank.log_mel(piece[None], self.sampling_rate, self.mel_bins)[0]
        missing = fbank.frame_count(length, self.sampling_rate) - bank.shape[1]
        # zeros before normalisation, as the published recipes pad
        return np.pad(bank, ((0, 0), (0, missing)))

    def _masked(
        self, bank: Float[np.ndarray, "mel frames"], rng: np.random.Generator
    ) -> Float[np.ndarray, "mel frames"]:
        bank = bank.copy()
        for axis, limit in ((0, self.freq_mask), (1, self.time_mask)):
            width = int(rng.integers(min(limit, bank.shape[axis]) + 1))
            start = int(rng.integers(bank.shape[axis] - width + 1))
            bank[(slice(None),) * axis + (slice(start, start + width),)] = 0
        return bank

    def _shifted(
        self, values: Float[np.ndarray, "windows mel frames"], rng: np.random.Generator
    ) -> Float[np.ndarray, "windows mel frames"]:
        """What moves in at one end is 0, the mean."""
        by = int(rng.integers(-self.mel_shift, self.mel_shift + 1))
        kept = slice(max(by, 0), self.mel_bins + min(by, 0))
        shifted = np.zeros_like(values)
        shifted[:, kept] = np.roll(values, by, axis=1)[:, kept]
        return shifted

    def _at_own_rate(
        self, wave: Float[np.ndarray, " samples"], rate: Any, name: str
    ) -> Float[np.ndarray, " resampled"]:
        if rate is None:
            fix = "Give {'array': ..., 'sampling_rate': Hz} or the fact 'sampling_rate'."
            raise SamplingRateError("comes without a sampling rate", where=name, fix=fix)
        if rate == self.sampling_rate:
            return wave
        rate = math.floor(rate) if isinstance(rate, Real) and rate % 1 == 0 else rate
        if not self.resample:
            what = f"has a sampling rate of {rate} Hz, and {self.modality} takes {self.sampling_rate} Hz"
            raise SamplingRateError(what, where=name, fix="Resample the file, or set resample=True.")
        if not isinstance(rate, int) or not _RATES[0] <= rate <= _RATES[1]:
            raise SamplingRateError(f"has a sampling rate of {rate!r} Hz", where=name,
                                    fix=f"Whole numbers in {_RATES[0]} to {_RATES[1]} can be converted.")  # fmt: skip
        common = math.gcd(rate, self.sampling_rate)
        resampled: Float[np.ndarray, " resampled"] = resample_poly(wave, self.sampling_rate // common, rate // common)
        return resampled.astype(np.float32)


def _decode(opened: media.MediaFile) -> tuple[Float[np.ndarray, " samples"], int]:
    """Mono waveform and sampling rate, decoded block by block."""
    with media.decoding(opened.name, opened.kind), soundfile.SoundFile(opened.file) as sound:
        if not 1 <= sound.channels <= media.MAX_AUDIO_CHANNELS:
            raise MediaError(f"has {sound.channels} channels, more than the limit of {media.MAX_AUDIO_CHANNELS}",
                             where=opened.name, fix="Mix it down first.")  # fmt: skip
        if sound.frames > media.MAX_AUDIO_SAMPLES:
            raise MediaError(f"declares {sound.frames} samples, more than the limit of {media.MAX_AUDIO_SAMPLES}",
                             where=opened.name, fix="Cut it into shorter clips.")  # fmt: skip
        blocks = [block.mean(axis=1) for block in sound.blocks(_BLOCK, dtype="float32", always_2d=True)]
        wave = np.concatenate(blocks) if blocks else np.empty(0, np.float32)
        if len(wave) < sound.frames:
            raise MediaError(f"declares {sound.frames} samples and holds {len(wave)}", where=opened.name,
                             fix="The file is truncated: write or download it again.")  # fmt: skip
        return wave, int(sound.samplerate)


def _mono(array: Shaped[np.ndarray, " ..."], name: str) -> Float[np.ndarray, " samples"]:
    # no file has 64-bit samples: they are smaller integers whose full scale is not known any more
    if array.ndim not in (1, 2) or array.dtype.kind not in "fiu" or array.dtype in (np.int64, np.uint64):
        fix = "Give samples, or samples and channels, as floats in -1 to 1 or as integers of their own 8 to 32 bits."
        raise MediaError(f"has shape {array.shape} and type {array.dtype}", where=name, fix=fix)
    if array.dtype.kind == "i":
        array = array / np.float32(np.iinfo(array.dtype).max)
    elif array.dtype.kind == "u":  # silence lies in the middle, as in 8-bit WAV files
        middle = np.float32(np.iinfo(array.dtype).max // 2 + 1)
        array = (array.astype(np.float32) - middle) / middle
    if array.ndim == 2:
        array = array.mean(axis=int(np.argmin(array.shape)))
    return array.astype(np.float32)
