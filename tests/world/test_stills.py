from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from plyfile import PlyData

Rows = Callable[[str], list[dict[str, Any]]]
FORMS = {
    "image": ("RGB", np.uint8),
    "depth": ("I;16", np.uint16),
    "thermal": ("I;16", np.uint16),
    "mask": ("L", np.uint8),
}


def test_a_still_has_a_file_of_the_promised_form_for_every_sense(rows: Rows, root: Path) -> None:
    for row in rows("stills-test"):
        for sense, (mode, kind) in FORMS.items():
            with Image.open(root / row["media"][sense]["path"]) as picture:
                assert (picture.mode, picture.size) == (mode, (64, 64))
                assert np.asarray(picture).dtype == kind
        vertices = PlyData.read(str(root / row["media"]["point_cloud"]["path"]))["vertex"]
        assert len(vertices) == 1024


def test_depth_comes_with_what_disparity_needs(rows: Rows) -> None:
    facts = rows("stills-test")[0]["media"]["depth"]
    assert len(facts["intrinsics"]) == 4
    assert facts["intrinsics"][2:] == [31.5, 31.5]
    assert 0.01 < facts["baseline"] < 1


def test_masks_count_the_pixels_that_the_row_tells(rows: Rows, root: Path) -> None:
    for row in rows("stills-test"):
        mask = np.asarray(Image.open(root / row["media"]["mask"]["path"]))
        for entry in row["scene"]["objects"]:
            assert int((mask == entry["object"]).sum()) == entry["visible_pixels"]


def test_one_geometry_gives_image_depth_and_warmth(rows: Rows, root: Path) -> None:
    agreeing = 0
    for row in rows("stills-train"):
        mask = np.asarray(Image.open(root / row["media"]["mask"]["path"])) == 1
        depth = np.asarray(Image.open(root / row["media"]["depth"]["path"])).astype(float)
        known = mask & (depth > 0)
        distance = np.median(depth[known]) / 1000
        agreeing += 1.0 < distance < 3.0 and np.ptp(depth[known]) < 1600
    assert agreeing == len(rows("stills-train"))
