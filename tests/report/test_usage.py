"""What a run has led to is used by three lines of Python, or one of the shell."""

from __future__ import annotations

import ast
import json
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


def test_odd_names_and_questions_stay_python(tmp_path: Path) -> None:
    folder = write_mera_run(tmp_path / 'ann\'s "run"') / "stages" / f"stage-3-point_cloud-{KEYS['MERA']}"
    record = json.loads((folder / "stage.json").read_text())
    record["hyperparameters"]["conversations"] = {"pools": {"point_cloud": ['what is a "point" ?']}}
    (folder / "stage.json").write_text(json.dumps(record))
    code = snippet(read_run(tmp_path / 'ann\'s "run"'))
    texts = {each.value for each in ast.walk(ast.parse(code)) if isinstance(each, ast.Constant)}
    assert {folder.as_posix(), '\nwhat is a "point" ?'} <= texts


def test_a_stage_whose_folder_was_renamed_is_named_as_it_is_now(tmp_path: Path) -> None:
    run = write_run(tmp_path)
    (run / "stages" / "stage-2-depth").rename(run / "stages" / "best")
    assert f'from_pretrained("{run}/stages/best")' in snippet(read_run(run))


def test_the_command_quotes_what_the_shell_would_change(tmp_path: Path) -> None:
    words = shlex.split(chat_line(read_run(write_mera_run(tmp_path)), "my sound.flac", "what's it ?"))
    assert words[:2] == ["polysense", "chat"] and words[3:] == ["my sound.flac", "--ask", "what's it ?"]
