"""Commands are added in one way, so that all explain themselves alike."""

from __future__ import annotations

import argparse

import pytest

from polysense.cli.arguments import add_command, add_imports


@pytest.fixture
def parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="tool")
    command = add_command(
        parser.add_subparsers(), "count", "count things", run=lambda arguments: len(arguments.imports),
        about="""
            Counts what is there,
            line by line.""",
        examples="""
            tool count
            tool count --imports mine""",
    )  # fmt: skip
    add_imports(command)
    return parser


def test_descriptions_and_examples_keep_their_lines_and_lose_their_indent(
    parser: argparse.ArgumentParser, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["count", "--help"])
    out = capsys.readouterr().out
    assert "\nCounts what is there,\nline by line.\n" in out
    assert out.endswith("\nexamples:\n  tool count\n  tool count --imports mine\n")


def test_imports_add_up_and_are_forgotten_by_the_next_command_line(parser: argparse.ArgumentParser) -> None:
    arguments = parser.parse_args(["count", "--imports", "mine", "--imports", "yours"])
    assert arguments.imports == ["mine", "yours"] and arguments.run(arguments) == 2
    assert parser.parse_args(["count"]).imports == []


def test_options_are_not_abbreviated(parser: argparse.ArgumentParser) -> None:
    with pytest.raises(SystemExit):
        parser.parse_args(["count", "--imp", "mine"])
