from __future__ import annotations

import json

from polysense.metrics.judging import Judgement, Verdict

MIXED = Judgement(
    judge="test",
    verdicts=(Verdict(True, 5.0), None, Verdict(False, 2.0), Verdict(True), None),
    unjudged={1: "refused", 4: "refused"},
    min_coverage=0.6,
)


def test_figures_rest_on_what_was_judged() -> None:
    assert MIXED.accuracy == 2 / 3
    assert MIXED.mean_score == 3.5
    assert MIXED.coverage == 0.6
    assert MIXED.complete


def test_too_little_judged_is_incomplete() -> None:
    assert not Judgement(judge="test", verdicts=MIXED.verdicts, min_coverage=0.61).complete
    assert not Judgement(judge="test", verdicts=(None,), min_coverage=0.0).complete


def test_nothing_judged_has_no_figures() -> None:
    for nothing in (Judgement(judge="test", verdicts=(None, None)), Judgement(judge="test", verdicts=())):
        assert (nothing.accuracy, nothing.mean_score, nothing.coverage, nothing.complete) == (None, None, 0.0, False)


def test_the_summary_is_json_and_counts_reasons() -> None:
    summary = json.loads(json.dumps(MIXED.to_dict()))
    assert summary["unjudged"] == {"refused": 2}
    assert (summary["answers"], summary["complete"], summary["judge"]) == (5, True, "test")
