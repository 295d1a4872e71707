from __future__ import annotations

import pytest

from polysense.errors import ConfigError
from polysense.metrics import memories, plasticity

STAGES = [{"video-text": 43.3}, {"video-text": 15.4, "audio-text": 39.9}, {"video-text": 21.65, "audio-text": 41.0}]


def test_each_task_is_followed_from_the_stage_that_learned_it() -> None:
    found = memories(STAGES)
    video, audio = found["video-text"], found["audio-text"]
    assert (video.learned, video.best, video.last) == (43.3, 43.3, 21.65)
    assert video.retention == pytest.approx(0.5) and video.forgotten == pytest.approx(21.65)
    assert audio.retention == pytest.approx(41.0 / 39.9) and audio.forgotten == 0


def test_plasticity_is_beside_the_rival_that_keeps_nothing() -> None:
    learned = {task: memory.learned for task, memory in memories(STAGES).items()}
    found = plasticity(learned, {"video-text": 43.3, "audio-text": 42.0})
    assert found == pytest.approx({"video-text": 1.0, "audio-text": 0.95})


def test_a_stage_without_an_earlier_task_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"stage 2.*video-text"):
        memories([{"video-text": 0.4}, {"audio-text": 0.3}])
    with pytest.raises(ConfigError, match="no stages"):
        memories([])


def test_nothing_can_be_relative_to_nothing() -> None:
    with pytest.raises(ConfigError, match=r"0\.0 when the task"):
        _ = memories([{"video-text": 0.0}])["video-text"].retention
    with pytest.raises(ConfigError, match="audio-text"):
        plasticity({"audio-text": 0.2}, {})
