from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from polysense.errors import ConfigError, MediaError
from polysense.modality import get_modality
from polysense.processing import processor_for
from polysense.processing.depth import rotate_right_3


def _value(stored: np.ndarray, facts: dict[str, object] | None = None, **options: object) -> float:
    """Scaled disparity of a map of one value."""
    return float(processor_for(get_modality("depth"), 4, **options).load(stored, facts)[0, 0, 0])


def _map(value: float, kind: type = np.uint16) -> np.ndarray:
    return np.full((4, 4), value, kind)


OPTICS = {"intrinsics": [500.0, 500.0, 2.0, 2.0], "baseline": 0.1}


def test_the_circular_shift_is_undone_by_hand() -> None:
    """1234 = 0b10011010010; rotated left by three bits it is 9872; 8191 + 1 = 1 << 13 comes back from bit 0."""
    assert rotate_right_3(np.array([9872, 0b1, 0b111, 0], np.uint16)).tolist() == [1234, 1 << 13, 7 << 13, 0]


def test_millimetres_become_disparity_by_hand() -> None:
    """2000 mm: 0.1 m * 500 px / 2 m = 25, of 75."""
    assert _value(_map(2000), OPTICS) == pytest.approx(25 / 75)


def test_sunrgbd_files_are_rotated_and_capped_at_eight_metres() -> None:
    assert _value(_map(2000 << 3), OPTICS, encoding="sunrgbd") == pytest.approx(25 / 75)
    assert _value(_map(0b1), OPTICS, encoding="sunrgbd") == pytest.approx(0.1 * 500 / 8 / 75)  # 8.192 m


def test_the_legacy_scale_sees_everything_eight_times_as_far() -> None:
    expected = pytest.approx(0.1 * 500 / 16 / 75)
    assert _value(_map(2000 << 3), OPTICS, encoding="sunrgbd", legacy_scale=True) == expected
    assert _value(_map(2000), OPTICS, legacy_scale=True) == expected
    assert _value(_map(2.0, np.float32), OPTICS, legacy_scale=True) == expected


def test_distance_and_disparity_are_clamped() -> None:
    near_and_far = np.array([[0.0, 60.0], [50.0, 0.001]], np.float32)
    values = processor_for(get_modality("depth"), 2).load(near_and_far, OPTICS)[..., 0]
    assert values == pytest.approx(np.array([[1.0, 1 / 75], [1 / 75, 1.0]]))


def test_holes_of_a_sensor_are_nearest_as_published_or_farthest_if_asked() -> None:
    holes = np.array([[0, 2000]], np.uint16)
    for missing, expected in (("nearest", 1.0), ("farthest", 1 / 75)):
        values = processor_for(get_modality("depth"), 1, missing=missing).load(holes, OPTICS)
        assert values[0, :, 0].tolist() == pytest.approx([expected, 25 / 75])


@pytest.mark.parametrize(
    ("camera", "focal", "baseline"),
    [("nyu", 518.86, 0.075), ("kv2", 529.5, 0.075), ("realsense", 691.584229, 0.095), ("xtion", 570.342224, 0.095)],
)
def test_camera_presets_stand_in_for_missing_facts(camera: str, focal: float, baseline: float) -> None:
    expected = pytest.approx(focal * baseline / 4 / 75)
    assert _value(_map(4000), camera=camera) == expected
    assert _value(_map(4000), {"camera": camera}) == expected
    assert _value(_map(4000), {"intrinsics": [100, 100, 1, 1]}, camera=camera) == pytest.approx(baseline * 25 / 75)


def test_files_are_normalised_with_the_published_statistics(tmp_path: Path) -> None:
    Image.fromarray(_map(2000)).save(tmp_path / "a.png")
    values = processor_for(get_modality("depth"), 4)([tmp_path / "a.png"], facts=[OPTICS])["depth_values"]
    assert values.shape == (1, 1, 4, 4)
    torch.testing.assert_close(values, torch.full((1, 1, 4, 4), (25 / 75 - 0.0418) / 0.0295))


def test_augmentation_is_decided_by_the_generator() -> None:
    depth = processor_for(get_modality("depth"), 16, erase=1.0)
    raw = depth.load(np.linspace(500, 4000, 900).reshape(30, 30).astype(np.uint16))
    first, again = (depth.features(raw, np.random.default_rng(3)) for _ in range(2))
    assert torch.equal(first, again) and not torch.equal(first, depth.features(raw))


@pytest.mark.parametrize(
    ("stored", "facts", "reason"),
    [
        (_map(0), {}, "no measurement"),
        (_map(-1.0, np.float32), {}, "negative"),
        (_map(9, np.uint8), {}, "8-bit"),
        (_map(70000, np.int32), {}, "above 16 bits"),
        (_map(np.inf, np.float32), {}, "not finite"),
        (_map(9), {"intrinsics": []}, "no numbers"),
        (_map(9), {"focal": 10**400}, "no numbers"),
        (_map(9), {"baseline": -1}, "baseline -1.0"),
        (_map(9), {"camera": "box"}, "unknown camera 'box'"),
        (_map(9), {"camera": ["kv1"]}, "unknown camera"),
    ],
)
def test_unusable_maps_and_facts_are_refused(stored: np.ndarray, facts: dict[str, object], reason: str) -> None:
    with pytest.raises(MediaError, match=reason):
        processor_for(get_modality("depth"), 4).load(stored, facts)


def test_options_are_checked() -> None:
    for option, value in (("encoding", "feet"), ("erase", 2.0), ("warps", -1), ("camera", "box")):
        with pytest.raises(ConfigError, match=option):
            processor_for(get_modality("depth"), 4, **{option: value})


def test_what_stands_in_for_a_missing_camera_is_told() -> None:
    part = processor_for(get_modality("depth"), 4, camera="kv2")
    assert part.assumed({}) == {"focal": 529.5, "baseline": 0.075}
    assert part.assumed({"intrinsics": [80.0, 80.0]}) == {"baseline": 0.075}
    assert part.assumed({"baseline": 0.1, "frame": 3}) == {"focal": 529.5}
    assert part.assumed({"camera": "kv1"}) == part.assumed({"focal": 80.0, "baseline": 0.1}) == {}
    assert processor_for(get_modality("image"), 4).assumed({}) == {}
