"""`polysense chat`: ask a MERA checkpoint about files."""

from __future__ import annotations

import argparse
from typing import TYPE_CHECKING

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched, loading
from polysense.cli.sources import parse_source
from polysense.errors import ConfigError, PolysenseError

if TYPE_CHECKING:
    from polysense.models.mera.dialogue import Dialogue

_COMMANDS = "/file PATH shows a file, /reset begins anew, /quit ends"


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "chat", "ask a language model that MERA gave senses about files", run=_chat,
        about=f"""
            Talk with a MERA checkpoint about files of any sense that it has learned. What a file is, is judged by its
            content; FILE:modality, or --as for all of them, says it yourself. With --ask every question is answered
            in one line and the command ends; without, questions are read from standard input, one a line, and
            {_COMMANDS}. Answers alone go to standard output.""",
        examples="""
            polysense chat runs/mera/stages/stage-3-audio-* sound.flac --ask "what is it ?"
            polysense chat me/my-mera --revision stage-2 photo.jpg clip.mp4 --ask "what is it ?" --ask "how many ?"
            polysense chat runs/mera/stages/stage-3-audio-* scene.png --as thermal --imports my_senses
            polysense chat runs/mera/stages/stage-4-point_cloud-* scan.ply < questions.txt""",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="FOLDER_OR_REPO", help="a MERA stage's folder, or owner/name on the Hub")
    parser.add_argument("files", nargs="*", metavar="FILE", help="a file to speak of first, or FILE:modality")
    parser.add_argument("--as", dest="sense", metavar="SENSE", help="what all these files are")
    parser.add_argument("--ask", action="append", default=[], metavar="QUESTION",
                        help="answer this and end; repeatable, later questions know what was said before")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N",
                        help="length at which an answer is cut off (default: %(default)s)")  # fmt: skip
    add_revision(parser)
    add_imports(parser)
    parser.set_defaults(trailing="files")


def _chat(arguments: argparse.Namespace) -> int:
    from polysense.recipes.config import import_modules  # brings more than --help needs

    import_modules(arguments.imports)
    dialogue = load_dialogue(arguments.checkpoint, arguments.revision, arguments.max_new_tokens)
    for file in arguments.files:
        _show(dialogue, file, arguments.sense)
    if not arguments.ask:
        return _converse(dialogue)
    for question in arguments.ask:
        console.say(dialogue.ask(question))
    return 0


def load_dialogue(name: str, revision: str | None, max_new_tokens: int) -> Dialogue:
    """A new conversation with a checkpoint.

    Raises:
        CheckpointError: it cannot be fetched or loaded, or is none of MERA's.
        UnsafeFileError: the folder is unsafe; nothing in it was loaded.
    """
    import torch

    from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
    from polysense.models.mera.checkpoint import check_mera
    from polysense.models.mera.dialogue import Dialogue

    folder = fetched(name, revision)
    check_mera(folder)
    with loading(name):
        model, processor = MeraForConditionalGeneration.from_pretrained(folder), MeraProcessor.from_pretrained(folder)
    return Dialogue(model.to("cuda" if torch.cuda.is_available() else "cpu"), processor, max_new_tokens=max_new_tokens)


def _show(dialogue: Dialogue, argument: str, sense: str | None = None) -> None:
    source = parse_source(argument, dialogue.senses)
    dialogue.show(sense or source.sense(), source.value)


def _converse(dialogue: Dialogue) -> int:
    """Answer standard input, line by line; what goes wrong with a line is said, and the next one is read."""
    console.note(f"senses: {', '.join(dialogue.senses)}; {_COMMANDS}")
    failed = False
    for line in console.lines("> "):
        if line == "/quit":
            break
        try:
            _obey(dialogue, line)
        except PolysenseError as error:
            failed = True
            console.error(f"polysense: {error}")
    return 1 if failed else 0


def _obey(dialogue: Dialogue, line: str) -> None:
    command, _, rest = line.partition(" ")
    if command == "/file" and rest.strip():
        _show(dialogue, rest.strip())
    elif line == "/reset":
        dialogue.reset()
    elif command.startswith("/"):
        raise ConfigError("there is no such command", where=line, fix=f"Type a question, or: {_COMMANDS}.")
    elif line:
        console.say(dialogue.ask(line))
