from __future__ import annotations

import numpy as np
import pytest

from polysense.world.attributes import EVENTS, Happening, Look, happenings
from polysense.world.config import Difficulty
from polysense.world.events import SECONDS, Event, bounce_times, label_seconds, main_event, motion, sample_timeline

LOOK = Look("cube", "red", "small", "wood")


def _event(name: str, start: int, end: int, *, visible: bool = True, audible: bool = True) -> Event:
    return Event(Happening(name, LOOK), start, end, visible, audible, 1.0, 0.7)


def test_timelines_have_one_to_three_events_within_ten_seconds(standard: Difficulty) -> None:
    counts, overlaps, silent, unseen = set(), 0, 0, 0
    for seed in range(80):
        events = sample_timeline(np.random.default_rng(seed), standard, held_out=False)
        counts.add(len(events))
        assert all(0 <= e.start < e.end <= SECONDS and (e.visible or e.audible) for e in events)
        assert [e.start for e in events] == sorted(e.start for e in events)
        main = main_event(events)
        assert main.visible
        assert main.audible
        assert all(e.end - e.start < main.end - main.start for e in events if e is not main)
        overlaps += any(a.start < b.end and b.start < a.end for a in events for b in events if a is not b)
        silent += any(not e.audible for e in events)
        unseen += any(not e.visible for e in events)
    assert counts == {1, 2, 3}
    assert min(overlaps, silent, unseen) > 3


def test_the_main_event_of_a_compositional_clip_is_held_out_alone(standard: Difficulty) -> None:
    for seed in range(20):
        events = sample_timeline(np.random.default_rng(seed), standard, held_out=True)
        for event in events:
            held_out = event is main_event(events)
            assert event.happening in happenings(event.name, held_out=held_out)


def test_seconds_are_labelled_by_what_each_sense_has_and_the_main_event_wins() -> None:
    events = (_event("bounce", 1, 6), _event("roll", 5, 8, audible=False), _event("knock", 8, 10, visible=False))
    bounce = ["background", *["bounce"] * 5]
    assert label_seconds(events, "video") == [*bounce, "roll", "roll", "background", "background"]
    assert label_seconds(events, "audio") == [*bounce, "background", "background", "knock", "knock"]


def test_bounces_follow_the_law_of_the_bouncing_ball() -> None:
    times = bounce_times(10.0, first=0.5, ratio=0.5)
    np.testing.assert_allclose(times[:4], [0.5, 1.0, 1.25, 1.375])


@pytest.mark.parametrize("name", EVENTS)
def test_every_kind_of_event_moves_the_thing_and_keeps_it_above_the_floor(name: str) -> None:
    path = motion(_event(name, 2, 7), np.arange(4, 14, dtype=np.float32) / 2, 0.3)
    moved = np.abs(np.diff(path.offset, axis=0)).max() > 0.01
    turned = np.abs(np.diff(path.rotation, axis=0)).max() > 0.1
    assert moved or turned
    assert path.offset[:, 2].min() >= -1e-6
    np.testing.assert_allclose(
        path.rotation @ path.rotation.transpose(0, 2, 1), np.tile(np.eye(3), (10, 1, 1)), atol=1e-5
    )


def test_no_two_kinds_of_event_move_alike() -> None:
    times = np.arange(4, 14, dtype=np.float32) / 2
    paths = [motion(_event(name, 2, 7), times, 0.3) for name in EVENTS]
    traces = np.stack([np.concatenate([path.offset.ravel(), path.rotation.ravel()]) for path in paths])
    gaps = np.abs(traces[:, None] - traces[None]).max(-1) + np.eye(len(EVENTS))
    assert gaps.min() > 0.05
