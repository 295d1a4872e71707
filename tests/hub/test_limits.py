"""What a card warns of follows from records and figures."""

from __future__ import annotations

from polysense.hub.limits import limits
from tests.hub.stages import metrics_record, result, stage_record


def test_what_was_recorded_comes_first_and_no_card_is_without_limits() -> None:
    found = limits(stage_record(), metrics_record())
    assert found[0] == "Trained on a synthetic world." and "how it does on others is not known" in found[1]
    assert len(found) == 2
    assert limits(stage_record(limits=[]), None) == [
        "It was trained on the data listed above and not scored at all; how well it does is not known."
    ]


def test_senses_at_chance_are_named_by_their_first_figure() -> None:
    poor, fine = result(low=0.1, chance=0.125, value=0.13), result(metric="top5")
    unknown = result(task="ranks", metric="median_rank", low=None, chance=None)
    heard = result(modality="audio", task="retrieval audio to text", dataset="clips", low=0.0, chance=0.0)
    found = limits(stage_record(), metrics_record(poor, fine, unknown, heard))[2:]
    assert found == [
        "No better than chance, within its interval, with depth: zero-shot classification (world stills test, top1).",
        "No better than chance, within its interval, with audio: retrieval audio to text (clips, top1).",
    ]
    assert len(limits(stage_record(), metrics_record(fine, poor))) == 2, "top-5 came first"


def test_a_sense_that_trained_and_was_not_scored_is_named() -> None:
    record = stage_record(trained=["audio", "video", "speech", "thermal", "text"])
    figures = [result(modality="audio+video"), result(modality="audio", task="segmentation by speech")]
    assert limits(record, metrics_record(*figures))[2:] == ["thermal was trained and not scored."]
