from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from torch import Tensor

from polysense.errors import ConfigError, FeatureShapeError, UnregisteredModalityError
from polysense.modality import Modality, get_modality, get_processor_class
from polysense.processing import AudioProcessor, GridProcessor, ImageProcessor, ModalityProcessor, processor_for
from polysense.processing.base import Facts, pad_stack

BUILT_IN = ("image", "video", "audio", "speech", "depth", "point_cloud")


@dataclass(frozen=True, kw_only=True)
class Steps(ModalityProcessor):
    """As many time steps as the source says, filled with its fact."""

    kind: ClassVar[str] = "frames"
    time_axis: ClassVar[bool] = True

    def load(self, source: Any, facts: Facts | None = None) -> tuple[int, float]:
        return int(source), float((facts or {}).get("value", 1.0))

    def features(self, raw: Any, rng: np.random.Generator | None = None) -> Tensor:
        return torch.full((raw[0], 2), raw[1] + (0.0 if rng is None else float(rng.random())))


@pytest.mark.parametrize("name", BUILT_IN)
def test_every_built_in_processor_survives_json(name: str) -> None:
    processor = processor_for(get_modality(name), 64)
    saved = json.loads(json.dumps(processor.to_dict()))
    assert ModalityProcessor.from_dict(saved) == processor
    assert type(processor) is get_processor_class(name)
    assert processor.kind == get_modality(name).kind


def test_a_spec_and_overrides_give_the_options() -> None:
    spec = replace(get_modality("audio"), processor={"mel_bins": 64, "seconds": 5})
    processor = processor_for(spec, 32, seconds=2)
    assert isinstance(processor, AudioProcessor)
    assert (processor.mel_bins, processor.seconds, processor.size, processor.channels) == (64, 2.0, 32, 1)


def test_unknown_missing_and_mistyped_options_are_refused() -> None:
    with pytest.raises(ConfigError, match=r"no options \['colour'\].*Known options: .*crop_scale"):
        processor_for(get_modality("image"), 64, colour=True)
    with pytest.raises(ConfigError, match=r"lacks \['modality'\]"):
        ImageProcessor.from_dict({"size": 64})
    with pytest.raises(ConfigError, match=r"image.size: the value '64' does not fit. Give int"):
        ImageProcessor.from_dict({"modality": "image", "size": "64"})
    with pytest.raises(ConfigError, match=r"image.flip: the value 1 does not fit"):
        processor_for(get_modality("image"), 64, flip=1)
    with pytest.raises(ConfigError, match=r"audio.layout.*Give 'spread' \| 'consecutive'"):
        processor_for(get_modality("audio"), 64, layout="odd")
    with pytest.raises(ConfigError, match=r"audio.mean: the value nan"):
        processor_for(get_modality("audio"), 64, mean=float("nan"))
    with pytest.raises(ConfigError, match="size of the image processor must be at most 2048"):
        ModalityProcessor.from_dict({"modality": "image", "size": 10**9})
    with pytest.raises(ConfigError, match="size and channels of the image processor must be at least 1"):
        processor_for(get_modality("image"), 0)


def test_channels_and_kind_belong_to_the_spec() -> None:
    with pytest.raises(ConfigError, match=r"\['channels'\] of modality 'image'.*dataclasses.replace"):
        processor_for(get_modality("image"), 64, channels=1)
    with pytest.raises(ConfigError, match="features of kind 'grid', and modality 'image' is declared as 'points'"):
        processor_for(Modality(name="image", kind="points"), 64)


def test_a_modality_nobody_registered_names_the_missing_call() -> None:
    with pytest.raises(UnregisteredModalityError, match="register_modality"):
        processor_for(Modality(name="touch", kind="grid"), 64)
    with pytest.raises(UnregisteredModalityError, match="register_modality"):
        ModalityProcessor.from_dict({"modality": "touch"})
    with pytest.raises(ConfigError, match="lack the name of their modality"):
        ModalityProcessor.from_dict({})


def test_numbers_become_tuples_and_lists_too() -> None:
    grid = GridProcessor.from_dict({"modality": "heat", "channels": 1, "mean": 3, "std": [2]})
    assert (grid.mean, grid.std) == ((3.0,), (2.0,))


def test_a_batch_of_unequal_lengths_is_padded_and_masked() -> None:
    steps = Steps(modality="steps")
    batch = steps([1, 3], facts=[None, {"value": 5}])
    assert batch["steps_values"][:, :, 0].tolist() == [[1, 0, 0], [5, 5, 5]]
    assert batch["steps_mask"].tolist() == [[True, False, False], [True, True, True]]
    assert set(steps([2, 2])) == {"steps_values"}


def test_augmentation_draws_from_the_generator_of_its_sample_alone() -> None:
    rngs = [np.random.default_rng([0, key]) for key in (7, 8)]
    both = Steps(modality="steps")([1, 1], rngs=rngs)["steps_values"]
    alone = Steps(modality="steps")([1], rngs=[np.random.default_rng([0, 8])])["steps_values"]
    assert torch.equal(both[1], alone[0])


def test_counts_and_shapes_that_disagree_are_refused() -> None:
    with pytest.raises(FeatureShapeError, match="2 sources of steps came with 1 facts and 2 generators"):
        Steps(modality="steps")([1, 1], facts=[None])
    with pytest.raises(FeatureShapeError, match="has no samples"):
        Steps(modality="steps")([])
    with pytest.raises(FeatureShapeError, match=r"different shapes \[\(1, 2\), \(2, 2\)\]"):
        pad_stack([torch.zeros(1, 2), torch.zeros(2, 2)], time_axis=False, where="x")
