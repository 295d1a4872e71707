from __future__ import annotations

import numpy as np
import pytest
from transformers.audio_utils import mel_filter_bank, spectrogram, window_function

from polysense.processing import fbank


@pytest.mark.filterwarnings("ignore:At least one mel filter")
@pytest.mark.parametrize(("rate", "mel_bins"), [(16_000, 128), (16_000, 64), (8_000, 40)])
def test_filter_banks_agree_with_the_kaldi_path_of_transformers(rate: int, mel_bins: int) -> None:
    wave = np.random.default_rng(0).standard_normal(rate).astype(np.float32) * 0.1
    length, shift = rate // 40, rate // 100
    bins = 1 << (length - 1).bit_length()
    filters = mel_filter_bank(bins // 2 + 1, mel_bins, 20, rate // 2, rate, None, "kaldi", True)
    theirs = spectrogram(
        wave,
        window_function(length, "hann", periodic=False),
        frame_length=length,
        hop_length=shift,
        fft_length=bins,
        power=2.0,
        center=False,
        preemphasis=0.97,
        mel_filters=filters,
        log_mel="log",
        mel_floor=1.192092955078125e-07,
        remove_dc_offset=True,
    )
    ours = fbank.log_mel(wave[None], rate, mel_bins)[0]
    np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_windows_are_independent_of_one_another() -> None:
    waves = np.random.default_rng(0).standard_normal((3, 1600))
    together = fbank.log_mel(waves, 16_000, 32)
    assert together.shape == (3, 32, fbank.frame_count(1600, 16_000))
    assert np.array_equal(together[1:2], fbank.log_mel(waves[1:2], 16_000, 32))


def test_whole_frames_are_counted_by_hand() -> None:
    """25 ms are 400 samples, 10 ms 160: a second has 1 + (16000 - 400) // 160 = 98."""
    assert [fbank.frame_count(n, 16_000) for n in (399, 400, 559, 560, 16_000)] == [0, 1, 1, 2, 98]


def test_a_tone_lights_the_filter_of_its_pitch_and_silence_the_floor() -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(4000) / 16_000)
    bank = fbank.log_mel(np.stack([tone, np.zeros(4000)]), 16_000, 80)
    low, high = 1127 * np.log(1 + 20 / 700), 1127 * np.log(1 + 8000 / 700)
    expected = (1127 * np.log(1 + 1000 / 700) - low) / (high - low) * 81 - 1
    assert abs(bank[0].mean(axis=1).argmax() - expected) <= 1
    assert np.allclose(bank[1], np.log(np.finfo(np.float32).eps))
