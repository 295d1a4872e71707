"""Guarded reading of media files: every processor opens its files here.

A file is a regular local file of bounded size; its content, not its name, says what it holds; sizes declared in a
header are checked against the limits below before anything is decoded; whatever a decoder raises becomes a
`MediaError` that names the file, the reason and what to do. In-memory sources (bytes, binary files, `{"bytes": ...,
"path": ...}` rows of the datasets library) pass the same checks.
"""

from __future__ import annotations

import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from polysense.errors import MediaError, PolysenseError

MAX_FILE_BYTES = 2 << 30  # bytes of one media file
MAX_PIXELS = 1 << 26  # pixels of one picture or video frame (67 million)
MAX_SIDE = 1 << 16  # pixels of one side
MAX_AUDIO_SAMPLES = 1 << 26  # samples per channel: 70 minutes at 16 kHz, 23 minutes at 48 kHz
MAX_AUDIO_CHANNELS = 32  # channels that are down-mixed to one
MAX_VIDEO_SECONDS = 4 * 3600.0  # seconds of one video
MAX_DECODED_FRAMES = 20_000  # frames decoded to reach the sampled ones of one video
MAX_POINTS = 1 << 24  # points of one cloud (16.8 million)

PICTURES = ("PNG picture", "JPEG picture", "WebP picture", "BMP picture", "TIFF picture")
SOUNDS = ("WAV audio", "FLAC audio", "Ogg audio", "MP3 audio", "AIFF audio", "CAF audio", "AU audio")
VIDEOS = ("MP4 video", "Matroska video", "AVI video")
CLOUDS = ("PLY point cloud", "PCD point cloud", "NumPy array")

_REMOTE = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]+:/")
_HEAD_BYTES = 64
_OPEN_SIZE = 0x7FFF_F000  # bytes of a RIFF file that SoX and espeak-ng declare to a pipe, as good as MAX_FILE_BYTES
_READABLE = ("PLY point cloud", "PCD point cloud", "PDF document")  # kinds that may begin with plain text
# (offset, signature, what it is); the first match wins
_SIGNATURES: tuple[tuple[int, bytes, str], ...] = (
    (0, b"\x89PNG\r\n\x1a\n", "PNG picture"),
    (0, b"\xff\xd8\xff", "JPEG picture"),
    (8, b"WEBP", "WebP picture"),
    (0, b"BM", "BMP picture"),
    (0, b"II*\x00", "TIFF picture"),
    (0, b"MM\x00*", "TIFF picture"),
    (0, b"GIF8", "GIF animation"),
    (8, b"WAVE", "WAV audio"),
    (0, b"fLaC", "FLAC audio"),
    (0, b"OggS", "Ogg audio"),
    (0, b"ID3", "MP3 audio"),
    # layer 3 of MPEG 1, 2 and 2.5, without a checksum and with one
    *((0, bytes((0xFF, version | protected)), "MP3 audio") for version in (0xFA, 0xF2, 0xE2) for protected in (1, 0)),
    (8, b"AIFF", "AIFF audio"),
    (8, b"AIFC", "AIFF audio"),
    (0, b"caff", "CAF audio"),
    (0, b".snd", "AU audio"),
    *((4, b"ftyp" + brand, "HEIF picture") for brand in (b"heic", b"heix", b"mif1", b"avif")),
    (4, b"ftypM4A ", "MPEG-4 audio"),
    (4, b"ftyp", "MP4 video"),
    (4, b"moov", "MP4 video"),
    (4, b"mdat", "MP4 video"),
    (4, b"wide", "MP4 video"),
    (0, b"\x1a\x45\xdf\xa3", "Matroska video"),
    (8, b"AVI ", "AVI video"),
    (0, b"ply\n", "PLY point cloud"),
    (0, b"ply\r", "PLY point cloud"),
    (0, b"# .PCD", "PCD point cloud"),
    (0, b"VERSION .", "PCD point cloud"),
    (0, b"VERSION 0.", "PCD point cloud"),
    (0, b"\x93NUMPY", "NumPy array"),
    (0, b"PK\x03\x04", "ZIP archive"),
    (0, b"\x1f\x8b", "gzip archive"),
    (0, b"\x80\x02", "Python pickle"),
    (0, b"\x80\x04", "Python pickle"),
    (0, b"\x80\x05", "Python pickle"),
    (0, b"%PDF", "PDF document"),
)


@dataclass(frozen=True)
class MediaFile:
    """An opened source.

    Attributes:
        file: seekable binary file at position 0 (files in memory share no base class with those on disk, hence `Any`).
        name: how errors call it.
        kind: what the first bytes say it is, for example "PNG picture".
        size: length in bytes.
    """

    file: Any
    name: str
    kind: str
    size: int


def source_name(source: Any) -> str:
    """How errors name a source: its path where it has one, else its type."""
    if isinstance(source, str | os.PathLike):
        return os.fspath(source) if isinstance(source, str) else str(source)
    if isinstance(source, Mapping) and source.get("path"):
        return str(source["path"])
    name = getattr(source, "name", None) or getattr(source, "filename", None)
    return str(name) if name else f"<{type(source).__name__} in memory>"


def identify(head: bytes) -> str:
    """What the first bytes of a file say it holds; "text" or "unknown data" where no signature fits."""
    readable = bool(head) and all(32 <= byte < 127 or byte in b"\t\r\n" for byte in head)
    for offset, signature, kind in _SIGNATURES:
        # a sentence may begin like a binary format ("BMW ..."), which none of those can be when all of it is readable
        if head.startswith(signature, offset) and (not readable or kind in _READABLE):
            return kind
    return "text" if readable else "unknown data"


@contextmanager
def open_media(source: Any, allowed: tuple[str, ...]) -> Iterator[MediaFile]:
    """Open a local file or in-memory source whose content is one of the kinds in `allowed`.

    Args:
        source: path, bytes, binary file, or a mapping with "bytes" and/or "path".
        allowed: kinds of `identify` that the caller can decode.

    Raises:
        MediaError: missing, not a regular file, remote, empty, too large, or of another kind than `allowed`.
    """
    name = source_name(source)
    if isinstance(source, Mapping):
        source = source["bytes"] if source.get("bytes") is not None else source.get("path")
    if isinstance(source, str | os.PathLike):
        with _open_local(source, name) as file:
            yield _checked(file, name, allowed)
    elif isinstance(source, bytes | bytearray | memoryview):
        yield _checked(io.BytesIO(source), name, allowed)
    elif hasattr(source, "read") and hasattr(source, "seek"):
        yield _checked(source, name, allowed)
    else:
        raise MediaError(f"cannot be read from a {type(source).__name__}", where=name,
                         fix="Give a path, bytes, a binary file or an array.")  # fmt: skip


def _open_local(path: str | os.PathLike[str], name: str) -> io.BufferedReader:
    text = os.fspath(path)
    if _REMOTE.match(text) or text.startswith("\\\\"):
        raise MediaError("is a remote address, and media are read from local files only", where=name,
                         fix="Download it first and give the local path.")  # fmt: skip
    try:
        # opening a pipe would block for ever, so its type is asked for first
        if stat.S_ISREG(os.stat(text).st_mode):
            return Path(text).open("rb")
    except FileNotFoundError as error:
        raise MediaError("does not exist", where=name, fix="Check the path and the manifest's root folder.") from error
    except (OSError, ValueError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise MediaError(f"cannot be opened ({reason})", where=name,
                         fix="Check the path, its links and its permissions.") from error  # fmt: skip
    what = "a folder" if os.path.isdir(text) else "not a regular file"
    raise MediaError(f"is {what}", where=name, fix="Give the path of one media file.")


def _size_and_head(file: Any, name: str) -> tuple[int, bytes]:
    try:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        head = file.read(_HEAD_BYTES)
        file.seek(0)
        if not isinstance(head, bytes):
            raise ValueError("it gives text, not bytes")
    except (OSError, ValueError) as error:
        raise MediaError(f"cannot be read ({error})", where=name,
                         fix="Give a file that is open, in binary mode, and can be sought.") from error  # fmt: skip
    return size, head


def _checked(file: Any, name: str, allowed: tuple[str, ...]) -> MediaFile:
    size, head = _size_and_head(file, name)
    if size == 0:
        raise MediaError("is empty (0 bytes)", where=name, fix="Write or download the file again.")
    if size > MAX_FILE_BYTES:
        raise MediaError(f"has {size} bytes, more than the limit of {MAX_FILE_BYTES}", where=name,
                         fix="Split or re-encode it.")  # fmt: skip
    kind = identify(head)
    if kind not in allowed:
        raise MediaError(
            f"holds {kind} (judged by its content, whatever its name), not one of: {', '.join(allowed)}",
            where=name,
            fix="The file is mislabelled or damaged: convert it, or give it to the modality it belongs to.",
        )
    if head.startswith(b"RIFF"):
        _check_riff_size(int.from_bytes(head[4:8], "little"), size, name)
    return MediaFile(file, name, kind, size)


def _check_riff_size(declared: int, size: int, name: str) -> None:
    """Decoders read a cut-off WAV, AVI or WebP as a shorter one; its header knows better."""
    # writers that cannot seek back leave the size open: 0, all bits, or the most that fits a signed number
    streamed = declared == 0 or declared >= _OPEN_SIZE
    if not streamed and declared + 8 > size:
        raise MediaError(f"declares {declared + 8} bytes and holds {size}", where=name,
                         fix="The file is truncated: write or download it again.")  # fmt: skip


@contextmanager
def decoding(name: str, kind: str) -> Iterator[None]:
    """Turn whatever a decoder raises on damaged content into a `MediaError` about the file `name`."""
    try:
        yield
    except PolysenseError:
        raise
    # decoders raise anything on damaged input (SyntaxError, struct.error, MemoryError ...), hence the broad clause
    except Exception as error:
        reason = " ".join(str(error).split())[:200] or "no message"
        raise MediaError(f"cannot be decoded as {kind} ({type(error).__name__}: {reason})", where=name,
                         fix="The file is truncated or damaged: write or download it again.") from error  # fmt: skip


def check_picture_size(width: int, height: int, name: str) -> None:
    """Refuse pictures without area and decompression bombs by the size that the header declares.

    Raises:
        MediaError: names the size.
    """
    if width < 1 or height < 1:
        raise MediaError(f"has no area ({width} x {height} pixels)", where=name, fix="Write the file again.")
    if width > MAX_SIDE or height > MAX_SIDE or width * height > MAX_PIXELS:
        raise MediaError(
            f"declares {width} x {height} pixels, more than the limit of {MAX_PIXELS} pixels or {MAX_SIDE} per side",
            where=name,
            fix="Scale it down before use; a tiny file that declares a huge picture is a decompression bomb.",
        )
