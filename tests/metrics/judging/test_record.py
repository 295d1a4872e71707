from __future__ import annotations

import errno
import json
import os
from pathlib import Path
from typing import Any

import pytest

from polysense.errors import ConfigError
from polysense.metrics.judging import Answer, Verdict
from polysense.metrics.judging.record import VerdictRecord, old_verdict_key, verdict_key

A, B, C = Verdict(True, 4.8), Verdict(False, 0.0), Verdict(True)


def filled(path: Path) -> bytes:
    with VerdictRecord(path) as record:
        for key, verdict in (("a", A), ("b", B), ("c", C)):
            record.put(key, verdict)
    return path.read_bytes()


def test_verdicts_survive_in_one_line_each(tmp_path: Path) -> None:
    lines = filled(tmp_path / "folder" / "verdicts.jsonl").splitlines()
    assert [json.loads(line) for line in lines] == [
        {"key": "a", "pred": "yes", "score": 4.8},
        {"key": "b", "pred": "no", "score": 0.0},
        {"key": "c", "pred": "yes", "score": None},
    ]
    again = VerdictRecord(tmp_path / "folder" / "verdicts.jsonl")
    assert [again.get(key) for key in "abcd"] == [A, B, C, None]


def test_without_a_file_verdicts_last_as_long_as_the_record() -> None:
    record = VerdictRecord()
    record.put("a", A)
    assert record.get("a") == A and len(record) == 1


def test_a_line_cut_off_anywhere_is_skipped_and_swallows_nothing(tmp_path: Path) -> None:
    whole = filled(tmp_path / "whole")
    begin = whole.rindex(b"\n", 0, -1) + 1
    for end in range(begin, len(whole)):
        path = tmp_path / "torn"
        path.write_bytes(whole[:end])
        with VerdictRecord(path) as record:
            assert [record.get(key) for key in "ab"] == [A, B]
            assert record.get("c") == (C if end == len(whole) - 1 else None)
            record.put("d", A)
        again = VerdictRecord(path)
        assert [again.get(key) for key in "abd"] == [A, B, A]


def test_a_verdict_is_in_the_file_when_put_returns(tmp_path: Path) -> None:
    record = VerdictRecord(tmp_path / "v")
    record.put("a", A)
    assert VerdictRecord(tmp_path / "v").get("a") == A  # the first is still open, as in a killed process
    record.close()


def test_two_processes_may_share_a_file(tmp_path: Path) -> None:
    with VerdictRecord(tmp_path / "v") as one, VerdictRecord(tmp_path / "v") as two:
        one.put("a", A)
        two.put("b", B)
        one.put("c", C)
    assert len(VerdictRecord(tmp_path / "v")) == 3


@pytest.mark.parametrize(
    "content", [b"\x89PNG\r\n", b"{}\n", b'{"id": "x"}\n', b"[1]\n", b'[{"key": "a"', b"null\n", b"\xff\xfe\n"]
)
def test_another_file_is_refused_and_left_alone(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "v").write_bytes(content)
    with pytest.raises(ConfigError, match="line 1 is not a recorded verdict"):
        VerdictRecord(tmp_path / "v")
    assert (tmp_path / "v").read_bytes() == content


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        VerdictRecord(tmp_path)


def test_a_full_disk_is_said_and_what_was_recorded_stays(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    filled(tmp_path / "v")
    write = os.write

    def half(file: int, data: bytes) -> int:
        return write(file, data[: len(data) // 2])

    with VerdictRecord(tmp_path / "v") as record:
        monkeypatch.setattr(os, "write", half)
        with pytest.raises(ConfigError, match=os.strerror(errno.ENOSPC)):
            record.put("d", A)
        monkeypatch.undo()
        assert record.get("d") is None
    with VerdictRecord(tmp_path / "v") as record:
        assert [record.get(key) for key in "abcd"] == [A, B, C, None]


def test_the_key_holds_all_that_a_verdict_depends_on() -> None:
    answer = Answer("q", "r", "p")
    others = [
        Answer("q2", "r", "p"),
        Answer("q", "r2", "p"),
        Answer("q", "r", "p2"),
        Answer("r", "q", "p"),
        Answer("qr", "", "p"),
    ]
    settings = {"model": "m", "base_url": "", "request": {"temperature": 0, "max_tokens": 64}, "controls": "all"}
    changes: list[dict[str, Any]] = [
        {"model": "m2"},
        {"base_url": "http://a/v1"},
        {"controls": "none"},
        {"request": {"temperature": 1}},
    ]
    keys = {verdict_key(settings, each) for each in (answer, *others)}
    keys |= {verdict_key({**settings, **each}, answer) for each in changes} | {old_verdict_key("m", answer)}
    assert len(keys) == 11 and all(len(key) == 64 for key in keys)
    turned = {**settings, "request": {"max_tokens": 64, "temperature": 0}}
    assert verdict_key(turned, answer) == verdict_key(settings, answer)


def test_the_key_changes_with_the_prompt(monkeypatch: pytest.MonkeyPatch) -> None:
    before = verdict_key({"model": "m"}, Answer("q", "r", "p"))
    monkeypatch.setattr("polysense.metrics.judging.record.PROMPT_VERSION", "another")
    assert verdict_key({"model": "m"}, Answer("q", "r", "p")) != before
