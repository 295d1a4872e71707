from __future__ import annotations

import io
import os
import pickle
from pathlib import Path

import pytest

from polysense.errors import MediaError
from polysense.processing import media


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"\x89PNG\r\n\x1a\n....", "PNG picture"),
        (b"RIFF\x24\x00\x00\x00WAVEfmt ", "WAV audio"),
        (b"RIFF\x24\x00\x00\x00WEBPVP8 ", "WebP picture"),
        (b"\x00\x00\x00\x20ftypisom", "MP4 video"),
        (b"\x00\x00\x00\x20ftypheic", "HEIF picture"),
        (b"\x00\x00\x00\x20ftypavif", "HEIF picture"),
        (b"\x00\x00\x00\x20ftypM4A ", "MPEG-4 audio"),
        (b"\xff\xe3\x38\xc0", "MP3 audio"),
        (b"\xff\xfa\x90\x00", "MP3 audio"),
        (b"# .PCD v0.7", "PCD point cloud"),
        (pickle.dumps({"a": 1}), "Python pickle"),
        (b"hello\nworld", "text"),
        (b"BMW makes cars", "text"),
        (b"ply\nformat ascii 1.0\n", "PLY point cloud"),
        (b"\x00\x01\x02", "unknown data"),
    ],
)
def test_content_is_identified_by_its_first_bytes(head: bytes, kind: str) -> None:
    assert media.identify(head) == kind


@pytest.mark.parametrize("address", ["http://host/a.png", "s3://bucket/a.png", "file:///a.png", r"\\host\a.png"])
def test_remote_addresses_are_refused_unopened(address: str) -> None:
    with pytest.raises(MediaError, match=r"remote address.*Download it"), media.open_media(address, media.PICTURES):
        pass


def test_a_mislabelled_file_is_named_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "song.png"
    path.write_bytes(b"fLaC" + bytes(100))
    with pytest.raises(MediaError, match=r"song.png: holds FLAC audio .*not one of: PNG"):
        media.open_media(path, media.PICTURES).__enter__()


def test_what_is_no_regular_file_is_never_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")  # opening it would block for ever
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "folder").mkdir()
    reasons = {"pipe": "is not a regular file", "folder": "is a folder", "no": "does not exist",
               "loop": r"cannot be opened \(Too many levels of symbolic links\)"}  # fmt: skip
    for name, reason in reasons.items():
        with pytest.raises(MediaError, match=rf"^{tmp_path / name}: {reason}\. \w"):
            media.open_media(tmp_path / name, media.PICTURES).__enter__()


def test_sources_in_memory_pass_the_same_checks() -> None:
    png = b"\x89PNG\r\n\x1a\n"
    for source in (png, io.BytesIO(png), {"bytes": png, "path": "a.png"}):
        with media.open_media(source, media.PICTURES) as opened:
            assert (opened.kind, opened.size, opened.file.tell()) == ("PNG picture", 8, 0)
    with pytest.raises(MediaError, match=r"a.png: is empty"):
        media.open_media({"bytes": b"", "path": "a.png"}, media.PICTURES).__enter__()
    with pytest.raises(MediaError, match="cannot be read from a int"):
        media.open_media(3, media.PICTURES).__enter__()


def test_a_file_that_gives_no_bytes_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    path.write_bytes(b"\x89PNG\r\n\x1a\n")
    closed = path.open("rb")
    closed.close()
    with path.open(encoding="utf-8") as as_text:
        for source, reason in ((as_text, "a.png: cannot be read"), (closed, "a.png: cannot be read"),
                               (io.StringIO("words"), "it gives text, not bytes")):  # fmt: skip
            with pytest.raises(MediaError, match=reason):
                media.open_media(source, media.PICTURES).__enter__()


def test_whatever_a_decoder_raises_names_the_file() -> None:
    expected = pytest.raises(MediaError, match=r"x.ply: cannot be decoded as PLY \(KeyError: 'a'\)")
    with expected, media.decoding("x.ply", "PLY"):
        raise KeyError("a")


def test_sizes_declared_in_a_header_are_limited() -> None:
    media.check_picture_size(8192, 8192, "x")
    for width, height in ((8193, 8192), (1 << 17, 1)):
        with pytest.raises(MediaError, match="decompression bomb"):
            media.check_picture_size(width, height, "x")
    with pytest.raises(MediaError, match="no area"):
        media.check_picture_size(0, 5, "x")
