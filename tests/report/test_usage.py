"""What a run has led to is used by three lines of Python, or one of the shell."""

from __future__ import annotations

import ast
import shlex
from pathlib import Path

from polysense.report import chat_line, read_run, snippet, usage
from tests.report.runs import KEYS, write_mera_run, write_run


def test_a_checkpoint_of_unialign_embeds(tmp_path: Path) -> None:
    run = read_run(write_run(tmp_path))
    assert 'model.embed("depth", processor(depth=["your-file"]))' in snippet(run) and "embed a file" in usage(run)


def test_a_checkpoint_of_mera_is_asked_what_it_was_tested_with(tmp_path: Path) -> None:
    run = read_run(write_mera_run(tmp_path))
    code, place = snippet(run), (tmp_path / "stages" / f"stage-3-point_cloud-{KEYS['MERA']}").as_posix()
    ast.parse(code)
    assert len(code.splitlines()) == 4, "the import and three lines"
    assert f'from_pretrained("{place}")' in code
    assert '{"type": "point_cloud", "path": "your-file"}, "\\ndescribe it"' in code
    assert "ask about a file" in usage(run)


def test_the_command_quotes_what_the_shell_would_change(tmp_path: Path) -> None:
    words = shlex.split(chat_line(read_run(write_mera_run(tmp_path)), "my sound.flac", "what's it ?"))
    assert words[:2] == ["polysense", "chat"] and words[3:] == ["my sound.flac", "--ask", "what's it ?"]
