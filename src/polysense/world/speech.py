"""The spoken set: referring expressions and captions of the world, spoken by `espeak-ng`.

It ships with the tests so that nothing depends on that program; `python -m polysense.world.speech` makes it again.
Each row has the speech, the picture that it is about and the instance mask, so that it serves speech-text pairs as
well as segmentation of what is spoken of.
"""

from __future__ import annotations

import io
import json
import logging
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from jaxtyping import Float, UInt8
from scipy import signal
from tqdm import tqdm

from polysense.errors import ConfigError, MediaError
from polysense.world.attributes import still_labels
from polysense.world.config import WorldConfig
from polysense.world.language import referring, still_captions
from polysense.world.rng import generator
from polysense.world.scene import Scene, sample_scene
from polysense.world.shade import develop, shade
from polysense.world.writers import SAMPLING_RATE, flac, png, store

logger = logging.getLogger(__name__)

SPOKEN_SET = Path("tests/assets/spoken")
_COUNTS = {"train": 72, "validation": 12, "test": 36}
_CONFIG = WorldConfig(size="spoken", counts={}, seed=7)
_VOICES = ("en-us", "en-gb", "en-gb-scotland", "en-us+f3", "en-gb+f2", "en-us+m3", "en-gb+m7", "en-us+f5")
_TIMEOUT = 20  # seconds for one sentence


def build_spoken_set(directory: str | Path) -> Path:
    """Write `manifest.jsonl` and its media below `directory`; returns the manifest's path.

    Raises:
        ConfigError: `espeak-ng` is not installed.
        MediaError: `espeak-ng` fails on a sentence.
    """
    program = shutil.which("espeak-ng")
    if program is None:
        raise ConfigError("the program espeak-ng is not installed", fix="Try `apt-get install espeak-ng`.")
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    jobs = [(split, index) for split, count in _COUNTS.items() for index in range(count)]
    rows = [_spoken(root, program, split, index) for split, index in tqdm(jobs, desc="speech", unit="sentence")]
    manifest = root / "manifest.jsonl"
    manifest.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    logger.info("wrote %d sentences to %s", len(rows), manifest)
    return manifest


def _spoken(root: Path, program: str, split: str, index: int) -> dict[str, Any]:
    name = f"spoken-{split}-{index:03d}"

    def stream(part: str) -> np.random.Generator:
        return generator(_CONFIG.seed, "spoken", split, index, part)

    scene = sample_scene(stream, _CONFIG.level, held_out=False)
    linear = shade(scene.bodies, scene.geometry, scene.camera, scene.directions, scene.backdrop, scene.light)
    masks = scene.geometry.masks(scene.bodies)[0]
    rng = stream("text")
    text, number = _sentence(rng, scene, masks)
    voice = _VOICES[int(rng.integers(len(_VOICES)))]
    pace, pitch = int(rng.integers(135, 190)), int(rng.integers(30, 70))
    look = scene.objects[number - 1].look
    named = look.colour in text and look.shape in text
    return {
        "id": name,
        "kind": "spoken",
        "split": split,
        "media": {
            "speech": store(root, f"speech/{name}.flac", flac(_speak(program, text, voice, pace, pitch)), voice=voice),
            "image": store(root, f"image/{name}.png", png(develop(linear, stream("image"), _CONFIG.level)[0])),
            "mask": store(root, f"mask/{name}.png", png(masks)),
        },
        "labels": {"speech": still_labels(look)["image"]} if named and "image" in still_labels(look) else {},
        "captions": {"speech": [text]},
        "semantics": {"speech": text},
        "referring": [{"expression": text, "object": number}],
    }


def _sentence(rng: np.random.Generator, scene: Scene, masks: UInt8[np.ndarray, "height width"]) -> tuple[str, int]:
    """A referring expression or, for every third scene, a caption; with the object that it is about."""
    if rng.uniform() < 1 / 3:
        captions = still_captions(rng, scene.objects, scene.camera, ("image",))["image"]
        return captions[0].replace(" ,", ","), 1
    pixels = [int((masks == body.number).sum()) for body in scene.objects]
    choices = referring(scene.objects, pixels, scene.camera)
    chosen = choices[int(rng.integers(len(choices)))]
    return str(chosen["expression"]), int(chosen["object"])


def _speak(program: str, text: str, voice: str, pace: int, pitch: int) -> Float[np.ndarray, " samples"]:
    """A sentence at 16 kHz, at half of full scale."""
    command = [program, "-v", voice, "-s", str(pace), "-p", str(pitch), "--stdout", "--stdin"]
    try:
        spoken = subprocess.run(command, input=text.encode(), capture_output=True, check=True, timeout=_TIMEOUT).stdout
        wave, rate = soundfile.read(io.BytesIO(spoken), dtype="float32")
    except (subprocess.SubprocessError, soundfile.LibsndfileError) as error:
        raise MediaError(f"espeak-ng could not speak {text!r} ({error})", where=program,
                         fix="Check that the voice is installed.") from error  # fmt: skip
    common = int(np.gcd(SAMPLING_RATE, rate))
    wave = signal.resample_poly(wave, SAMPLING_RATE // common, rate // common)
    return np.asarray(0.5 * wave / max(float(np.abs(wave).max()), 1e-6), dtype=np.float32)


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    build_spoken_set(sys.argv[1] if len(sys.argv) > 1 else SPOKEN_SET)
