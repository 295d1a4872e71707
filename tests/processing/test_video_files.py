from __future__ import annotations

import io
import struct
from pathlib import Path

import av
import numpy as np
import pytest
import soundfile

from polysense.errors import MediaError
from polysense.processing import media, video_files
from tests.processing.videos import write_video

FORMATS = [("a.mp4", "libx264"), ("a.mp4", "mpeg4"), ("a.mkv", "libx264"), ("a.avi", "mpeg4")]


def _read(source: Path | bytes, times: list[float]) -> np.ndarray:
    with media.open_media(source, media.VIDEOS) as opened:
        return video_files.read_frames(opened, lambda duration, rate: times)


def _timing(content: bytes) -> tuple[float, float]:
    """Duration and frame rate."""
    found = []

    def wanted(duration: float, rate: float) -> list[float]:
        found.append((duration, rate))
        return [0.0]

    with media.open_media(content, media.VIDEOS) as opened:
        video_files.read_frames(opened, wanted)
    return found[0]


def _all(source: Path | io.BytesIO) -> tuple[np.ndarray, list[np.ndarray]]:
    """Seconds at which the frames begin, and the frames, by decoding everything."""
    with av.open(str(source) if isinstance(source, Path) else source) as container:
        frames = list(container.decode(video=0))
        seconds = np.array([float(frame.pts * frame.time_base) for frame in frames])
        return seconds - seconds[0], [frame.to_ndarray(format="rgb24") for frame in frames]


@pytest.mark.parametrize(("name", "codec"), FORMATS)
@pytest.mark.parametrize("count", [1, 3, 7, 40])
def test_seeking_gives_the_frames_that_full_decoding_gives(tmp_path: Path, name: str, codec: str, count: int) -> None:
    write_video(tmp_path / name, frames=100, rate=10, codec=codec)
    times = [(i + 0.53) * 10 / count for i in range(count)]
    begins, frames = _all(tmp_path / name)
    expected = [frames[np.searchsorted(begins, time, side="right") - 1] for time in times]
    assert np.array_equal(_read(tmp_path / name, times), np.stack(expected))


def test_only_the_groups_of_wanted_frames_are_decoded(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", frames=400, rate=10, key_every=10)
    monkeypatch.setattr(media, "MAX_DECODED_FRAMES", 4 * 10)  # of 400
    assert len(_read(tmp_path / "a.mp4", [2.5, 12.5, 22.5, 32.5])) == 4


@pytest.mark.parametrize(("name", "codec"), [("a.mkv", "libx264"), ("a.webm", "libvpx"), ("a.avi", "mpeg4")])
def test_what_was_written_to_a_pipe_lasts_as_long_as_its_frames(name: str, codec: str) -> None:
    """Its header says nothing of that, or that there are a billion frames."""

    class Pipe(io.BytesIO):
        def seekable(self) -> bool:
            return False

    write_video(
        pipe := Pipe(), frames=25, rate=5, codec=codec, format=Path(name).suffix[1:].replace("mkv", "matroska")
    )
    assert _timing(pipe.getvalue()) == (5, 5)


def test_a_clip_that_begins_late_lasts_from_its_first_frame() -> None:
    write_video(file := io.BytesIO(), frames=20, rate=5, first=50, format="matroska")
    assert _timing(file.getvalue()) == (4, 5)
    begins, frames = _all(io.BytesIO(file.getvalue()))
    assert np.array_equal(_read(file.getvalue(), list(begins + 0.1)), np.stack(frames))


@pytest.mark.parametrize("share", [0.3, 0.9])
def test_a_cut_off_matroska_file_is_no_shorter_one(tmp_path: Path, share: float) -> None:
    write_video(path := tmp_path / "a.mkv", frames=50)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])
    with pytest.raises(MediaError, match=r"a.mkv: declares \d+ bytes and holds \d+. The file is truncated"):
        _read(path, [0.0])


def test_times_beyond_the_end_give_the_last_frame(tmp_path: Path) -> None:
    write_video(tmp_path / "a.mp4", frames=10)
    assert np.array_equal(_read(tmp_path / "a.mp4", [99.0])[0], _all(tmp_path / "a.mp4")[1][-1])


def test_sound_without_pictures_is_refused(tmp_path: Path) -> None:
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("aac", rate=16_000)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, 16_000), np.float32), format="fltp", layout="mono")
        sound.sample_rate = 16_000
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    with pytest.raises(MediaError, match="no video stream"):
        _read(tmp_path / "a.mp4", [0.0])
    soundfile.write(tmp_path / "b.mp4", np.zeros(100), 16_000, format="WAV")
    with pytest.raises(MediaError, match="holds WAV audio"):
        _read(tmp_path / "b.mp4", [0.0])


def test_too_many_frames_between_key_frames_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", frames=60, key_every=60)
    monkeypatch.setattr(media, "MAX_DECODED_FRAMES", 20)
    with pytest.raises(MediaError, match=r"more than 20 frames decoded.*key frame every few seconds"):
        _read(tmp_path / "a.mp4", [5.5])


def test_absurd_durations_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_video(tmp_path / "a.mp4", frames=30)
    monkeypatch.setattr(media, "MAX_VIDEO_SECONDS", 2.0)
    with pytest.raises(MediaError, match="has 3 seconds"):
        _read(tmp_path / "a.mp4", [0.0])


@pytest.mark.parametrize(
    ("matrix", "bright"),
    [((1, 0, 0, 1), "top left"), ((0, 1, -1, 0), "top right"), ((-1, 0, 0, -1), "bottom right"),
     ((0, -1, 1, 0), "bottom left"), ((-1, 0, 0, 1), "top right"), ((1, 0, 0, -1), "bottom left"),
     ((0, 1, 1, 0), "top left"), ((0, -1, -1, 0), "bottom right")],
)  # fmt: skip
def test_turned_and_mirrored_films_are_shown_as_they_are_meant(
    tmp_path: Path, matrix: tuple[int, int, int, int], bright: str
) -> None:
    """The matrix of a track takes (x, y) to (ax + cy, bx + dy); the film is bright at its top left, on 64 x 48."""
    picture = np.zeros((48, 64, 3), np.uint8)
    picture[:24, :32] = 255
    with av.open(str(tmp_path / "a.mp4"), "w") as container:
        stream = container.add_stream("libx264", rate=10)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        container.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        container.mux(stream.encode())
    content = bytearray((tmp_path / "a.mp4").read_bytes())
    place = content.index(b"tkhd") + 44
    a, b, c, d = (each << 16 for each in matrix)
    content[place : place + 36] = struct.pack(">9i", a, b, 0, c, d, 0, 0, 0, 1 << 30)
    (tmp_path / "a.mp4").write_bytes(content)
    shown = _read(tmp_path / "a.mp4", [0.0])[0]
    assert shown.shape == ((48, 64, 3) if a or d else (64, 48, 3))
    halves = {"top": shown[:10], "bottom": shown[-10:]}
    found = {f"{row} {side}": float(part[:, :10].mean() if side == "left" else part[:, -10:].mean())
             for row, part in halves.items() for side in ("left", "right")}  # fmt: skip
    assert max(found, key=lambda corner: found[corner]) == bright and sorted(found.values())[-2] < 30
