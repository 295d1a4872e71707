"""`polysense codes`: what files and texts are in a codebook, second by second."""

from __future__ import annotations

import argparse
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched, loading
from polysense.cli.sources import Source, add_facts, facts_by_sense, parse_source, tell_assumed
from polysense.errors import ConfigError, PolysenseError, UnknownModalityError
from polysense.storage import check_writable, write_whole, writing

if TYPE_CHECKING:
    from polysense.recipes.comet_codes import CometReader


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "codes", "show a file's codes, second by second", run=_codes,
        about="""
            The codes of any mix of films, sounds, pictures and texts in the codebook of a COMET checkpoint, one for
            each second, however long the file (a picture has one, a text one for each word or span of words, as the
            checkpoint reads it). The same number means the same in every sense; of several files, the last column
            says how many of a file's seconds have a code that another one has too. A file that cannot be used is
            reported in one line and the others are shown all the same (exit code 1). A depth map shows what its
            camera measured: without --fact, one of the sensor that the checkpoint names is assumed.""",
        examples="""
            polysense codes clip.mp4 sound.flac --model runs/comet/stages/stage-2-audio-text-*
            polysense codes sound.flac --text "a bell rings twice" --model me/my-comet --revision stage-2
            polysense codes speech.wav:speech --model runs/comet/stages/stage-3-speech-text-* --output codes.json""",
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE", help="a file, or FILE:modality")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="show this text too; repeatable")
    parser.add_argument("--model", required=True, metavar="FOLDER_OR_REPO",
                        help="a COMET stage's folder, or owner/name on the Hub")  # fmt: skip
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the codes as JSON")
    add_facts(parser)
    add_revision(parser)
    add_imports(parser)
    parser.set_defaults(trailing="files")


def _codes(arguments: argparse.Namespace) -> int:
    from polysense.recipes.config import import_modules  # brings more than --help needs

    if not arguments.files and not arguments.text:
        raise ConfigError("there is nothing to show the codes of", where="codes", fix="Give files, or --text.")
    import_modules(arguments.imports)
    if arguments.output is not None:
        check_writable(arguments.output)
    reader = _reader(arguments.model, arguments.revision)
    facts = facts_by_sense(arguments.facts, reader.modalities)
    told = [Source(text, text, "text") for text in arguments.text]
    done, failed = [], 0
    for argument in [*arguments.files, *told]:
        try:
            source = parse_source(argument, reader.modalities) if isinstance(argument, str) else argument
            done.append(_read(source, reader, facts))
        except PolysenseError as error:
            failed += 1
            console.error(f"polysense: {error}")
    if done and arguments.output is not None:
        _write(arguments.output, done, arguments.model)
    _show(done)
    if failed:
        console.note(f"{failed} of {failed + len(done)} have no codes")
    return 1 if failed else 0


def _reader(name: str, revision: str | None) -> CometReader:
    from polysense.recipes.comet_codes import CometReader

    folder = fetched(name, revision)
    with loading(name):
        return CometReader.from_pretrained(folder)


def _read(source: Source, reader: CometReader, facts: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    sense = source.sense()
    if sense not in reader.modalities:
        own = next((each for each in reader.modalities if each != "text"), sense)
        guessed = f"Its content suggests that sense: if it is another, say which, as in FILE:{own}."
        raise UnknownModalityError(sense, reader.modalities, where=source.name, fix="" if source.modality else guessed)
    known = facts.get(sense, {})
    codes = reader.timeline(sense, source.value, known)
    tell_assumed(source, sense, reader.assumed(sense, known))
    if len(codes) >= reader.longest:
        console.note(f"{source.name}: at most the first {reader.longest} codes are shown")
    return {"source": source.name, "modality": sense, "codes": codes}


def _show(done: list[dict[str, Any]]) -> None:
    rows = []
    for place, each in enumerate(done):
        others = {code for other, row in enumerate(done) if other != place for code in row["codes"]}
        shared = sum(code in others for code in each["codes"])
        share = [f"{100 * shared / len(each['codes']):.0f} %"] if len(done) > 1 else []
        rows.append([each["source"], each["modality"].replace("_", " "), " ".join(map(str, each["codes"])), *share])
    if rows:
        head = ["file", "sense", "code of each second", *(["shared"] if len(done) > 1 else [])]
        console.table("", head, rows, left=3)


def _write(path: Path, done: list[dict[str, Any]], model: str) -> None:
    with writing(path):
        write_whole(path, json.dumps({"model": model, "items": done}, indent=1) + "\n")
    console.note(str(path))
