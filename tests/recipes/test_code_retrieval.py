from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.recipes.code_retrieval import RetrievalSettings, retrieval_results
from polysense.recipes.config import build
from polysense.recipes.evaluation import Result
from tests.recipes.code_samples import LabelEncoder, clips, write_clips


def run(folder: Path, *senses: str, **options: Any) -> dict[tuple[str, str], Result]:
    data = write_clips(folder, "clips", list(clips(40)))
    settings = build(RetrievalSettings, {"data": data, "senses": list(senses), "ks": [1, 5], **options}, "retrieval")
    results = retrieval_results("clips", settings, LabelEncoder(), folder)
    return {(each.task, each.metric): each for each in results}


def test_unique_meanings_are_found_by_their_codes(tmp_path: Path) -> None:
    """Four places and three events are eleven or twelve different clips, told apart but for those of equal length."""
    found = run(tmp_path, "video", "audio", pool=40)
    assert {task for task, _ in found} == {"retrieval video to audio", "retrieval audio to video"}
    first = found["retrieval video to audio", "R@5"]
    assert first.value == 1 and 6 <= first.count <= 12
    assert first.chance == pytest.approx(5 / first.count)


def test_ties_have_their_mean_rank(tmp_path: Path) -> None:
    """Forty clips of few kinds: the first rank is rarely a clip's own, but for the kinds that occur once."""
    assert run(tmp_path, "video", "audio")["retrieval video to audio", "R@1"].count == 40


def test_every_caption_finds_its_sample_and_a_sample_its_best_caption(tmp_path: Path) -> None:
    found = run(tmp_path, "video", "text", pool=40)
    there, back = found["retrieval video to text", "R@5"], found["retrieval text to video", "R@1"]
    assert back.count == 2 * there.count
    pairs = 2 * there.count
    missing = 1.0
    for draw in range(5):
        missing *= (pairs - 2 - draw) / (pairs - draw)
    assert there.chance == pytest.approx(1 - missing) and there.value == 1
    assert back.value <= 0.5 + 0.5 / there.count  # "something" means nothing
    assert run(tmp_path, "text", "video", pool=40, captions=1)["retrieval text to video", "R@5"].value == 1


def test_a_pool_has_at_most_so_many(tmp_path: Path) -> None:
    assert run(tmp_path, "video", "audio", pool=5)["retrieval video to audio", "R@1"].count == 5


def test_pairs_that_are_not_there_or_no_pairs_are_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="no sample has depth"):
        run(tmp_path, "depth", "text")
    for senses in (["video"], ["video", "video"], ["video", "audio", "text"]):
        with pytest.raises(ConfigError, match="between two senses"):
            run(tmp_path, *senses)
