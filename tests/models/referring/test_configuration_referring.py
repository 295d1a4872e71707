from __future__ import annotations

from pathlib import Path

import pytest
from transformers import AutoConfig, CLIPConfig

from polysense.errors import ConfigError, PolysenseError
from polysense.models.referring import ReferringSegmenterConfig
from tests.models.referring.tiny import tiny_clipseg


def test_a_config_is_found_and_read_back(tmp_path: Path) -> None:
    config = ReferringSegmenterConfig(clipseg_config=tiny_clipseg().to_dict(), code_dim=7, train_vision=False)
    config.save_pretrained(tmp_path)
    again = AutoConfig.from_pretrained(tmp_path)
    assert type(again) is ReferringSegmenterConfig
    assert again.clipseg.to_dict() == config.clipseg.to_dict() and (again.code_dim, again.train_vision) == (7, False)


@pytest.mark.parametrize("code_dim", [0, 1 << 20])
def test_widths_that_no_codebook_has_are_refused(code_dim: int) -> None:
    with pytest.raises(PolysenseError, match="code_dim"):
        ReferringSegmenterConfig(clipseg_config=tiny_clipseg(), code_dim=code_dim)


def test_layers_have_to_exist_and_the_model_to_be_a_clipseg() -> None:
    with pytest.raises(ConfigError, match="extract_layers"):
        ReferringSegmenterConfig(clipseg_config={**tiny_clipseg().to_dict(), "extract_layers": [2]})
    with pytest.raises(ConfigError, match="no CLIPSeg"):
        ReferringSegmenterConfig(clipseg_config=CLIPConfig())
