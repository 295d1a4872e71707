"""Single frames of a video by seeking: only the groups of pictures that hold a wanted frame are decoded."""

from __future__ import annotations

import io
import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from typing import Any

import av
import numpy as np
from av.video.reformatter import VideoReformatter
from jaxtyping import Int32, UInt8

from polysense.errors import MediaError
from polysense.processing import media

Frames = UInt8[np.ndarray, "time height width 3"]

_EBML, _SEGMENT = b"\x1a\x45\xdf\xa3", b"\x18\x53\x80\x67"  # what Matroska's two outermost elements begin with
_FORMATS = {"MP4 video": "mp4", "Matroska video": "matroska", "AVI video": "avi"}


def read_frames(opened: media.MediaFile, wanted: Callable[[float, float], Sequence[float]]) -> Frames:
    """The frames shown at certain times.

    Args:
        opened: MP4, Matroska (WebM) or AVI.
        wanted: from the video's duration and its frame rate (seconds, frames per second) to ascending times in
            seconds from its first frame; the frame shown at a time is the last one that begins at or before it.

    Raises:
        MediaError: no video stream, no frames, absurd sizes or duration, or damaged content.
    """
    _check_segment(opened)
    # the format is given, since probing would also follow playlists to other files
    options: dict[str, Any] = {"format": _FORMATS[opened.kind], "metadata_errors": "replace"}
    with media.decoding(opened.name, opened.kind), av.open(opened.file, **options) as container:
        if not container.streams.video:
            raise MediaError("has no video stream", where=opened.name, fix="Give a file with pictures.")
        stream = container.streams.video[0]
        media.check_picture_size(stream.codec_context.width, stream.codec_context.height, opened.name)
        stream.codec_context.options = {"max_pixels": str(media.MAX_PIXELS)}
        stream.codec_context.thread_count = 1
        duration, rate = _timing(container, stream, opened)
        times = wanted(duration, rate)
        return _Seeker(container, stream, opened.name).frames(times)


class _Seeker:
    """Decodes forward, and jumps to a key frame where that is nearer to the next wanted time."""

    def __init__(self, container: Any, stream: Any, name: str) -> None:
        self.container, self.stream, self.name = container, stream, name
        self.key_times = [e.timestamp for e in stream.index_entries if e.is_keyframe]
        self.start = stream.start_time or 0
        self.decoded = 0
        self.decoder = container.decode(stream)
        self.reformatter = VideoReformatter()  # kept, since making the colour conversion takes longer than using it
        self.current: Any = None  # the frame at the present position
        self.following: Any = None  # the one after it

    def frames(self, times: Sequence[float]) -> Frames:
        # a time that is meant to be a tick must not fall before it by the last bit
        ticks = [self.start + math.floor(time / self.stream.time_base + 1e-6) for time in times]
        arrays = [self._array(self._frame_at(tick)) for tick in ticks]
        if len({array.shape for array in arrays}) > 1:
            raise MediaError("changes its picture size", where=self.name, fix="Re-encode it with one size.")
        return np.stack(arrays)

    def _frame_at(self, pts: int) -> Any:
        """The last frame that begins at or before `pts` (the first frame where there is none)."""
        if self._key_lies_ahead(pts):
            self._seek(pts)
        if self.current is None:
            self.following = self.following or self._next()
            if self.following is None:
                raise MediaError("has no frames that can be decoded", where=self.name, fix="Encode the video again.")
            self._advance()
        while self.following is not None and self.following.pts <= pts:
            self._advance()
        return self.current

    def _key_lies_ahead(self, pts: int) -> bool:
        if self.current is None:
            return pts > self.start
        place = bisect_right(self.key_times, pts)
        # without an index a jump is tried whenever the wanted frame is not the present one
        return (
            self.following is not None
            and self.following.pts <= pts
            and (not self.key_times or (place > 0 and self.key_times[place - 1] > self.following.pts))
        )

    def _seek(self, pts: int) -> None:
        """Jump to the key frame at or before `pts`; where the container lands behind it, jump farther back."""
        back = 0
        while True:
            target = pts - back
            self.container.seek(max(target, self.start), stream=self.stream)
            self.decoder = self.container.decode(self.stream)
            self.current, self.following = None, self._next()
            if (self.following is not None and self.following.pts <= pts) or target <= self.start:
                return
            back = 2 * back or round(1 / self.stream.time_base)

    def _advance(self) -> None:
        self.current, self.following = self.following, self._next()

    def _next(self) -> Any:
        for frame in self.decoder:
            self.decoded += 1
            if self.decoded > media.MAX_DECODED_FRAMES:
                what = f"needs more than {media.MAX_DECODED_FRAMES} frames decoded to reach those wanted"
                fix = "Encode it with a key frame every few seconds, or cut it."
                raise MediaError(what, where=self.name, fix=fix)
            if frame.pts is not None:
                return frame
        return None

    def _array(self, frame: Any) -> UInt8[np.ndarray, "height width 3"]:
        media.check_picture_size(frame.width, frame.height, self.name)
        # several threads would take longer to start than a small picture takes to convert
        converted = self.reformatter.reformat(frame, format="rgb24", threads=1).to_ndarray()
        matrix = frame.side_data.get("DISPLAYMATRIX")
        return converted if matrix is None else upright(converted, np.frombuffer(matrix, np.int32))


def upright(
    picture: UInt8[np.ndarray, "h w 3"], matrix: Int32[np.ndarray, " 9"]
) -> UInt8[np.ndarray, "new_h new_w 3"]:
    """The picture as it is meant to be seen: turned by quarters, and mirrored as front cameras may do it.

    Args:
        matrix: libavutil's display matrix, (a, b, u, c, d, v, ...), which takes (x, y) to (ax + cy, bx + dy).
    """
    # not the frame's own `rotation`, which takes a mirrored picture for one that stands on its head
    a, b, _, c, d, *_ = matrix.tolist()
    on_side = abs(b) + abs(c) > abs(a) + abs(d)
    across, down = (c, b) if on_side else (a, d)
    shown = picture.swapaxes(0, 1) if on_side else picture
    return np.ascontiguousarray(shown[:: -1 if down < 0 else 1, :: -1 if across < 0 else 1])


def _check_segment(opened: media.MediaFile) -> None:
    """Libav reads a cut-off Matroska file as a shorter one; its header knows better, unless it was streamed."""
    if opened.kind != "Matroska video":
        return
    with media.decoding(opened.name, opened.kind):
        opened.file.seek(len(_EBML))
        opened.file.seek(_ebml_size(opened) or 0, io.SEEK_CUR)
        size = _ebml_size(opened) if opened.file.read(len(_SEGMENT)) == _SEGMENT else None
        end = opened.file.tell() + (size or 0)
        opened.file.seek(0)
    if end > opened.size:
        raise MediaError(f"declares {end} bytes and holds {opened.size}", where=opened.name,
                         fix="The file is truncated: write or download it again.")  # fmt: skip


def _ebml_size(opened: media.MediaFile) -> int | None:
    """The size at this position, whose leading zero bits say how long it is; `None` where the writer left it open."""
    first = opened.file.read(1)
    bits = 7 * (9 - int.from_bytes(first).bit_length())
    value = int.from_bytes(first + opened.file.read(bits // 7 - 1)) % (1 << bits)
    return None if value == (1 << bits) - 1 else value


def _timing(container: Any, stream: Any, opened: media.MediaFile) -> tuple[float, float]:
    """Duration in seconds and frames per second."""
    # only MP4 has an index of all frames: Matroska's header counts from the first one or from zero, as its writer
    # likes, and headers that were written to a pipe say nothing or anything
    indexed = stream.duration and opened.kind == "MP4 video"
    duration = float(stream.duration * stream.time_base) if indexed else _until_last_packet(container, stream)
    rate = stream.average_rate or stream.guessed_rate
    if duration <= 0 or not rate:
        raise MediaError("has no duration or frame rate", where=opened.name, fix="Encode the video again as MP4.")
    if duration > media.MAX_VIDEO_SECONDS:
        what = f"has {duration:.0f} seconds, more than the limit of {media.MAX_VIDEO_SECONDS:.0f}"
        raise MediaError(what, where=opened.name, fix="Cut it into shorter clips.")
    return duration, float(rate)


def _until_last_packet(container: Any, stream: Any) -> float:
    """Seconds from the first frame to the end of the last one, of which nothing is decoded."""
    start, end = stream.start_time or 0, 0
    container.seek(int(media.MAX_VIDEO_SECONDS / stream.time_base), stream=stream)
    for packet in container.demux(stream):
        begins = packet.dts if packet.pts is None else packet.pts
        end = max(end, (begins or 0) + (packet.duration or 0))
    container.seek(start, stream=stream)
    return float((end - start) * stream.time_base)
