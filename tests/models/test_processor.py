"""What all processors share; each system's own tests look at the rest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from transformers import AutoProcessor, CLIPImageProcessorPil

from polysense import UniAlignProcessor
from polysense.errors import CheckpointError, ConfigError, UnknownModalityError, UnsafeFileError
from polysense.modality import get_modality
from polysense.models.processor import SensesProcessor, argument_of, sense_of
from polysense.testing import tiny_anchor


@pytest.fixture
def processor(tmp_path: Path) -> SensesProcessor:
    return UniAlignProcessor.from_clip(tiny_anchor(tmp_path), ["video", "depth"])


def test_transformers_names_of_arguments_are_understood() -> None:
    assert [sense_of(name) for name in ("images", "videos", "audio", "depth")] == ["image", "video", "audio", "depth"]
    assert [argument_of(name) for name in ("image", "video", "audio")] == ["images", "videos", "audio"]


def test_what_callers_of_transformers_ask_by_habit_changes_nothing(processor: SensesProcessor) -> None:
    plain = processor(text=["a cup", "a red ball"])
    asked = processor(
        text=["a cup", "a red ball"], padding=True, truncation=True, return_tensors="pt", max_length=None
    )
    assert plain.keys() == asked.keys() and all(torch.equal(plain[key], asked[key]) for key in plain)


@pytest.mark.parametrize(
    "option", [{"padding": "max_length"}, {"truncation": False}, {"return_tensors": "np"}, {"max_length": 5}], ids=str
)
def test_an_option_without_effect_is_refused_by_name(option: dict[str, Any], processor: SensesProcessor) -> None:
    with pytest.raises(ConfigError, match=rf"processor: {next(iter(option))}=.* would have no effect.*the longest"):
        processor(text=["a cup"], **option)


def test_a_sense_under_two_names_is_refused(processor: SensesProcessor) -> None:
    picture = np.zeros((40, 40, 3), np.uint8)
    for name, other, value in (("image", "images", [picture]), ("video", "videos", [picture[None]])):
        with pytest.raises(ConfigError, match=f"the sense '{name}' was given twice, as {other}= and {name}="):
            processor(**{other: value, name: value})
        assert processor(**{other: None, name: value}).keys() == processor(**{other: value}).keys()


def test_every_sense_has_its_part(processor: SensesProcessor) -> None:
    assert {name: processor.part(name).modality for name in processor.modalities} == {
        name: name for name in ("image", "text", "video", "depth")
    }
    with pytest.raises(UnknownModalityError, match="processor: unknown modality 'smell'"):
        processor.part("smell")


def test_frames_and_images_share_size_and_statistics(processor: SensesProcessor) -> None:
    assert isinstance(processor.image_processor, CLIPImageProcessorPil) and processor.size == 32
    picture = np.random.default_rng(0).integers(0, 255, (40, 40, 3), dtype=np.uint8)
    image = processor.features("image", [picture])["pixel_values"]
    video = processor.features("video", [picture[None]])["video_values"]
    assert torch.equal(video[:, 0], image)


def test_facts_and_generators_reach_the_part(processor: SensesProcessor) -> None:
    depth = [np.full((40, 40), 2.0, np.float32)]
    facts = [{"intrinsics": [30.0, 30.0], "baseline": 0.075}]
    assert "depth_values" in processor.features("depth", depth, facts=facts, rngs=[np.random.default_rng(0)])


def test_a_sense_is_added_once(processor: SensesProcessor) -> None:
    with pytest.raises(ConfigError, match="the processor already has the modality 'depth'"):
        processor._new_options(get_modality("depth"), 32)


@pytest.mark.parametrize(
    ("file", "key", "value", "error", "message"),
    [
        ("processor_config.json", "auto_map", {"AutoProcessor": "x.Y"}, UnsafeFileError, "'auto_map'.* name code"),
        ("tokenizer_config.json", "auto_map", {"AutoTokenizer": ["x.Y", None]}, UnsafeFileError, "name code"),
        ("processor_config.json", "audio_tokenizer", {"audio_tokenizer_class": "X"}, UnsafeFileError, "name code"),
        ("processor_config.json", "senses", {"depth": 1}, CheckpointError, "the processor cannot be loaded"),
        ("processor_config.json", "senses", "depth", CheckpointError, "the processor cannot be loaded"),
        ("tokenizer_config.json", "tokenizer_class", 3, CheckpointError, "the processor cannot be loaded"),
        ("tokenizer.json", "model", {"type": "none"}, CheckpointError, "the processor cannot be loaded"),
    ],
)
def test_a_hostile_or_damaged_folder_is_an_error_of_ours(
    file: str, key: str, value: Any, error: type[CheckpointError], message: str, processor: SensesProcessor,
    tmp_path: Path,
) -> None:  # fmt: skip
    folder = tmp_path / "saved"
    processor.save_pretrained(folder)
    for kind in (UniAlignProcessor, AutoProcessor):
        assert set(kind.from_pretrained(folder).modalities) == set(processor.modalities)
    path = folder / file
    path.write_text(json.dumps({**json.loads(path.read_text()), key: value}))
    with pytest.raises(error, match=rf"^{folder}\S*: .*{message}"):
        UniAlignProcessor.from_pretrained(folder, trust_remote_code=True)


def test_a_processors_files_are_not_read_from_elsewhere(processor: SensesProcessor, tmp_path: Path) -> None:
    folder, own = tmp_path / "saved", "tokenizer.json"
    processor.save_pretrained(folder / "inner")
    (folder / "inner" / own).rename(tmp_path / own)
    (folder / "inner" / own).symlink_to(tmp_path / own)
    with pytest.raises(UnsafeFileError, match=f"{own}: the link leads outside the folder"):
        UniAlignProcessor.from_pretrained(folder, subfolder="inner")


def test_what_it_was_used_for_does_not_change_what_is_saved(processor: SensesProcessor, tmp_path: Path) -> None:
    processor.save_pretrained(tmp_path / "new")
    processor.tokenizer(["a ball"], truncation=True, max_length=7, padding="max_length")
    processor.save_pretrained(tmp_path / "used")
    type(processor).from_pretrained(tmp_path / "used").save_pretrained(tmp_path / "again")
    for path in sorted((tmp_path / "new").iterdir()):
        saved = {(tmp_path / name / path.name).read_bytes() for name in ("new", "used", "again")}
        assert len(saved) == 1, path.name
