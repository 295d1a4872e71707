"""One picture that shows a world: stills in all their senses, and a clip with film, sound and text."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import av
import numpy as np
import soundfile
from jaxtyping import Float, UInt8
from PIL import Image, ImageDraw, ImageFont
from plyfile import PlyData
from scipy import signal

from polysense.errors import ManifestError
from polysense.world.build import load_world

_Pixels = UInt8[np.ndarray, "height width 3"]
_TILE, _GAP, _MARGIN, _TEXT = 160, 10, 28, 470
_SENSES = ("image", "depth", "thermal", "point_cloud", "mask")
_WIDTH = 2 * _MARGIN + len(_SENSES) * (_TILE + _GAP) + _TEXT
_INK, _GREY, _PAPER = (28, 30, 36), (120, 124, 134), (255, 255, 255)
_VIRIDIS = ((68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37))
_INFERNO = ((0, 0, 4), (87, 16, 110), (188, 55, 84), (249, 142, 9), (252, 255, 164))
_OBJECTS = ((240, 240, 242), (214, 69, 65), (65, 131, 196), (95, 160, 80))
_BARS = ((214, 69, 65), (65, 131, 196), (95, 160, 80))


def draw_gallery(directory: str | Path, path: str | Path, *, stills: int = 4, split: str = "test") -> Path:
    """Draw the first stills with several objects and the clip with most events of a built world.

    Raises:
        ManifestError: the folder holds no finished world, or the split has no stills or no clips.
    """
    root = load_world(directory).directory
    still_rows, clip_rows = (_rows(root, f"{kind}-{split}") for kind in ("stills", "clips"))
    chosen = sorted(still_rows, key=lambda row: -len(row["scene"]["objects"]))[: 4 * stills : 4]
    clip = max(clip_rows, key=_events_heard)
    height = 100 + len(chosen) * (_TILE + _GAP) + 420
    page = Image.new("RGB", (_WIDTH, height), _PAPER)
    draw = ImageDraw.Draw(page)
    for column, sense in enumerate(_SENSES):
        draw.text((_MARGIN + column * (_TILE + _GAP), 22), sense.replace("_", " "), _INK, font=_font(20))
    draw.text((_MARGIN + len(_SENSES) * (_TILE + _GAP) + 8, 22), "text", _INK, font=_font(20))
    for index, row in enumerate(chosen):
        _draw_still(page, root, row, 54 + index * (_TILE + _GAP))
    _draw_clip(page, root, clip, 54 + len(chosen) * (_TILE + _GAP) + 24)
    page.save(path)
    return Path(path)


def _events_heard(row: dict[str, Any]) -> tuple[int, int]:
    """Clips with many events that ring show best."""
    ringing = [e for e in row["scene"]["events"] if e["audible"] and e["material"] in ("metal", "glass", "ceramic")]
    return len(ringing), len(row["scene"]["events"])


def _rows(root: Path, name: str) -> list[dict[str, Any]]:
    rows = [json.loads(line) for line in (root / "manifests" / f"{name}.jsonl").read_text().splitlines()]
    if not rows:
        raise ManifestError(f"the world has no samples in {name}", where=root, fix="Build a larger world.")
    return rows


def _draw_still(page: Image.Image, root: Path, row: dict[str, Any], top: int) -> None:
    draw = ImageDraw.Draw(page)
    for column, sense in enumerate(_SENSES):
        tile = _tile(root / row["media"][sense]["path"], sense)
        page.paste(_enlarged(tile, _TILE), (_MARGIN + column * (_TILE + _GAP), top))
    left, y = _MARGIN + len(_SENSES) * (_TILE + _GAP) + 8, top
    for sense in ("image", "depth", "thermal", "point_cloud"):
        draw.text((left, y), sense.replace("_", " "), _GREY, font=_font(13))
        draw.text((left + 84, y), max(row["captions"][sense], key=len), _INK, font=_font(14))
        y += 25
    question = next(q for q in row["questions"] if q["modality"] == "thermal" and "made" in q["question"])
    draw.text((left, y + 8), "question", _GREY, font=_font(13))
    draw.text((left + 84, y + 8), f"thermal: {question['question']}  {question['answer']}", _INK, font=_font(14))
    draw.text((left, y + 33), "referring", _GREY, font=_font(13))
    draw.text((left + 84, y + 33), row["referring"][-1]["expression"], _INK, font=_font(14))


def _draw_clip(page: Image.Image, root: Path, row: dict[str, Any], top: int) -> None:
    draw, media = ImageDraw.Draw(page), row["media"]
    with av.open(str(root / media["video"]["path"])) as container:
        frames = [frame.to_ndarray(format="rgb24") for frame in container.decode(video=0)]
    width = _WIDTH - 2 * _MARGIN
    second = width / 10
    draw.text((_MARGIN, top), "video, one frame a second, and audio (10 s)", _INK, font=_font(20))
    for index, frame in enumerate(frames[::2]):
        page.paste(_enlarged(frame, int(second) - 4), (round(_MARGIN + index * second), top + 32))
    y = top + 32 + int(second) + 2
    wave, _ = soundfile.read(str(root / media["audio"]["path"]), dtype="float32")
    heat = Image.fromarray(_coloured(_spectrogram(wave), _INFERNO))
    page.paste(heat.resize((width - 4, 110), Image.Resampling.BILINEAR), (_MARGIN, y))
    y += 118
    for index, event in enumerate(row["scene"]["events"]):
        x = _MARGIN + event["start"] * second, _MARGIN + event["end"] * second - 4
        draw.rounded_rectangle((x[0], y, x[1], y + 20), 5, fill=_BARS[index % len(_BARS)])
        kind = "seen and heard" if event["visible"] and event["audible"] else "seen" if event["visible"] else "heard"
        label = f"{event['event']}: {event['colour']} {event['material']} {event['shape']} ({kind})"
        draw.text((x[0] + 6, y + 2), label, _PAPER if _fits(draw, label, x) else _INK, font=_font(13))
        y += 24
    for sense in ("video", "audio"):
        draw.text((_MARGIN, y + 4), sense, _GREY, font=_font(13))
        draw.text((_MARGIN + 60, y + 3), row["captions"][sense][0], _INK, font=_font(15))
        y += 24


def _fits(draw: ImageDraw.ImageDraw, text: str, span: tuple[float, float]) -> bool:
    return draw.textlength(text, font=_font(13)) + 10 < span[1] - span[0]


def _tile(path: Path, sense: str) -> _Pixels:
    if sense == "point_cloud":
        return _scatter(path)
    values = np.asarray(Image.open(path))
    if sense == "image":
        return values
    if sense == "mask":
        return np.asarray(np.array(_OBJECTS, dtype=np.uint8)[values])
    low, high = np.percentile(values[values > 0], (1, 99))
    scaled = np.clip((values.astype(np.float32) - low) / max(high - low, 1), 0, 1)
    picture = _coloured(1 - scaled if sense == "depth" else scaled, _VIRIDIS if sense == "depth" else _INFERNO)
    return np.where((values > 0)[..., None], picture, np.uint8(0))


def _scatter(path: Path) -> _Pixels:
    """Points seen from above and aside, nearer ones drawn last."""
    vertices = PlyData.read(str(path))["vertex"].data
    points = np.stack([vertices[axis] for axis in ("x", "y", "z")], axis=1)
    colours = np.stack([vertices[channel] for channel in ("red", "green", "blue")], axis=1)
    across, away, up = points.T
    tilt = 0.45
    screen = np.stack([across, -(up * np.cos(tilt) + away * np.sin(tilt))], axis=1) / 0.75
    spots = np.rint((screen + 1) * (_TILE - 1) / 2).astype(int)
    canvas = np.full((_TILE, _TILE, 3), 246, dtype=np.uint8)
    for index in np.argsort(-away):
        x, y = spots[index]
        if 1 <= x < _TILE - 1 and 1 <= y < _TILE - 1:
            canvas[y - 1 : y + 1, x - 1 : x + 1] = colours[index]
    return canvas


def _spectrogram(wave: Float[np.ndarray, " samples"]) -> Float[np.ndarray, "frequencies times"]:
    _, _, power = signal.spectrogram(wave, nperseg=512, noverlap=256)
    loudness = np.log10(power[1:200] + 1e-9)[::-1]
    low, high = np.percentile(loudness, (5, 99.7))
    return np.asarray(np.clip((loudness - low) / (high - low), 0, 1))


def _coloured(values: Float[np.ndarray, "height width"], anchors: Sequence[tuple[int, int, int]]) -> _Pixels:
    places = np.linspace(0, 1, len(anchors))
    channels = [np.interp(values, places, [anchor[c] for anchor in anchors]) for c in range(3)]
    return np.stack(channels, axis=-1).astype(np.uint8)


def _enlarged(picture: _Pixels, size: int) -> Image.Image:
    return Image.fromarray(picture).resize((size, size), Image.Resampling.NEAREST)


def _font(size: int) -> ImageFont.FreeTypeFont | ImageFont.ImageFont:
    return ImageFont.load_default(size)
