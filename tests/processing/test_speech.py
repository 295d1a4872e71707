from __future__ import annotations

import numpy as np

from polysense.modality import get_modality
from polysense.processing import AudioProcessor, processor_for


def test_speech_is_sound_with_its_own_statistics() -> None:
    speech = processor_for(get_modality("speech"), 32)
    assert isinstance(speech, AudioProcessor)
    assert (speech.mean, speech.std, speech.seconds) == (-6.846, 11.13, 4.0)
    wave = np.random.default_rng(0).uniform(-1, 1, 64_000).astype(np.float32)
    audio = processor_for(get_modality("audio"), 32, seconds=4.0)
    source = [{"array": wave, "sampling_rate": 16_000}]
    ours, theirs = speech(source)["speech_values"], audio(source)["audio_values"]
    assert np.allclose(ours * 11.13 - 6.846, theirs * 4.5690 - 4.2677, atol=1e-3)
