from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest
import torch

from eval.performance import padding
from polysense.testing.toy import toy_mixture


def test_the_share_of_padding_by_hand() -> None:
    # 2 + 4 of 2 x 4 positions, and 3 of 3: 9 of 11
    assert padding.padded([torch.tensor([2, 4]), torch.tensor([3])]) == pytest.approx(2 / 11)


def test_shuffling_keeps_every_length_and_follows_the_seed() -> None:
    found = [torch.tensor([2, 4]), torch.tensor([3, 5, 9])]
    once, twice = (padding.shuffled(found, 2, 1) for _ in range(2))
    assert [len(each) for each in once] == [2, 2, 1] and sorted(torch.cat(once).tolist()) == [2, 3, 4, 5, 9]
    assert all(torch.equal(a, b) for a, b in zip(once, twice, strict=True))


def test_the_benchmark_counts_the_padding_of_the_recipes_batches(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {"STILLS": 40, "CLIPS": 6, "CORPUS": 200}.items():
        monkeypatch.setattr(padding, name, value)
    monkeypatch.setattr(sys, "argv", ["padding", "--threads", "1", "--out", str(tmp_path)])
    padding.main()
    report = json.loads((tmp_path / "padding.json").read_text())
    for phase in ("joint", "realign"):
        shares = report["figures"][f"{phase}: share of padding"]
        assert 0 <= shares[padding.GROUPED] <= shares[padding.AS_THEY_COME] <= shares[padding.SHUFFLED] + 0.1
        assert report["figures"][f"{phase}: tokens of a sample"]["fewest"] > 16


def test_another_set_of_samples_stops_the_benchmark(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = toy_mixture(), toy_mixture(seed=1)
    monkeypatch.setattr(other, "build", lambda step: toy_mixture(seed=1).build(0))
    with pytest.raises(SystemExit, match="grouping changes which samples"):
        padding.check_equality(one, other)
