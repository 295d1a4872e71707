"""Generates media files that are empty, cut off, mislabelled, absurd, hostile or randomly damaged."""

from __future__ import annotations

import io
import os
import struct
import zlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import av
import numpy as np
import plyfile
import pypcd4
import soundfile
from PIL import Image

RATE = 16_000
FLIPS, CUTS = 7, (0.05, 0.3, 0.6, 0.9)


@dataclass(frozen=True)
class BadMedia:
    """One source and what may become of it.

    Attributes:
        modality: whose processor reads it.
        source: what that processor is given.
        fault: class of fault, as the report counts them.
        may_pass: whether a valid tensor is also right (a flipped bit can be harmless, eight channels are fine).
    """

    modality: str
    source: str | Path
    fault: str
    may_pass: bool = False


Valid = dict[str, tuple[str, bytes]]  # file name to modality and content
# kinds whose decoders rightly make do with the part of a file that is there
_CUT_READS_ON = (".ogg", ".mp3", ".txt")


def write_corpus(folder: Path, seed: int = 0) -> list[BadMedia]:
    """Write the whole corpus, some 400 sources, under `folder`; the seed places the flipped bytes."""
    rng = np.random.default_rng(seed)
    valid = valid_files(folder / "valid")
    files = _Files(folder)
    cases: list[BadMedia] = []
    for name, (modality, content) in valid.items():
        cases += _damaged(files, name, modality, content, rng)
    makers: tuple[Callable[[_Files], Iterator[BadMedia]], ...] = (
        _bombs, _thin, _bad_arrays, _bad_clouds, _bad_sounds, _odd,
    )  # fmt: skip
    for maker in makers:
        cases += maker(files)
    cases += _mislabelled(files, valid)
    cases += _bad_videos(files, valid)
    return cases


class _Files:
    """Writes numbered files, so that every case has a path of its own."""

    def __init__(self, folder: Path) -> None:
        self.folder, self.count = folder, 0
        folder.mkdir(parents=True, exist_ok=True)

    def write(self, name: str, content: bytes) -> Path:
        path = self.path(name)
        path.write_bytes(content)
        return path

    def path(self, name: str) -> Path:
        self.count += 1
        return self.folder / f"{self.count:03d}-{name}"


def valid_files(folder: Path) -> Valid:
    """A small intact file of every kind that is read."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    files: dict[str, str] = {}
    picture = Image.fromarray(rng.integers(0, 256, (40, 48, 3), dtype=np.uint8))
    for ending in ("png", "jpg", "webp", "bmp", "tiff"):
        picture.save(folder / f"a.{ending}")
        files[f"a.{ending}"] = "image"
    depth = rng.integers(400, 9000, (40, 48), dtype=np.uint16)
    Image.fromarray(depth).save(folder / "depth.png")
    np.save(folder / "depth.npy", depth)
    files |= {"depth.png": "depth", "depth.npy": "depth"}
    sound = rng.uniform(-0.5, 0.5, RATE // 2).astype(np.float32)
    for ending in ("wav", "flac", "ogg", "mp3"):
        soundfile.write(folder / f"a.{ending}", sound, RATE)
        files[f"a.{ending}"] = "audio"
    cloud = rng.standard_normal((64, 3)).astype(np.float32)
    for text in (False, True):
        _ply(folder / f"{'ascii' if text else 'binary'}.ply", cloud, text)
        files[f"{'ascii' if text else 'binary'}.ply"] = "point_cloud"
    for encoding in pypcd4.Encoding:
        pypcd4.PointCloud.from_xyz_points(cloud).save(folder / f"{encoding.value}.pcd", encoding)
        files[f"{encoding.value}.pcd"] = "point_cloud"
    np.save(folder / "cloud.npy", cloud)
    files["cloud.npy"] = "point_cloud"
    for ending, codec in (("mp4", "libx264"), ("mkv", "libx264"), ("avi", "mpeg4")):
        _video(folder / f"a.{ending}", codec)
        files[f"a.{ending}"] = "video"
    return {name: (modality, (folder / name).read_bytes()) for name, modality in files.items()}


def _ply(path: Path, cloud: np.ndarray, text: bool) -> None:
    table = np.zeros(len(cloud), dtype=[(axis, "f4") for axis in "xyz"])
    for column, axis in enumerate("xyz"):
        table[axis] = cloud[:, column]
    plyfile.PlyData([plyfile.PlyElement.describe(table, "vertex")], text=text).write(path)


def _video(path: Path, codec: str) -> None:
    rng = np.random.default_rng(0)
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=5)
        stream.width = stream.height = 32
        stream.pix_fmt, stream.gop_size = "yuv420p", 4
        for _ in range(10):
            frame = rng.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24")))
        container.mux(stream.encode())


def _damaged(files: _Files, name: str, modality: str, content: bytes, rng: np.random.Generator) -> Iterator[BadMedia]:
    """Empty, cut off, zeroed, overwritten and bit-flipped forms of an intact file."""
    reads_on = name.endswith(_CUT_READS_ON)
    yield BadMedia(modality, files.write(name, b""), "empty")
    for share in CUTS:
        cut = content[: int(len(content) * share)]
        yield BadMedia(modality, files.write(name, cut), "truncated", may_pass=reads_on)
    yield BadMedia(modality, files.write(name, bytes(len(content))), "zeroed")
    yield BadMedia(modality, files.write(name, rng.bytes(len(content))), "overwritten")
    for flip in range(FLIPS):
        damaged = bytearray(content)
        # half of the flips hit the header, where sizes and counts are declared
        within = min(len(content), 96) if flip % 2 == 0 else len(content)
        for place in rng.integers(0, within, 1 + flip):
            damaged[place] ^= 1 << int(rng.integers(8))
        yield BadMedia(modality, files.write(name, bytes(damaged)), "fuzzed", may_pass=True)


def _mislabelled(files: _Files, valid: Valid) -> Iterator[BadMedia]:
    """Intact files of one kind under the name of another."""
    names = {"image": "photo.png", "depth": "depth.png", "audio": "sound.wav", "video": "clip.mp4",
             "point_cloud": "points.ply"}  # fmt: skip
    donors = ("a.jpg", "a.flac", "a.mkv", "binary.ply", "cloud.npy")
    fakes = [(valid[donor][0], donor, valid[donor][1]) for donor in donors]
    fakes += [("", "text", b"this is no media file\n" * 9), ("", "archive", b"PK\x03\x04" + bytes(99))]
    fakes += [("", "pickle", b"\x80\x04\x95" + bytes(40)), ("", "page", b"<html><body>404</body></html>")]
    for modality, name in names.items():
        for owner, donor, content in fakes:
            array_for_depth = (modality, donor) == ("depth", "cloud.npy")  # any array of numbers is a map of metres
            if owner != modality and not array_for_depth:
                yield BadMedia(modality, files.write(f"{donor}-as-{name}", content), "mislabelled")


def _bombs(files: _Files) -> Iterator[BadMedia]:
    """Tiny pictures that declare enormous ones."""
    zeros = zlib.compress(bytes(50_000_000), 9)
    for side in (20_000, 100_000, 2**31 - 1):
        for depth, colour, modality in ((8, 2, "image"), (1, 0, "image"), (16, 0, "depth")):
            header = struct.pack(">IIBBBBB", side, side, depth, colour, 0, 0, 0)
            png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(b"IDAT", zeros) + _chunk(b"IEND", b"")
            yield BadMedia(modality, files.write("bomb.png", png), "bomb")
    for side in (20_000, 65_500):
        jpeg = io.BytesIO()
        Image.new("RGB", (8, 8)).save(jpeg, "JPEG")
        content = jpeg.getvalue()
        place = content.index(b"\xff\xc0") + 5
        content = content[:place] + struct.pack(">HH", side, side) + content[place + 4 :]
        yield BadMedia("image", files.write("bomb.jpg", content), "bomb")
    for side in (30_000, 2**30):
        bmp = struct.pack("<2sIHHIIiiHHIIiiII", b"BM", 54, 0, 0, 54, 40, side, side, 1, 24, 0, 0, 0, 0, 0, 0)
        yield BadMedia("image", files.write("bomb.bmp", bmp + bytes(100)), "bomb")
        for modality, bits in (("image", 8), ("depth", 16)):
            yield BadMedia(modality, files.write("bomb.tiff", _tiff(side, bits)), "bomb")
    canvas = (16_383).to_bytes(3, "little") * 2
    webp = b"WEBPVP8X" + struct.pack("<I", 10) + bytes(4) + canvas
    yield BadMedia("image", files.write("bomb.webp", b"RIFF" + struct.pack("<I", len(webp)) + webp), "bomb")
    for key in (b"zTXt", b"iCCP"):
        body = b"Comment\0\0" + zeros
        header = struct.pack(">IIBBBBB", 4, 4, 8, 2, 0, 0, 0)
        pixels = _chunk(b"IDAT", zlib.compress(bytes(4 * 13)))
        png = b"\x89PNG\r\n\x1a\n" + _chunk(b"IHDR", header) + _chunk(key, body) + pixels + _chunk(b"IEND", b"")
        yield BadMedia("image", files.write("text-bomb.png", png), "bomb", may_pass=True)


def _thin(files: _Files) -> Iterator[BadMedia]:
    """Pictures one pixel thin: resized whole until that pixel is as wide as the target, they need gigabytes."""
    for shape in ((1, 2000), (1, 60_000), (60_000, 1)):
        for modality, kind in (("image", np.uint8), ("depth", np.uint16)):
            Image.fromarray(np.ones(shape, kind)).save(path := files.path("thin.png"))
            yield BadMedia(modality, path, "thin", may_pass=True)


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))


def _tiff(side: int, bits: int) -> bytes:
    tags = ((256, side), (257, side), (258, bits), (259, 1), (262, 1), (273, 8), (277, 1), (278, side), (279, 100))
    entries = b"".join(struct.pack("<HHII", tag, 4, 1, value) for tag, value in tags)
    return b"II*\0" + struct.pack("<IH", 8, len(tags)) + entries + bytes(104)


def _bad_arrays(files: _Files) -> Iterator[BadMedia]:
    """Arrays with pickled objects, absurd shapes or values."""
    for modality in ("depth", "point_cloud"):
        for array in (np.array([{"a": 1}] * 9, dtype=object), np.array(["text"] * 9), np.zeros(9, "c8")):
            np.save(buffer := io.BytesIO(), array, allow_pickle=True)
            yield BadMedia(modality, files.write("object.npy", buffer.getvalue()), "object array")
        for shape in ("(1000000000, 3)", "(10**9, 3)", "(-5, 3)", "(3,) * 99", "()", "(0, 3)"):
            header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}".encode().ljust(117) + b"\n"
            content = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + bytes(48)
            yield BadMedia(modality, files.write("shape.npy", content), "absurd shape")
    for value in (np.nan, np.inf, -1.0, 0.0):
        np.save(buffer := io.BytesIO(), np.full((20, 20), value, np.float32))
        yield BadMedia("depth", files.write("values.npy", buffer.getvalue()), "not finite or empty")


def _bad_clouds(files: _Files) -> Iterator[BadMedia]:
    """Clouds of one point or a declared thousand million, without a place or not finite."""
    rng = np.random.default_rng(0)
    cloud = rng.standard_normal((64, 3)).astype(np.float32)
    spoilt = {"nan": np.nan, "infinite": np.inf, "huge": 3e38}
    clouds = {name: np.where(np.arange(192).reshape(64, 3) == 7, value, cloud) for name, value in spoilt.items()}
    clouds |= {"one": cloud[:1], "none": cloud[:0], "same": np.repeat(cloud[:1], 64, axis=0)}
    for name, points in clouds.items():
        harmless = name == "huge"  # one outlier is odd, and still a finite cloud
        for text in (False, True):
            _ply(path := files.path(f"{name}.ply"), points.astype(np.float32), text)
            yield BadMedia("point_cloud", path, "unusable cloud", may_pass=harmless)
        np.save(path := files.path(f"{name}.npy"), points.astype(np.float32))
        yield BadMedia("point_cloud", path, "unusable cloud", may_pass=harmless)
    xyz = "property float x\nproperty float y\nproperty float z\n"
    for form in ("ascii", "binary_little_endian", "binary_big_endian"):
        for count in ("1000000000", "99999999999999999999", "-1", "1e9", ""):
            for properties in (xyz, "", "property list uint uint x\n"):
                header = f"ply\nformat {form} 1.0\nelement vertex {count}\n{properties}end_header\n".encode()
                yield BadMedia("point_cloud", files.write("count.ply", header + bytes(60)), "absurd count")
    for form in ("ascii", "binary", "binary_compressed"):
        for count in ("1000000000", "99999999999999999999", "-1", "many"):
            sizes = f"COUNT 1 1 1\nWIDTH {count}\nHEIGHT 1\nVIEWPOINT 0 0 0 1 0 0 0\nPOINTS {count}\nDATA {form}\n"
            content = f"VERSION .7\nFIELDS x y z\nSIZE 4 4 4\nTYPE F F F\n{sizes}".encode() + bytes(60)
            yield BadMedia("point_cloud", files.write("count.pcd", content), "absurd count")


def _bad_sounds(files: _Files) -> Iterator[BadMedia]:
    """Silence, many channels, other rates, nothing at all, and headers that lie."""
    noise = np.random.default_rng(0).uniform(-0.5, 0.5, (RATE // 2, 8)).astype(np.float32)
    sounds = {
        "silent": (np.zeros(RATE), RATE),
        "constant": (np.full(RATE, 0.25), RATE),
        "none": (noise[:0, 0], RATE),
        "short": (noise[:99, 0], RATE),
        "nan": (noise[:, 0] * np.nan, RATE),
        "slow": (noise[:, 0], 8_000),
        "fast": (noise[:, 0], 44_100),
        "eight": (noise, RATE),
        "many": (np.tile(noise[:900], 100), RATE),  # 800 channels
    }
    for name, (samples, rate) in sounds.items():
        soundfile.write(path := files.path(f"{name}.wav"), samples, rate, subtype="FLOAT")
        yield BadMedia("audio", path, "unusable sound", may_pass=name == "eight")
    for name in ("silent", "slow", "eight"):
        soundfile.write(path := files.path(f"{name}.flac"), *sounds[name])
        yield BadMedia("speech", path, "unusable sound", may_pass=name == "eight")
    data = noise[:4000, 0].tobytes()
    lies = [(0, RATE, 16, 8000), (65_535, RATE, 16, 8000), (1, 0, 16, 8000)]
    lies += [(1, 2**32 - 1, 16, 8000), (1, RATE, 0, 8000), (1, RATE, 16, 2**31)]
    for channels, rate, bits, length in lies:
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, channels, rate, (rate * 2) % 2**32, 2, bits)
        body = b"WAVE" + form + b"data" + struct.pack("<I", length) + data
        content = b"RIFF" + struct.pack("<I", len(body)) + body
        yield BadMedia("audio", files.write("header.wav", content), "lying header", may_pass=length == 2**31)
    soundfile.write(flac := io.BytesIO(), noise[:, 0], RATE, format="FLAC")
    lying = bytearray(flac.getvalue())
    lying[21] |= 0x0F  # the upper four bits of the number of samples
    lying[22:26] = b"\xff\xff\xff\xff"
    yield BadMedia("audio", files.write("header.flac", bytes(lying)), "lying header")


def _bad_videos(files: _Files, valid: Valid) -> Iterator[BadMedia]:
    """Videos without pictures, without frames, with absurd sizes, and playlists that point elsewhere."""
    with av.open(str(path := files.path("sound-only.mp4")), "w") as container:
        stream = container.add_stream("aac", rate=RATE)
        sound = av.AudioFrame.from_ndarray(np.zeros((1, RATE), np.float32), format="fltp", layout="mono")
        sound.sample_rate = RATE
        container.mux(stream.encode(sound))
        container.mux(stream.encode())
    yield BadMedia("video", path, "no frames")
    mp4 = valid["a.mp4"][1]
    yield BadMedia("video", files.write("header-only.mp4", mp4[:32]), "no frames")
    frames = mp4.index(b"mdat")
    end = frames - 4 + int.from_bytes(mp4[frames - 4 : frames], "big")
    blank = mp4[: frames + 4] + bytes(end - frames - 4) + mp4[end:]
    yield BadMedia("video", files.write("no-frames.mp4", blank), "no frames")
    place = mp4.index(b"avc1") + 28
    for side in (0, 65_535):
        content = mp4[:place] + struct.pack(">HH", side, side) + mp4[place + 4 :]
        yield BadMedia("video", files.write("size.mp4", content), "lying header", may_pass=True)
    playlists = {"hls.mp4": "#EXTM3U\n#EXTINF:9,\n/etc/passwd\n", "list.mp4": "ffconcat version 1.0\nfile a\n"}
    for name, text in {**playlists, "page.mkv": "http://127.0.0.1:9/a.mp4\n"}.items():
        yield BadMedia("video", files.write(name, text.encode()), "playlist")


def _odd(files: _Files) -> Iterator[BadMedia]:
    """Sources that are no media files at all."""
    for modality in ("image", "depth", "audio", "video", "point_cloud"):
        (folder := files.path("folder.png")).mkdir()
        (loop := files.path("loop.png")).symlink_to(loop.name)
        (dangling := files.path("dangling.png")).symlink_to("nowhere")
        os.mkfifo(pipe := files.path("pipe.png"))
        for path in (folder, loop, dangling, pipe, files.path("missing.png"), Path("/dev/zero")):
            yield BadMedia(modality, path, "no file")
        for source in ("http://127.0.0.1:9/a.png", "concat:a|b", "x" * 5000, "nul\0.png"):
            yield BadMedia(modality, source, "no file")
