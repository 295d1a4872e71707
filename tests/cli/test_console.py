"""Results go to standard output as they stand, all else to standard error, and one process alone speaks."""

from __future__ import annotations

import errno
import io

import pytest

from polysense.cli.console import console
from polysense.errors import ConfigError

_MARKUP = "[bold]7[/bold] C:dog:x "  # rich would print a bold 7 and a picture of a dog


@pytest.fixture(autouse=True)
def no_terminal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)


def test_a_result_is_printed_as_it_stands_in_one_line(capsys: pytest.CaptureFixture[str]) -> None:
    console.say(_MARKUP * 20)
    assert capsys.readouterr() == (_MARKUP * 20 + "\n", "")


def test_notes_and_errors_do_not_mix_with_results(capsys: pytest.CaptureFixture[str]) -> None:
    console.note("by the way [1]")
    console.error("broken: a:key:b")
    assert capsys.readouterr() == ("", "by the way [1]\nbroken: a:key:b\n")


def test_a_note_that_no_terminal_takes_any_more_is_no_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Closed(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr("sys.stderr", Closed())
    console.note("stopped and saved")


@pytest.mark.parametrize("terminal", [True, False])
def test_lines_are_read_until_there_are_none_and_only_a_person_is_prompted(
    terminal: bool, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    given = io.StringIO("one\n\n two [b]")
    monkeypatch.setattr(given, "isatty", lambda: terminal, raising=False)
    monkeypatch.setattr("sys.stdin", given)
    assert list(console.lines("[> ")) == ["one", "", "two [b]"]
    assert capsys.readouterr() == ("", "[> " * 4 * terminal)


def test_input_that_is_no_text_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdin", io.TextIOWrapper(io.BytesIO(b"what is it ?\n\xff\xfe\n"), encoding="utf-8"))
    with pytest.raises(ConfigError, match="standard input: the input is no utf-8 text"):
        list(console.lines("> "))


def test_only_the_first_of_several_processes_speaks(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("RANK", "1")
    console.say("result")
    console.table("scores", ["sense"], [["depth"]])
    console.note("aside")
    console.error("broken")
    assert capsys.readouterr() == ("", "broken\n")


def test_no_part_of_a_table_is_taken_for_markup_or_wrapped(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("on [red]a[/red]", ["[b]sense[/b]", "value"], [["x" * 100, r"\[61.0]"], [":dog:", "[58.0, 64.0]"]])
    lines = [line.strip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    assert lines[0] == "on [red]a[/red]"
    assert lines[1].split() == ["[b]sense[/b]", "value"]
    assert [line.split() for line in lines[3:]] == [["x" * 100, r"\[61.0]"], [":dog:", "[58.0,", "64.0]"]]


def test_figures_are_aligned_to_the_right_of_the_text(capsys: pytest.CaptureFixture[str]) -> None:
    console.table("", ["sense", "dataset", "value"], [["depth", "a", "1"], ["image", "b", "100"]], left=2)
    lines = [line.rstrip() for line in capsys.readouterr().out.splitlines() if line.strip()]
    first, second = lines[-2:]
    assert len(first) == len(second) and first[-3:] == "  1" and first.index(" a ") == second.index(" b ")


def test_a_full_disk_under_the_results_is_one_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    class Full(io.StringIO):
        def write(self, text: str) -> int:
            raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("sys.stdout", Full())
    with pytest.raises(ConfigError, match=r"standard output: it cannot be written \(No space left on device\)"):
        console.say("result")
    with pytest.raises(ConfigError, match="standard output"):
        console.table("scores", ["sense"], [["depth"]])
