from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from polysense.data import SampleDataset
from polysense.errors import ConfigError, ManifestError
from polysense.models.referring import ReferringSegmenter
from polysense.recipes.codes import CodeSequences
from polysense.recipes.comet_segmentation import (
    Expressions,
    SegmentationSettings,
    check_segmentation,
    segmentation_results,
)
from polysense.recipes.config import build
from tests.models.referring.tiny import VALUES
from tests.processing.videos import write_video

COLOURS = {"red": (220, 30, 30), "blue": (30, 30, 220)}
ASSETS = Path(__file__).parents[1] / "assets" / "spoken"


def write_scenes(folder: Path, name: str, count: int) -> dict[str, str]:
    """Pictures with a red and a blue thing side by side, at one of three heights."""
    rows = []
    for number in range(count):
        picture, mask = np.full((32, 32, 3), 40, np.uint8), np.zeros((32, 32), np.uint8)
        top = 8 * (number % 3)
        for which, colour in enumerate(COLOURS.values(), start=1):
            left = 16 * ((which + number) % 2)
            picture[top : top + 16, left : left + 16] = colour
            mask[top : top + 16, left : left + 16] = which
        Image.fromarray(picture).save(folder / f"{name}-{number}.png")
        Image.fromarray(mask).save(folder / f"{name}-{number}-mask.png")
        order = (1, 2) if number % 4 < 2 else (2, 1)
        media = {"image": f"{name}-{number}.png", "mask": f"{name}-{number}-mask.png", "speech": f"{number}.flac"}
        said = [{"expression": f"the {[*COLOURS][k - 1]} one", "object": k} for k in order]
        rows.append({"id": f"{name}-{number}", "media": media, "referring": said})
    (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return {"manifest": f"{name}.jsonl"}


def encode(sense: str, dataset: SampleDataset) -> CodeSequences:
    """One code per colour; speech says the sample's first expression."""
    samples = [dataset[index] for index in range(len(dataset))]
    texts = [
        str(each.ref("text").open()) if sense == "text" else each.extra["referring"][0]["expression"]
        for each in samples
    ]  # fmt: skip
    which = torch.tensor(["blue" in text for text in texts]).long()
    return CodeSequences(torch.nn.functional.one_hot(which, 2).float()[:, None].repeat(1, 3, 1))


def settings(folder: Path, **changed: Any) -> SegmentationSettings:
    spec = {
        "train": [write_scenes(folder, "train", 12)], "tests": {"scenes": write_scenes(folder, "test", 4)},
        "sizes": VALUES, "head": {"epochs": 60, "batch_size": 12, "learning_rate": 0.01, "milestones": [],
                 "max_grad_norm": 5.0},
    }  # fmt: skip
    return build(SegmentationSettings, {**spec, **changed}, "segmentation")


def test_what_was_learned_from_text_is_asked_by_speech(tmp_path: Path) -> None:
    model, results = segmentation_results(settings(tmp_path), encode, tmp_path)
    found = {(each.task, each.metric): each for each in results}
    assert len(found) == 6 and not model.training
    speech, text = found["segmentation text to speech", "J"], found["segmentation text to text", "J"]
    assert speech.value > 0.9 and speech.chance < 0.6  # every second exchanged query asks for the same colour
    assert speech.value == pytest.approx(text.value) and speech.upper_bound == pytest.approx(text.value)
    assert (speech.modality, speech.dataset, speech.count) == ("speech", "scenes", 4)
    both = found["segmentation text to speech", "J&F"].value
    assert both == pytest.approx((speech.value + found["segmentation text to speech", "F"].value) / 2)


def test_a_seed_repeats_its_head(tmp_path: Path) -> None:
    few = settings(tmp_path, head={"epochs": 1})
    first, again = (segmentation_results(few, encode, tmp_path)[1] for _ in range(2))
    assert first == again


def test_without_speech_text_alone_is_tested(tmp_path: Path) -> None:
    few = settings(tmp_path, head={"epochs": 1}, ask="depth")
    assert {each.task for each in segmentation_results(few, encode, tmp_path)[1]} == {"segmentation text to text"}


def test_samples_without_masks_are_missed(tmp_path: Path) -> None:
    (tmp_path / "bare.jsonl").write_text('{"id": "a", "media": {"image": "a.png"}}\n')
    with pytest.raises(ConfigError, match="no sample has a picture, its mask"):
        segmentation_results(settings(tmp_path, train=[{"manifest": "bare.jsonl"}]), encode, tmp_path)


def write_films(folder: Path, name: str, referring: list[Any], **facts: Any) -> dict[str, str]:
    """A film of four frames with the masks of two things, of which the second is there in the first two alone."""
    masks = np.zeros((4, 64, 64), np.uint8)
    masks[:, 16:48, 8:24], masks[:2, 16:48, 40:56] = 1, 2
    write_video(folder / f"{name}.mp4", frames=4)
    Image.fromarray(masks.reshape(-1, 64)).save(folder / f"{name}.png")
    media = {"video": f"{name}.mp4", "masks": {"path": f"{name}.png", "frames": 4, **facts}}
    (folder / f"{name}.jsonl").write_text(json.dumps({"id": name, "media": media, "referring": referring}) + "\n")
    return {"manifest": f"{name}.jsonl"}


def test_a_film_is_scored_frame_by_frame_where_its_object_is_there_or_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    said = [{"expression": "the blue one", "object": 2}, {"expression": "the red one", "object": 1}]
    film = write_films(tmp_path, "film", said)
    few = settings(tmp_path, head={"epochs": 1}, train=[film], tests={"film": film}, ask="depth")
    left = torch.zeros(32, 32, dtype=torch.bool)
    left[8:24, 4:12] = True  # the red thing, at half the film's size

    def forward(self: ReferringSegmenter, frames: torch.Tensor, *_: Any) -> torch.Tensor:
        untouched = torch.stack([each.sum() for each in self.parameters()]).sum() * 0
        return (left.float() * 20 - 10).expand(len(frames), -1, -1) + untouched

    monkeypatch.setattr(ReferringSegmenter, "forward", forward)
    found = {each.metric: each for each in segmentation_results(few, encode, tmp_path)[1]}
    # asked for the blue thing, it misses it altogether in two frames, and sees a thing in two where it is not
    assert found["J"].value == 0 and found["J"].count == 1
    monkeypatch.setattr(ReferringSegmenter, "forward", lambda *given: forward(*given) - 20)
    values = [each.value for each in segmentation_results(few, encode, tmp_path)[1]]
    assert values == [0.5, 0.5, 0.5], "it is right to see nothing where nothing is"


@pytest.mark.parametrize(
    ("referring", "facts", "reason"),
    [
        ([{"expression": "the red one", "object": "1"}], {}, r"film: .*tells no object from 1 to 255"),
        ([{"expression": "the red one"}], {}, "tells no object"),
        ([{"expression": "all", "object": 0}], {}, "tells no object"),
        (["the red one"], {}, "tells no object"),
        (
            [{"expression": "the red one", "object": 1}],
            {"frames": 1},
            "1 masks of 256 x 64 beside a picture of 64 x 64",
        ),
    ],
)
def test_expressions_and_masks_that_do_not_fit_are_refused(
    referring: list[Any], facts: dict[str, Any], reason: str, tmp_path: Path
) -> None:
    film = write_films(tmp_path, "film", referring, **facts)
    few = settings(tmp_path, head={"epochs": 1}, tests={"film": film})
    with pytest.raises(ManifestError, match=reason):
        check_segmentation(few, tmp_path)
        segmentation_results(few, encode, tmp_path)


def test_the_spoken_set_can_be_asked(tmp_path: Path) -> None:
    spec = settings(tmp_path, head={"epochs": 1}, tests={"spoken": {"manifest": "manifest.jsonl", "limit": 3}},
                    train=[{"manifest": "manifest.jsonl", "limit": 2}])  # fmt: skip
    _, results = segmentation_results(spec, encode, ASSETS)
    assert {(each.task, each.count) for each in results} == {
        ("segmentation text to text", 3), ("segmentation text to speech", 3)
    }  # fmt: skip


def test_expressions_are_texts_of_their_own() -> None:
    texts = Expressions(("the ball", "the cube"))
    assert isinstance(texts, SampleDataset) and len(texts) == 2
    assert texts[1].ref("text").open() == "the cube" and texts[1].id == "expression/the cube"
