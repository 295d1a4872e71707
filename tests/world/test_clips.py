from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from PIL import Image

from polysense.world.clips import FRAMES, shoot
from polysense.world.config import Difficulty
from polysense.world.events import sample_timeline
from polysense.world.rng import generator

Rows = Callable[[str], list[dict[str, Any]]]
Stream = Callable[[str], np.random.Generator]


def _frames(path: Path) -> np.ndarray:
    with av.open(str(path)) as container:
        return np.stack([frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)])


def test_a_clip_has_ten_seconds_of_film_and_sound(rows: Rows, root: Path) -> None:
    for row in rows("clips-test"):
        assert _frames(root / row["media"]["video"]["path"]).shape == (20, 64, 64, 3)
        wave, rate = soundfile.read(root / row["media"]["audio"]["path"])
        assert (wave.shape, rate) == ((160_000,), 16_000)


def test_the_keyframe_is_the_films_frame_in_the_middle_of_the_main_event(rows: Rows, root: Path) -> None:
    for row in rows("clips-test"):
        key = row["media"]["image"]["frame"]
        main = next(event for event in row["scene"]["events"] if event["main"])
        assert main["start"] * 2 <= key < main["end"] * 2
        picture = np.asarray(Image.open(root / row["media"]["image"]["path"])).astype(float)
        assert np.abs(picture - _frames(root / row["media"]["video"]["path"])[key]).mean() < 12


def test_masks_of_all_frames_lie_below_one_another_and_hold_what_is_there(rows: Rows, root: Path) -> None:
    for row in rows("clips-train"):
        strip = np.asarray(Image.open(root / row["media"]["masks"]["path"]))
        assert strip.shape == (FRAMES * 64, 64)
        masks = strip.reshape(FRAMES, 64, 64)
        for event in row["scene"]["events"]:
            if event["visible"]:
                there = [k for k in range(FRAMES) if (masks[k] == event["object"]).any()]
                assert all(event["start"] * 2 <= k < event["end"] * 2 for k in there)
        key = row["media"]["mask"]
        np.testing.assert_array_equal(np.asarray(Image.open(root / key["path"])), masks[row["scene"]["keyframe"]])


def test_seconds_agree_with_the_events(rows: Rows) -> None:
    for row in rows("clips-train"):
        for sense, flag in (("video", "visible"), ("audio", "audible")):
            for second, label in enumerate(row["seconds"][sense]):
                now = {
                    event["event"]
                    for event in row["scene"]["events"]
                    if event[flag] and event["start"] <= second < event["end"]
                }
                assert label in now if now else label == "background"


def test_nothing_but_the_background_is_there_outside_the_events(stream: Stream, standard: Difficulty) -> None:
    events = sample_timeline(np.random.default_rng(4), standard, held_out=False)
    film = shoot(events, stream, standard, room=stream)
    masks = film.geometry.masks(film.bodies)
    for frame in range(FRAMES):
        if not any(event.visible and event.covers(frame // 2) for event in events):
            assert not masks[frame].any()


def test_clips_of_one_room_share_all_that_stands_still(standard: Difficulty) -> None:
    def empty(clip: int, room: int) -> np.ndarray:
        """The mean of the frames in which nothing happens."""
        seeded = partial(generator, "clip", clip)
        events = sample_timeline(np.random.default_rng(4), standard, held_out=False)
        film = shoot(events, seeded, standard, room=partial(generator, "room", room))
        idle = [k for k in range(FRAMES) if not any(event.covers(k // 2) for event in events)]
        return np.asarray(film.pictures[idle].astype(float).mean(axis=0))

    first = empty(0, 0)
    assert np.abs(first - empty(1, 0)).mean() < 5  # sensor noise alone
    assert np.abs(first - empty(1, 1)).mean() > 15
