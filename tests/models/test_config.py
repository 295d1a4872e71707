"""Configs out of files: values of a wrong type are errors of ours, whoever reads them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from transformers import AutoConfig

from polysense import CometConfig, MeraConfig, UniAlignConfig
from polysense.errors import ConfigError
from polysense.models.config import PolysenseConfig


@pytest.mark.parametrize("kind", [MeraConfig, CometConfig, UniAlignConfig])
@pytest.mark.parametrize(
    "changes",
    [{"modalities": None}, {"modalities": 3}, {"dtype": "float8"}, {"dtype": []}, {"num_labels": "x"}],
    ids=str,
)
def test_a_file_of_wrong_types_is_an_error_of_ours(
    kind: type[PolysenseConfig], changes: dict[str, Any], tmp_path: Path
) -> None:
    kind().save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))
    for reader, where in ((AutoConfig, f"{tmp_path}: "), (kind, "")):
        with pytest.raises(
            ConfigError, match=f"^{where}the values are not those of a config of type '{kind.model_type}'"
        ):
            reader.from_pretrained(tmp_path)
