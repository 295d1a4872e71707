"""The report is one page that needs nothing else."""

from __future__ import annotations

import base64
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest

from polysense.errors import ConfigError
from polysense.report import write_report
from tests.report.runs import KEYS, write_mera_run, write_run

_PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)


class _Tags(HTMLParser):
    """Open tags, in the order in which they must be closed."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.addresses: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.addresses += [value or "" for name, value in attrs if name in {"src", "href"}]
        if tag not in {"meta", "img"}:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def test_the_page_is_whole_and_loads_nothing_from_elsewhere(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path), {"Cross-modal retrieval": _PNG}).read_text()
    tags = _Tags()
    tags.feed(page)
    assert tags.open == [] and len(tags.addresses) == 3
    assert all(address.startswith("data:image/png;base64,") for address in tags.addresses)
    assert not re.search(r"https?://|<script|@import|url\(", page)


def test_the_page_tells_senses_stages_results_and_how_to_use_it(tmp_path: Path) -> None:
    page = write_report(write_run(tmp_path)).read_text()
    assert "<h1>UniAlign with image, text and depth</h1>" in page
    assert "<b>60.0</b> <small>[50.0, 70.0]</small>" in page
    assert "model.embed(&#34;depth&#34;" in page and "stages/stage-2-depth" in page
    assert "All 4 measurements" in page and "polysense train unialign" in page and "Trained on a synthetic" in page


def test_a_run_in_this_very_folder_has_its_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(write_run(tmp_path / "mine"))
    assert "What came of mine, grown from" in write_report(".").read_text()


def test_the_folder_holds_table_and_figures(tmp_path: Path) -> None:
    folder = write_report(write_run(tmp_path), {"Cross-modal retrieval": _PNG}).parent
    assert {path.name for path in folder.iterdir()} == {
        "report.html", "table.md", "table.json", "scores.png", "curves.png", "cross-modal-retrieval.png",
    }  # fmt: skip


def test_a_report_written_again_keeps_its_gallery(tmp_path: Path) -> None:
    write_report(write_run(tmp_path), {"Cross-modal retrieval": _PNG})
    assert 'alt="Cross modal retrieval"' in write_report(tmp_path).read_text()


def test_a_report_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (write_run(tmp_path) / "report").write_text("a file")
    with pytest.raises(ConfigError, match=r"report: it cannot be written \(File exists\)"):
        write_report(tmp_path)


def test_a_run_without_metrics_or_log_still_has_a_report(tmp_path: Path) -> None:
    write_run(tmp_path)
    for path in [*tmp_path.glob("*/*/metrics.json"), *tmp_path.glob("*/*/log.jsonl")]:
        path.unlink()
    assert "No stage was evaluated." in write_report(tmp_path).read_text()


def test_the_page_of_mera_compares_methods_and_says_how_to_ask(tmp_path: Path) -> None:
    page = write_report(write_mera_run(tmp_path), {"What it answers": _PNG}).read_text()
    assert "<h1>MERA with image, audio, point cloud and text</h1>" in page
    assert "<td>2 audio</td><td>fine-tuning</td><td>20.0</td>" in page and "<h3>backward relative gain, %</h3>" in page
    assert "All measurements with intervals: MERA 10 %" in page and "Alone: a model that learned" in page
    assert f"stage-3-point_cloud-{KEYS['MERA']}" in page and "apply_chat_template" in page
    assert page.count("data:image/png") == 3 and 'alt="What it answers"' in page
    table = (tmp_path / "report" / "table.md").read_text()
    assert "| 3 point cloud | MERA 10 % | 40.0 | 30.0 | 120.0 |" in table and "| --- | --- | ---: |" in table
