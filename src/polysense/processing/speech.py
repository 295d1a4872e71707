"""Speech: sound with the statistics of spoken commands (Meta-Transformer on Speech Commands V2; method-facts 1.5)."""

from __future__ import annotations

from dataclasses import dataclass

from polysense.processing.audio import AudioProcessor


@dataclass(frozen=True, kw_only=True)
class SpeechProcessor(AudioProcessor):
    """`AudioProcessor` with four-second windows and Meta-Transformer's mean and doubled standard deviation."""

    seconds: float = 4.0
    mean: float = -6.846
    std: float = 2 * 5.565
