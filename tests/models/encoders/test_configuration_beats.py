from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from huggingface_hub.errors import StrictDataclassFieldValidationError
from transformers import AutoConfig

from polysense.errors import ConfigError
from polysense.modality import get_modality
from polysense.models.encoders import BEATS_PROCESSOR, BeatsConfig
from polysense.processing import processor_for
from polysense.processing.fbank import MEL_FLOOR, log_mel

PUBLISHED: dict[str, Any] = {
    "input_patch_size": 16, "embed_dim": 512, "conv_bias": False, "encoder_layers": 12, "encoder_embed_dim": 768,
    "encoder_ffn_embed_dim": 3072, "encoder_attention_heads": 12, "activation_fn": "gelu", "deep_norm": True,
    "layer_norm_first": False, "conv_pos": 128, "conv_pos_groups": 16, "relative_position_embedding": True,
    "num_buckets": 320, "max_distance": 800, "gru_rel_pos": True, "dropout": 0.1, "finetuned_model": False,
}  # fmt: skip


def test_the_published_config_is_the_default() -> None:
    assert BeatsConfig.from_published(PUBLISHED).to_dict() == BeatsConfig().to_dict()
    assert BeatsConfig.from_published({**PUBLISHED, "encoder_layers": 2}).num_hidden_layers == 2


@pytest.mark.parametrize("change", [{"deep_norm": False}, {"activation_fn": "glu"}, {"gru_rel_pos": False}], ids=str)
def test_another_variant_is_refused(change: dict[str, Any]) -> None:
    with pytest.raises(ConfigError, match=f"cfg: this checkpoint is another variant .*{next(iter(change))}"):
        BeatsConfig.from_published({**PUBLISHED, **change})


def test_its_sense_has_the_options_that_it_was_trained_with() -> None:
    assert processor_for(BeatsConfig().senses["audio"], 224) == processor_for(
        get_modality("audio"), 224, **BEATS_PROCESSOR
    )


def test_ten_seconds_are_496_tokens(tmp_path: Path) -> None:
    config = BeatsConfig()
    assert config.token_grid == (62, 8) and 62 * 8 == 496
    config.save_pretrained(tmp_path)
    assert isinstance(AutoConfig.from_pretrained(tmp_path), BeatsConfig)


def test_the_processors_options_normalise_as_beats_does() -> None:
    """Filter banks of the wave times 2^15, minus 15.41663, over twice 6.55582, wherever there is energy at all."""
    wave = np.random.default_rng(0).standard_normal(16_000).astype(np.float32) / 9
    processor = processor_for(get_modality("audio"), 224, **{**BEATS_PROCESSOR, "seconds": 1.0})
    found = processor([{"array": wave, "sampling_rate": 16_000}])["audio_values"][0, 0, 0].numpy()
    centred = (wave - wave.mean())[None]
    expected = (log_mel(centred * 2**15, 16_000, 128)[0] - 15.41663) / (2 * 6.55582)
    heard = log_mel(centred, 16_000, 128)[0] > np.log(2 * MEL_FLOOR)
    assert found.shape == (128, 98) and heard.mean() > 0.98
    np.testing.assert_allclose(found[heard], expected[heard], atol=1e-4)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"hidden_size": 10**9}, "hidden_size is 1000000000"),
        ({"num_hidden_layers": 0}, "num_hidden_layers is 0"),
        ({"hidden_size": 100}, "hidden_size is no multiple"),
        ({"num_buckets": 3}, "num_buckets 3 and max_distance 800 do not fit"),
        ({"max_distance": 80}, "max_distance 80 do not fit"),
        ({"patch_size": 200}, "patch_size 200 exceeds the picture"),
    ],
)
def test_values_that_no_encoder_can_have_are_refused(changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        BeatsConfig(**changes)


def test_mistyped_fields_are_refused() -> None:
    with pytest.raises(StrictDataclassFieldValidationError):
        BeatsConfig(hidden_size="768")
