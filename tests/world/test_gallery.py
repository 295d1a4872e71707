from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from polysense.errors import ManifestError
from polysense.world import WorldConfig, WorldSummary, build_world
from polysense.world.gallery import draw_gallery


def test_a_gallery_shows_stills_and_a_clip(world: WorldSummary, tmp_path: Path) -> None:
    path = draw_gallery(world.directory, tmp_path / "gallery.png", stills=2)
    with Image.open(path) as page:
        assert page.width > 1000
        assert len(np.unique(np.asarray(page).reshape(-1, 3), axis=0)) > 500


def test_a_world_without_clips_is_refused(tmp_path: Path) -> None:
    build_world(tmp_path / "w", WorldConfig(size="x", counts={"stills": {"test": 1}}), workers=1, progress=False)
    with pytest.raises(ManifestError, match="no samples in clips-test"):
        draw_gallery(tmp_path / "w", tmp_path / "gallery.png")
