"""Whatever stands in the way of a checkpoint is one error of ours."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.cli.loading import fetched, loading
from polysense.errors import CheckpointError, ConfigError
from tests.cli.stand_ins import stand_in


def test_foreign_errors_are_named_in_one_line_and_ours_pass() -> None:
    with (
        pytest.raises(CheckpointError, match=r"me/x: the model cannot be loaded \(OSError: no such repository"),
        loading("me/x"),
    ):
        raise OSError("no such\nrepository")
    with pytest.raises(ConfigError, match="as it was"), loading("me/x"):
        raise ConfigError("as it was")


def test_a_checkpoint_is_fetched_at_its_revision(monkeypatch: pytest.MonkeyPatch) -> None:
    local = stand_in(monkeypatch, "polysense.models.base.local_folder", Path("here"))
    assert fetched("me/x", "stage-2") == Path("here")
    local.assert_called_once_with("me/x", {"revision": "stage-2"})


def test_a_folder_has_no_revisions(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^revision: .* is a folder here, which has no revisions"):
        fetched(tmp_path, "stage-2")
