"""A folder that is no MERA checkpoint is told before its weights are read."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.errors import CheckpointError
from polysense.models.mera.checkpoint import check_mera
from polysense.testing import tiny_llama
from tests.models.mera.saved import write_mera


def test_the_senses_of_a_checkpoint_are_told_from_its_config(tmp_path: Path) -> None:
    write_mera(tmp_path, "depth")
    (tmp_path / "model.safetensors").unlink()
    assert set(check_mera(tmp_path)) == {"image", "depth"}


def test_other_models_and_those_without_a_processor_are_refused(tmp_path: Path) -> None:
    tiny_llama().save_pretrained(tmp_path)
    with pytest.raises(CheckpointError, match="of type 'llama', not of MERA"):
        check_mera(tmp_path)
    write_mera(tmp_path)
    (tmp_path / "processor_config.json").unlink()
    with pytest.raises(CheckpointError, match="the model has no processor"):
        check_mera(tmp_path)
