from __future__ import annotations

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from polysense.errors import ConfigError, MediaError, SamplingRateError
from polysense.modality import get_modality
from polysense.processing import AudioProcessor, fbank, processor_for

RATE = 16_000


def _processor(**options: object) -> AudioProcessor:
    processor = processor_for(get_modality("audio"), 32, **options)
    assert isinstance(processor, AudioProcessor)
    return processor


def _noise(seconds: float, channels: int = 1) -> np.ndarray:
    shape = (round(seconds * RATE), channels)
    return np.random.default_rng(0).uniform(-0.5, 0.5, shape).squeeze().astype(np.float32)


def test_a_clip_is_one_normalised_picture(tmp_path: Path) -> None:
    soundfile.write(tmp_path / "a.flac", _noise(2), RATE)
    out = _processor(seconds=2)([tmp_path / "a.flac"])
    assert {key: tuple(value.shape) for key, value in out.items()} == {"audio_values": (1, 1, 1, 32, 32)}


def test_without_resizing_the_values_are_the_filter_banks_by_formula() -> None:
    wave = _noise(1)
    values = _processor(seconds=1, picture=False).features(wave)
    expected = (fbank.log_mel((wave - wave.mean())[None], RATE, 128) + 4.2677) / 4.5690
    torch.testing.assert_close(values[0], torch.from_numpy(expected))


def test_short_clips_are_padded_with_zeros_before_normalisation() -> None:
    values = _processor(seconds=2, picture=False).features(_noise(1))
    assert values.shape == (1, 1, 128, 198)
    torch.testing.assert_close(values[..., 98:], torch.full((1, 1, 128, 100), 4.2677 / 4.5690))


@pytest.mark.parametrize(
    ("options", "starts"),
    [({"windows": 3}, (0, 1, 2)), ({"windows": 3, "layout": "consecutive"}, (0, 2)), ({}, (1,))],
)
def test_windows_spread_over_the_clip_or_follow_one_another(options: dict[str, object], starts: Sequence[int]) -> None:
    wave = _noise(4)
    values = _processor(seconds=2, picture=False, **options).features(wave)
    pieces = [(wave - wave.mean())[None, start * RATE : (start + 2) * RATE] for start in starts]
    expected = np.stack([(fbank.log_mel(piece, RATE, 128) + 4.2677) / 4.5690 for piece in pieces])
    torch.testing.assert_close(values, torch.from_numpy(expected))


def test_clips_of_unequal_length_give_a_mask_of_their_seconds() -> None:
    processor = _processor(windows=10, seconds=1.0, layout="consecutive")
    out = processor([{"array": _noise(n), "sampling_rate": RATE} for n in (10, 3.5)])
    assert out["audio_values"].shape == (2, 10, 1, 32, 32)
    assert out["audio_mask"].sum(dim=1).tolist() == [10, 4]


def test_channels_are_averaged_up_to_eight_and_more(tmp_path: Path) -> None:
    sound = _noise(0.5, 8)
    soundfile.write(tmp_path / "a.wav", sound, RATE, subtype="FLOAT")
    np.testing.assert_allclose(_processor().load(tmp_path / "a.wav"), sound.mean(axis=1), atol=1e-6)
    for array in (sound, sound.T):
        source = {"array": array, "sampling_rate": RATE}
        np.testing.assert_allclose(_processor().load(source), sound.mean(axis=1), atol=1e-6)


def test_integers_are_scaled_to_one() -> None:
    wave = (_noise(0.1) * 32767).astype(np.int16)
    np.testing.assert_allclose(_processor().load(wave, {"sampling_rate": RATE}), _noise(0.1), atol=1e-4)


def test_unsigned_integers_are_silent_in_their_middle() -> None:
    """As soundfile reads an 8-bit WAV file: 128 is silence, 0 is -1."""
    wave = np.clip(np.round(_noise(0.1) * 128) + 128, 0, 255).astype(np.uint8)
    read = _processor().load(wave, {"sampling_rate": RATE})
    np.testing.assert_allclose(read, _noise(0.1), atol=1e-2)
    soundfile.write(file := io.BytesIO(), _noise(0.1), RATE, subtype="PCM_U8", format="WAV")
    np.testing.assert_allclose(_processor().load(file.getvalue()), read, atol=1e-2)


def test_another_sampling_rate_is_refused_or_converted(tmp_path: Path) -> None:
    time = np.arange(44_100) / 44_100
    soundfile.write(tmp_path / "a.wav", np.sin(2 * np.pi * 440 * time), 44_100)
    with pytest.raises(SamplingRateError, match=r"a.wav: has a sampling rate of 44100 Hz, and audio takes 16000 Hz"):
        _processor().load(tmp_path / "a.wav")
    wave = _processor(resample=True).load(tmp_path / "a.wav")
    np.testing.assert_allclose(wave[100:-100], np.sin(2 * np.pi * 440 * np.arange(16_000) / RATE)[100:-100], atol=1e-2)
    with pytest.raises(SamplingRateError, match="without a sampling rate"):
        _processor().load(_noise(1))
    for rate in (10**400, float("nan"), float("inf")):
        with pytest.raises(SamplingRateError, match="has a sampling rate of"):
            _processor(resample=True).load(_noise(1), {"sampling_rate": rate})
    with pytest.raises(SamplingRateError, match="can be converted"):
        _processor(resample=True).load(_noise(1), {"sampling_rate": 3})


@pytest.mark.parametrize("rate", [np.int64(32_000), np.float32(32_000), 32_000.0])
def test_a_sampling_rate_may_be_any_whole_number(rate: float) -> None:
    """As rows of NumPy or JSON have it."""
    source = {"array": _noise(1), "sampling_rate": rate}
    assert len(_processor(resample=True).load(source)) == RATE // 2


def test_integers_of_64_bits_are_refused_since_their_full_scale_is_not_theirs() -> None:
    wave = (_noise(0.1) * 32767).astype(np.int64)  # what NumPy makes of a list of 16-bit samples
    with pytest.raises(MediaError, match=r"type int64.*their own 8 to 32 bits"):
        _processor().load(wave, {"sampling_rate": RATE})


@pytest.mark.parametrize("size", [0, 0x7FFF_F024, 0x8000_0023, 0xFFFF_FFFF])
def test_a_wav_that_was_written_to_a_pipe_is_read(size: int) -> None:
    soundfile.write(file := io.BytesIO(), _noise(0.1), RATE, format="WAV")
    content = bytearray(file.getvalue())
    content[4:8] = size.to_bytes(4, "little")
    content[40:44] = max(size - 36, 0x7FFF_F000).to_bytes(4, "little")
    assert len(_processor().load(bytes(content))) == RATE // 10


def test_an_mp3_of_a_low_rate_is_read_without_a_tag() -> None:
    soundfile.write(file := io.BytesIO(), _noise(1)[::2], RATE // 2, format="MP3")
    assert len(_processor(resample=True).load(file.getvalue())) == RATE


def test_silence_is_refused_unless_it_is_allowed() -> None:
    silent = {"array": np.zeros(RATE, np.float32), "sampling_rate": RATE}
    with pytest.raises(MediaError, match=r"digital silence.*--fact audio.silent=true.*allow_silence"):
        _processor().load(silent, {"silent": False})
    allowed = _processor(allow_silence=True)([silent])["audio_values"]
    assert allowed.isfinite().all()
    assert torch.equal(_processor()([silent], facts=[{"silent": True}])["audio_values"], allowed)


@pytest.mark.parametrize(
    ("array", "reason"),
    [
        (np.full(800, np.nan, np.float32), "not finite"),
        (np.ones(100, np.float32), "less than one frame"),
        (np.empty(0, np.float32), "has 0 samples"),
        (np.ones((2, 2, 2)), "has shape"),
        (np.sin(np.arange(800)) * 2**15, r"samples up to 32767\.7, and full scale is 1"),
    ],
)
def test_unusable_waveforms_are_refused(array: np.ndarray, reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        _processor().load({"array": array, "sampling_rate": RATE})


def test_truncated_and_overlong_files_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    soundfile.write(tmp_path / "a.wav", _noise(1), RATE)
    monkeypatch.setattr("polysense.processing.media.MAX_AUDIO_SAMPLES", RATE - 1)
    with pytest.raises(MediaError, match="declares 16000 samples, more than the limit"):
        _processor().load(tmp_path / "a.wav")
    monkeypatch.setattr("polysense.processing.media.MAX_AUDIO_CHANNELS", 0)
    with pytest.raises(MediaError, match="has 1 channels"):
        _processor().load(tmp_path / "a.wav")


def test_augmentation_masks_bins_and_frames_and_is_decided_by_the_generator() -> None:
    processor = _processor(seconds=1, picture=False, noise=0.0, roll=0, freq_mask=30, time_mask=30)
    wave = _noise(1)
    first, again = (processor.features(wave, np.random.default_rng(1)) for _ in range(2))
    assert torch.equal(first, again)
    masked = torch.isclose(first, torch.tensor(4.2677 / 4.5690))[0, 0]
    assert 0 < masked.all(dim=1).sum() <= 30 and 0 < masked.all(dim=0).sum() <= 30
    kept = ~masked
    torch.testing.assert_close(first[0, 0][kept], processor.features(wave)[0, 0][kept])


def test_training_crops_long_clips_at_random() -> None:
    processor = _processor(seconds=1)
    starts = {processor._starts(10 * RATE, RATE, np.random.default_rng(seed))[0] for seed in range(5)}
    assert len(starts) == 5 and max(starts) <= 9 * RATE


def test_options_are_checked() -> None:
    for option, value in (("windows", 0), ("seconds", 0.01), ("std", 0.0), ("sampling_rate", 3), ("noise", -1.0)):
        with pytest.raises(ConfigError, match=option if option != "noise" else "augmentation"):
            _processor(**{option: value})


def test_a_sound_that_never_changes_is_taken_off() -> None:
    hum = _noise(3)
    strike = hum.copy()
    strike[20_000:24_000] *= 20
    processor = _processor(windows=3, seconds=1.0, layout="consecutive", picture=False, mel_bins=16, mean=0.0, std=1.0,
                           subtract_background=True)  # fmt: skip
    steady, struck = processor.features(hum), processor.features(strike)
    assert abs(float(steady.median())) < 0.05 and abs(float(struck[2].median())) < 0.2
    assert float(struck[1].max()) > 5  # twice the logarithm of 20


def test_pitch_is_moved_in_training_by_whole_bins() -> None:
    options = {"seconds": 1.0, "picture": False, "mel_bins": 16, "freq_mask": 0, "time_mask": 0, "noise": 0, "roll": 0}
    wave = _noise(1)
    plain = _processor(**options).features(wave)
    seen = set()
    for seed in range(30):
        moved = _processor(**options, mel_shift=2).features(wave, np.random.default_rng(seed))
        by = next(by for by in range(-2, 3) if torch.equal(moved[0, 0, 5], plain[0, 0, 5 - by]))
        seen.add(by)
        inside = slice(max(by, 0), 16 + min(by, 0))
        assert torch.equal(moved[:, :, inside], plain.roll(by, dims=2)[:, :, inside])
        assert moved.abs().sum(dim=(0, 1, 3)).eq(0).sum() == abs(by)  # what came in is empty
    assert seen == {-2, -1, 0, 1, 2}
    with pytest.raises(ConfigError, match="mel_shift"):
        _processor(mel_bins=16, mel_shift=16)
