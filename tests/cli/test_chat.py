"""`polysense chat` answers about files, once or line by line; answers alone are on standard output."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import pytest

from polysense.cli import main
from polysense.cli.chat import load_dialogue
from polysense.models.mera import MeraProcessor
from polysense.testing import tiny_llama
from tests.cli.stand_ins import stand_in, write_media
from tests.models.mera.saved import as_snapshot, write_mera


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> str:
    return str(write_mera(tmp_path_factory.mktemp("mera"), "depth"))


@pytest.fixture(scope="module")
def media(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_media(tmp_path_factory.mktemp("media"))


def answers(model: str, shown: list[tuple[str, Path]], questions: list[str]) -> list[str]:
    """What the library answers."""
    dialogue = load_dialogue(model, None, 4)
    for sense, path in shown:
        dialogue.show(sense, path)
    return [dialogue.ask(question) for question in questions]


def test_every_question_is_answered_in_one_line_and_knows_the_one_before(
    model: str, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    questions = ["what is this ?", "a red ball ?"]
    words = ["chat", model, str(media / "photo.png"), "--ask", questions[0], "--max-new-tokens", "4",
             str(media / "deep.png"), "--ask", questions[1]]  # fmt: skip
    assert main(words) == 0
    shown = [("image", media / "photo.png"), ("depth", media / "deep.png")]
    captured = capsys.readouterr()
    assert captured.out.splitlines() == answers(model, shown, questions)
    assert "polysense:" not in captured.err


@pytest.mark.parametrize("words", [["{}:depth"], ["{}", "--as", "depth"], ["{}:image", "--as", "depth"]])
def test_a_sense_may_be_named_for_one_file_or_for_all(
    words: list[str], model: str, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = media / "deep.png"
    given = [each.format(path) for each in words]
    assert main(["chat", model, *given, "--ask", "what is this ?", "--max-new-tokens", "4"]) == 0
    assert capsys.readouterr().out.splitlines() == answers(model, [("depth", path)], ["what is this ?"])


def test_facts_say_what_a_file_does_not_and_what_is_assumed_is_told(
    model: str, media: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []
    features = MeraProcessor.features

    def noted(*args: Any, **options: Any) -> Any:
        seen.append(options["facts"])
        return features(*args, **options)

    monkeypatch.setattr(MeraProcessor, "features", noted)
    words = ["chat", model, f"{media}/deep.png", "--ask", "what is this ?", "--max-new-tokens", "4"]
    assert main(words) == 0
    assert "deep.png: depth.focal=518.857901, depth.baseline=0.075 are assumed" in capsys.readouterr().err
    camera = {"focal": 78, "baseline": 0.1}
    told = ["--fact", "depth.focal=78", "--fact", "depth.baseline=0.1"]
    assert main([*words, *told]) == 0 and "assumed" not in capsys.readouterr().err
    monkeypatch.setattr("sys.stdin", io.StringIO(f"/file {media}/deep.png\nwhat is this ?"))
    assert main(["chat", model, *told, "--max-new-tokens", "4"]) == 0
    assert seen == [[{}]] * 2 + [[camera]] * 4, "of every file, when it is shown and when it is asked about"
    assert main([*words, "--fact", "smell.focal=3"]) == 1
    assert "--fact: unknown modality 'smell'" in capsys.readouterr().err


def test_lines_of_standard_input_are_questions_and_commands(
    model: str, media: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = ["what is this ?", "", f"/file {media}/photo.png", "a red ball ?", "/reset", "what is this ?", "/quit",
             "never asked"]  # fmt: skip
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat", model, "--max-new-tokens", "4"]) == 0
    captured = capsys.readouterr()
    dialogue = load_dialogue(model, None, 4)
    wanted = [dialogue.ask("what is this ?")]
    dialogue.show("image", media / "photo.png")
    assert captured.out.splitlines() == [*wanted, dialogue.ask("a red ball ?"), wanted[0]]
    assert "senses: " in captured.err and "/reset begins anew" in captured.err


def test_a_line_that_cannot_be_answered_is_one_error_and_the_next_is_read(
    model: str, media: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    lines = [f"/file {media}/cut.png", f"/file {media}/sound.wav", "/fly", "/file", "what is this ?"]
    monkeypatch.setattr("sys.stdin", io.StringIO("\n".join(lines)))
    assert main(["chat", model, "--max-new-tokens", "4"]) == 1
    captured = capsys.readouterr()
    errors = [line for line in captured.err.splitlines() if line.startswith("polysense: ")]
    reasons = ("cut.png", "unknown modality 'audio'", "/fly: there is no such command", "/file: there is no such")
    assert all(reason in error for reason, error in zip(reasons, errors, strict=True))
    assert captured.out.splitlines() == answers(model, [], ["what is this ?"])


def test_a_bad_file_on_the_command_line_is_one_error(
    model: str, media: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, reason in (("cut.png", "cut.png"), ("words.txt", "unknown modality 'text'"), ("gone.png", "not exist")):
        assert main(["chat", model, str(media / name), "--ask", "what is this ?"]) == 1
        captured = capsys.readouterr()
        assert reason in captured.err and captured.out == "" and "Traceback" not in captured.err


def test_what_is_no_mera_checkpoint_is_one_error(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    tiny_llama().save_pretrained(tmp_path / "llama")
    write_mera(tmp_path / "damaged")
    (tmp_path / "damaged" / "tokenizer.json").write_text("{}")
    reasons = {
        "llama": "of type 'llama', not of MERA",
        "damaged": "cannot be loaded",
        "nowhere/at/all": "there is no such folder",
    }
    for name, reason in reasons.items():
        assert main(["chat", str(tmp_path / name), "--ask", "what is this ?"]) == 1
        captured = capsys.readouterr()
        assert reason in captured.err and captured.err.count("polysense: ") == 1 and captured.out == ""


def test_a_revision_is_fetched_from_the_hub(
    model: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    snapshot = stand_in(monkeypatch, "polysense.models.base.snapshot_download", as_snapshot(Path(model), tmp_path))
    assert main(["chat", "me/my-mera", "--revision", "stage-2", "--ask", "a ?", "--max-new-tokens", "4"]) == 0
    assert snapshot.call_args.args == ("me/my-mera",) and snapshot.call_args.kwargs["revision"] == "stage-2"
    assert capsys.readouterr().out.splitlines() == answers(model, [], ["a ?"])
