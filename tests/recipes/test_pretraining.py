"""What anchors share: every character is known, special tokens come first, and folders are written whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from polysense.recipes.pretraining import byte_pairs, saving
from polysense.trainer import LoopState


def test_special_tokens_come_first_and_every_character_is_known() -> None:
    tokenizer = byte_pairs(["a red cup"] * 3, special=["<p>", "<u>"], unknown="<u>", vocabulary=120)
    assert [tokenizer.id_to_token(i) for i in range(2)] == ["<p>", "<u>"]
    ids = tokenizer.encode("Zebra, 7!").ids
    assert 1 not in ids and tokenizer.decode(ids) == "zebra , 7 !"
    assert tokenizer.encode("ß").ids == [1]


class Part:
    def __init__(self, name: str, error: Exception | None = None) -> None:
        self.name, self.error = name, error

    def save_pretrained(self, folder: Path) -> None:
        if self.error is not None:
            raise self.error
        (folder / self.name).write_text(self.name)


def test_all_parts_are_saved_or_none(tmp_path: Path) -> None:
    state = object.__new__(LoopState)  # nothing of it is asked for
    good = saving(tmp_path / "good", Part("model"), Part("tokenizer"))
    assert good.on_stage_end is not None
    good.on_stage_end(state)
    assert {"model", "tokenizer"} <= {path.name for path in (tmp_path / "good").iterdir()}

    bad = saving(tmp_path / "bad", Part("model"), Part("tokenizer", KeyError("full")))
    assert bad.on_stage_end is not None
    with pytest.raises(KeyError, match="full"):
        bad.on_stage_end(state)
    assert not (tmp_path / "bad").exists()
