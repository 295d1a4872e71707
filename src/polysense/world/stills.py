"""One still of the world: scene, files, manifest row."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Int

from polysense.world.attributes import Look, class_names, still_labels
from polysense.world.config import WorldConfig
from polysense.world.language import (
    SHOWN,
    referring,
    semantics,
    still_captions,
    still_questions,
    web_captions,
)
from polysense.world.rng import generator
from polysense.world.scene import Scene, sample_scene
from polysense.world.sensors import depth_picture, point_cloud, thermal_picture
from polysense.world.shade import develop, shade
from polysense.world.timing import Stopwatch
from polysense.world.writers import ply, png, store

BASELINE = 0.075  # metres between the two eyes of the imagined depth camera, for disparity


def build_still(root: Path, config: WorldConfig, split: str, index: int, watch: Stopwatch) -> dict[str, Any]:
    """Write the files of one still below `root` and return its manifest row."""
    level, name = config.level, f"still-{split}-{index:06d}"

    def stream(part: str) -> np.random.Generator:
        return generator(config.seed, "still", split, index, part)

    with watch("scene"):
        scene = sample_scene(stream, level, held_out=split == "compositional")
    with watch("image"):
        linear = shade(
            scene.bodies, scene.geometry, scene.camera, scene.directions, scene.backdrop, scene.light
        )  # fmt: skip
        picture = png(develop(linear, stream("image"), level)[0])
        image = store(root, f"media/image/{name}.png", picture)
        masks = scene.geometry.masks(scene.bodies)[0]
        mask = store(root, f"media/mask/{name}.png", png(masks))
    with watch("depth"):
        depth = store(
            root, f"media/depth/{name}.png", png(depth_picture(scene, stream("depth"), level)),
            intrinsics=[round(value, 4) for value in scene.camera.intrinsics], baseline=BASELINE,
        )  # fmt: skip
    with watch("thermal"):
        thermal = store(root, f"media/thermal/{name}.png", png(thermal_picture(scene, stream("thermal"), level)))
    with watch("point_cloud"):
        cloud = store(root, f"media/point_cloud/{name}.ply", ply(*point_cloud(scene, stream("points"), level)))
    with watch("text"):
        media = {"image": image, "depth": depth, "point_cloud": cloud, "thermal": thermal, "mask": mask}
        return _row(name, split, scene, media, stream, pixels=np.bincount(masks.ravel(), minlength=4), config=config)


def _labels(look: Look, split: str) -> dict[str, str]:
    """Class names of the subject; compositional samples are labelled only where the class itself was never trained."""
    labels = still_labels(look)
    if split != "compositional":
        return labels
    return {sense: name for sense, name in labels.items() if name in class_names(sense, which="held_out")}


def _row(
    name: str,
    split: str,
    scene: Scene,
    media: dict[str, Any],
    stream: Callable[[str], np.random.Generator],
    *,
    pixels: Int[np.ndarray, " objects"],
    config: WorldConfig,
) -> dict[str, Any]:
    objects, camera, rng = scene.objects, scene.camera, stream("text")
    look = objects[0].look
    captions = still_captions(rng, objects, camera, tuple(SHOWN))
    return {
        "id": name,
        "kind": "still",
        "split": split,
        "media": media,
        "labels": _labels(look, split),
        "captions": {**captions, "web": web_captions(rng, look)},
        "semantics": {modality: semantics(look, modality) for modality in SHOWN},
        "questions": still_questions(rng, objects, camera, central=config.level.subject_central),
        "referring": referring(objects, [int(pixels[body.number]) for body in objects], camera),
        "scene": {
            "objects": [
                {
                    "object": body.number,
                    **asdict(body.look),
                    "radius": round(body.radius, 4),
                    "centre": [round(float(value), 4) for value in body.centre[0]],
                    "visible_pixels": int(pixels[body.number]),
                }
                for body in objects
            ],
        },
    }
