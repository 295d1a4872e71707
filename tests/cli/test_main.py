"""The surface of the command line is pinned, its help teaches, its exit codes are the documented ones."""

from __future__ import annotations

import argparse
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from polysense.cli.main import build_parser
from polysense.errors import ConfigError

SURFACE = {
    "": ["--help", "--verbose", "--version", "-h", "-v"],
    "chat": ["--as", "--ask", "--fact", "--help", "--imports", "--max-new-tokens", "--revision", "-h", "checkpoint",
             "files"],
    "card": ["--help", "--output", "-h", "-o", "folder"],
    "demo": ["--config", "--help", "--system", "-h", "output"],
    "embed": ["--compare", "--fact", "--help", "--imports", "--model", "--output", "--revision", "--text", "-h",
              "files"],
    "codes": ["--fact", "--help", "--imports", "--model", "--output", "--revision", "--text", "-h", "files"],
    "evaluate": ["--composed", "--data-root", "--help", "--imports", "--judge", "--judge-url", "--limit", "--manifest",
                 "--output", "--protocols", "--revision", "--tokenizer", "-h", "checkpoint"],
    "export": ["--help", "--onto", "--output", "-h", "-o", "stage"],
    "extend": ["--config", "--help", "--imports", "--output", "--revision", "-h", "-o", "overrides", "start"],
    "merge": ["--base", "--help", "--imports", "--method", "--options", "--output", "--shared", "--stage", "-h", "-o",
              "models"],
    "push": ["--help", "--private", "--tag", "-h", "folder", "repo"],
    "train": ["--config", "--help", "--imports", "--output", "--revision", "--start", "-h", "overrides", "system"],
    "world": ["--help", "-h"],
    "world build": ["--difficulty", "--help", "--seed", "--size", "-h", "directory"],
    "world gallery": ["--help", "-h", "directory", "picture"],
    "world verify": ["--help", "-h", "directory"],
}  # fmt: skip


def commands(parser: argparse.ArgumentParser, name: str = "") -> Iterator[tuple[str, argparse.ArgumentParser]]:
    yield name, parser
    for action in parser._actions:
        if isinstance(action, argparse._SubParsersAction):
            for word, child in action.choices.items():
                yield from commands(child, f"{name} {word}".strip())


def examples() -> list[str]:
    epilogs = [parser.epilog or "" for name, parser in commands(build_parser()) if name]
    return [line.strip() for text in epilogs for line in text.splitlines()[1:]]


def test_no_command_or_option_appears_by_accident() -> None:
    found = {}
    for name, parser in commands(build_parser()):
        actions = [action for action in parser._actions if not isinstance(action, argparse._SubParsersAction)]
        found[name] = sorted(word for action in actions for word in (action.option_strings or [action.dest]))
    assert found == SURFACE


def test_every_command_explains_itself_and_shows_examples() -> None:
    for name, parser in commands(build_parser()):
        assert parser.description and len(parser.description) > 40, name
        if name not in {"", "world"}:
            assert (parser.epilog or "").startswith("examples:\n  polysense "), name
        for action in parser._actions:
            assert action.help or isinstance(action, argparse._SubParsersAction), (name, action.dest)


@pytest.mark.parametrize("line", examples())
def test_every_example_of_the_help_is_a_valid_command(line: str) -> None:
    words = shlex.split(re.sub(r"^(\w+=\S+ )+", "", line))
    assert words[0] == "polysense"
    arguments, rest = build_parser().parse_known_args(words[1:])
    assert not rest or (hasattr(arguments, "trailing") and not any(each.startswith("-") for each in rest))


def test_the_help_names_the_exit_codes(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(["--help"])
    assert ended.value.code == 0
    assert re.findall(r"^  (\d+) ", capsys.readouterr().out, re.M) == ["0", "1", "2", "129", "130", "143"]


@pytest.mark.parametrize(
    "words",
    [[], ["fly"], ["embed", "--fast"], ["train", "unialign"], ["world", "build"], ["push", "a", "b", "c"],
     ["merge", "a", "b"], ["extend", "a", "--config", "world"], ["chat"], ["export", "a"],
     ["embed", "a.png", "--output", "vectors.txt"]],
)  # fmt: skip
def test_a_wrong_command_line_ends_with_2(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as ended:
        main(words)
    assert ended.value.code == 2 and "usage: polysense" in capsys.readouterr().err


def test_an_error_of_the_library_ends_with_1_and_its_message_without_a_traceback(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    assert main(["card", str(tmp_path / "nowhere")]) == 1
    captured = capsys.readouterr()
    assert captured.err.startswith("polysense: ") and "nowhere: there is no such folder" in captured.err
    assert "Traceback" not in captured.err and captured.out == ""


def _raise(error: BaseException) -> Any:
    def run(*arguments: Any, **options: Any) -> Any:
        raise error

    return run


def test_an_interruption_ends_with_130(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr("polysense.recipes.demo.run", _raise(KeyboardInterrupt()))
    assert main(["demo"]) == 130 and "interrupted" in capsys.readouterr().err


@pytest.mark.parametrize("code", [130, 143])
def test_a_run_that_was_stopped_and_saved_keeps_its_code(
    code: int, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("polysense.recipes.unialign.run", _raise(SystemExit(code)))
    with pytest.raises(SystemExit) as ended:
        main(["train", "unialign", "--config", "world", "--output", "x"])
    assert ended.value.code == code and "the same command goes on" in capsys.readouterr().err


def test_an_error_of_a_recipe_ends_with_1(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    monkeypatch.setattr(
        "polysense.recipes.unialign.run", _raise(ConfigError("the key is unknown [x]", fix="Mend it."))
    )
    assert main(["train", "unialign", "--config", "world", "--output", "x"]) == 1
    assert capsys.readouterr().err == "polysense: the key is unknown [x]. Mend it.\n"


def test_it_runs_as_a_module() -> None:
    environment = {"PYTHONPATH": str(Path(__file__).parents[2] / "src"), "PATH": ""}
    words = [sys.executable, "-m", "polysense.cli", "--version"]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, env=environment)
    assert done.returncode == 0 and re.fullmatch(r"polysense \d+\.\d+\.\d+\n", done.stdout), done.stderr


def test_imports_are_found_in_the_working_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", list(sys.path))
    (tmp_path / "broken_senses_for_test.py").write_text("raise RuntimeError('not today')\n")
    assert main(["embed", "x.png", "--model", "m", "--imports", "broken_senses_for_test"]) == 1
    assert "imports: broken_senses_for_test: the module cannot be imported (RuntimeError: not today)" in (
        capsys.readouterr().err
    )
