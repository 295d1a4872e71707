"""`polysense chat`: ask a MERA checkpoint about files."""

from __future__ import annotations

import argparse
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched, loading
from polysense.cli.sources import add_facts, facts_by_sense, parse_source, tell_assumed
from polysense.errors import ConfigError, PolysenseError

if TYPE_CHECKING:
    from polysense.models.mera.dialogue import Dialogue

Facts = Mapping[str, Mapping[str, Any]]  # sense to what --fact says of its files

_COMMANDS = "/file PATH shows a file, /reset begins anew, /quit ends"


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "chat", "ask a language model that MERA gave senses about files", run=_chat,
        about=f"""
            Talk with a MERA checkpoint about files of any sense that it has learned. What a file is, is judged by its
            content; FILE:modality, or --as for all of them, says it yourself. With --ask every question is answered
            in one line and the command ends; without, questions are read from standard input, one a line, and
            {_COMMANDS}.
            A depth map shows what its camera measured: without --fact, one of the sensor that the checkpoint names is
            assumed. Answers alone go to standard output.""",
        examples="""
            polysense chat runs/mera/stages/stage-3-audio-* sound.flac --ask "what is it ?"
            polysense chat me/my-mera --revision stage-2 photo.jpg clip.mp4 --ask "what is it ?" --ask "how many ?"
            polysense chat runs/mera/stages/stage-3-audio-* scene.png --as thermal --imports my_senses
            polysense chat me/my-mera scan.png:depth --fact depth.focal=80 --fact depth.baseline=0.075 --ask "what ?"
            polysense chat runs/mera/stages/stage-4-point_cloud-* scan.ply < questions.txt""",
    )  # fmt: skip
    parser.add_argument("checkpoint", metavar="FOLDER_OR_REPO", help="a MERA stage's folder, or owner/name on the Hub")
    parser.add_argument("files", nargs="*", metavar="FILE", help="a file to speak of first, or FILE:modality")
    parser.add_argument("--as", dest="sense", metavar="SENSE", help="what all these files are")
    parser.add_argument("--ask", action="append", default=[], metavar="QUESTION",
                        help="answer this and end; repeatable, later questions know what was said before")  # fmt: skip
    parser.add_argument("--max-new-tokens", type=int, default=64, metavar="N",
                        help="length at which an answer is cut off (default: %(default)s)")  # fmt: skip
    add_facts(parser)
    add_revision(parser)
    add_imports(parser)
    parser.set_defaults(trailing="files")


def _chat(arguments: argparse.Namespace) -> int:
    from polysense.recipes.config import import_modules  # brings more than --help needs

    import_modules(arguments.imports)
    dialogue = load_dialogue(arguments.checkpoint, arguments.revision, arguments.max_new_tokens)
    facts = facts_by_sense(arguments.facts, dialogue.senses)
    for file in arguments.files:
        _show(dialogue, file, facts, arguments.sense)
    if not arguments.ask:
        return _converse(dialogue, facts)
    for question in arguments.ask:
        console.say(dialogue.ask(question))
    return 0


def load_dialogue(name: str, revision: str | None, max_new_tokens: int) -> Dialogue:
    """A new conversation with a checkpoint.

    Raises:
        CheckpointError: it cannot be fetched or loaded, or is none of MERA's.
        UnsafeFileError: the folder is unsafe; nothing in it was loaded.
    """
    from polysense.models.base import best_device
    from polysense.models.mera import MeraForConditionalGeneration, MeraProcessor
    from polysense.models.mera.checkpoint import check_mera
    from polysense.models.mera.dialogue import Dialogue

    folder = fetched(name, revision)
    check_mera(folder)
    with loading(name):
        model, processor = MeraForConditionalGeneration.from_pretrained(folder), MeraProcessor.from_pretrained(folder)
    return Dialogue(model.to(best_device()), processor, max_new_tokens=max_new_tokens)


def _show(dialogue: Dialogue, argument: str, facts: Facts, named: str | None = None) -> None:
    source = parse_source(argument, dialogue.senses)
    sense = named or source.sense()
    known = facts.get(sense, {})
    dialogue.show(sense, source.value, known)
    tell_assumed(source, sense, dialogue.processor.part(sense).assumed(known))


def _converse(dialogue: Dialogue, facts: Facts) -> int:
    """Answer standard input, line by line; what goes wrong with a line is said, and the next one is read."""
    console.note(f"senses: {', '.join(dialogue.senses)}; {_COMMANDS}")
    failed = False
    for line in console.lines("> "):
        if line == "/quit":
            break
        try:
            _obey(dialogue, line, facts)
        except PolysenseError as error:
            failed = True
            console.error(f"polysense: {error}")
    return 1 if failed else 0


def _obey(dialogue: Dialogue, line: str, facts: Facts) -> None:
    command, _, rest = line.partition(" ")
    if command == "/file" and rest.strip():
        _show(dialogue, rest.strip(), facts)
    elif line == "/reset":
        dialogue.reset()
    elif command.startswith("/"):
        raise ConfigError("there is no such command", where=line, fix=f"Type a question, or: {_COMMANDS}.")
    elif line:
        console.say(dialogue.ask(line))
