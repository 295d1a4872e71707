"""`polysense embed`: vectors of files of any sense."""

from __future__ import annotations

import argparse
import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from safetensors.torch import save
from torch import Tensor
from tqdm.auto import tqdm

from polysense.cli.arguments import Commands, add_command, add_imports, add_revision
from polysense.cli.console import console
from polysense.cli.loading import fetched, loading
from polysense.cli.sources import Source, add_facts, facts_by_sense, parse_source, tell_assumed
from polysense.errors import CheckpointError, ConfigError, PolysenseError
from polysense.safety import read_json
from polysense.storage import check_writable, write_whole, writing

_VARIABLE = "POLYSENSE_MODEL"
_INSTEAD = {"mera": "`polysense chat`, which answers questions about files",
            "comet": "`polysense codes`, which tells the codes of files"}  # fmt: skip
_SHOWN = 4  # numbers of a vector shown in the table


@dataclass(frozen=True)
class Embedded:
    """A source with its sense and unit vector."""

    name: str
    modality: str
    vector: Float[Tensor, " embed"]


def add(commands: Commands) -> None:
    """Add the command."""
    parser = add_command(
        commands, "embed", "turn files of any sense into vectors of one space", run=_embed,
        about="""
            Embed any mix of pictures, depth maps, point clouds, films, sounds and texts with a checkpoint. What a file
            is, is judged by its content (a 16-bit picture is a depth map); FILE:modality says it yourself. A file that
            cannot be used is reported in one line and the others are embedded all the same (exit code 1). A depth map
            shows what its camera measured: without --fact, one of the sensor that the checkpoint names is assumed.""",
        examples="""
            polysense embed photo.jpg sound.flac scan.ply --model runs/x/stages/stage-5-audio --compare
            polysense embed scene.png:thermal --text "a red cube" --model me/my-model --imports my_senses --compare
            polysense embed scan.png:depth --model me/my-model --fact depth.focal=80 --fact depth.baseline=0.075
            polysense embed photo.jpg --model me/my-model --revision stage-2
            POLYSENSE_MODEL=me/my-model polysense embed *.wav --output vectors.safetensors""",
    )  # fmt: skip
    parser.add_argument("files", nargs="*", metavar="FILE", help="a file, or FILE:modality")
    parser.add_argument("--text", action="append", default=[], metavar="TEXT", help="embed this text too; repeatable")
    parser.add_argument("--model", default=os.environ.get(_VARIABLE), metavar="FOLDER_OR_REPO",
                        help=f"a stage's folder, or owner/name on the Hub (default: ${_VARIABLE})")  # fmt: skip
    parser.add_argument("--compare", action="store_true", help="show the cosine of every pair")
    parser.add_argument("--output", type=_output, metavar="FILE", help="write the vectors: .safetensors or .json")
    add_facts(parser)
    add_revision(parser)
    add_imports(parser)
    parser.set_defaults(trailing="files")


def _output(text: str) -> Path:
    path = Path(text)
    if path.suffix not in {".safetensors", ".json"}:
        raise argparse.ArgumentTypeError(f"{text!r} ends in neither .safetensors nor .json")
    return path


def _embed(arguments: argparse.Namespace) -> int:
    if not arguments.model:
        raise ConfigError("no model was named", where="--model", fix=f"Give --model, or set {_VARIABLE}.")
    if not arguments.files and not arguments.text:
        raise ConfigError("there is nothing to embed", where="embed", fix="Give files, or --text.")
    from polysense.recipes.config import import_modules  # brings more than --help needs

    import_modules(arguments.imports)
    if arguments.output is not None:
        check_writable(arguments.output)
    model, processor = load_model(arguments.model, arguments.revision)
    facts = facts_by_sense(arguments.facts, model.modalities)
    done: list[Embedded] = []
    failed = 0
    given = [(argument, False) for argument in arguments.files] + [(text, True) for text in arguments.text]
    for argument, is_text in tqdm(given, desc="embedding", delay=2, leave=False):
        try:
            source = Source(argument, argument, "text") if is_text else parse_source(argument, model.modalities)
            done.append(embed_source(source, model, processor, facts))
        except PolysenseError as error:
            failed += 1
            console.error(f"polysense: {error}")
    if done and arguments.output is not None:
        write_vectors(arguments.output, done, arguments.model)
    _show(done, compare=arguments.compare)
    if failed:
        console.note(f"{failed} of {failed + len(done)} could not be embedded")
    return 1 if failed else 0


def load_model(name: str, revision: str | None = None) -> tuple[Any, Any]:
    """Model and processor of a folder, or of a repository at a tag, branch or commit.

    Raises:
        CheckpointError: it cannot be fetched or loaded, or is no model that embeds.
        UnsafeFileError: the folder is unsafe; nothing in it was loaded.
    """
    from transformers import AutoModel, AutoProcessor

    from polysense.models.base import best_device

    folder = fetched(name, revision)  # refuses an unsafe folder before transformers reads its config
    kind = read_json(folder / "config.json").get("model_type")
    if kind in _INSTEAD:
        raise CheckpointError(f"a model of type {kind!r} makes no vectors of one space", where=name,
                              fix=f"Give it to {_INSTEAD[kind]}.")  # fmt: skip
    with loading(name):
        model, processor = AutoModel.from_pretrained(folder).eval(), AutoProcessor.from_pretrained(folder)
        model.to(best_device())
    if not hasattr(model, "embed"):
        raise CheckpointError(f"a {type(model).__name__} has no senses to embed with", where=name,
                              fix="Give a checkpoint that a recipe of polysense wrote.")  # fmt: skip
    return model, processor


@torch.no_grad()
def embed_source(
    source: Source, model: Any, processor: Any, facts: Mapping[str, Mapping[str, Any]] | None = None
) -> Embedded:
    """The vector of one source; a note tells what had to be assumed of it.

    Args:
        facts: sense to what is known of its files.

    Raises:
        MediaError: the file cannot be used; the message names it.
        UnknownModalityError: the model lacks the sense.
    """
    modality = source.sense()
    known = dict((facts or {}).get(modality, {}))
    made = processor.features(modality, [source.value], facts=[known])
    features = {name: each.to(model.device) for name, each in made.items()}
    tell_assumed(source, modality, processor.part(modality).assumed(known))
    return Embedded(source.name, modality, model.embed(modality, features)[0].float().cpu())


def write_vectors(path: Path, done: list[Embedded], model: str) -> None:
    """Vectors with their names and senses, whole or not at all.

    Raises:
        ConfigError: the file cannot be written.
    """
    names, modalities = [each.name for each in done], [each.modality for each in done]
    if path.suffix == ".json":
        items = [{"source": each.name, "modality": each.modality, "embedding": each.vector.tolist()} for each in done]
        data = json.dumps({"model": model, "items": items}, indent=1).encode()
    else:
        facts = {"model": model, "sources": json.dumps(names), "modalities": json.dumps(modalities)}
        data = save({"embeddings": torch.stack([each.vector for each in done])}, metadata=facts)
    with writing(path):
        write_whole(path, data)


def _show(done: list[Embedded], *, compare: bool) -> None:
    if compare and done:
        vectors = torch.stack([each.vector for each in done])
        cosines = (vectors @ vectors.T).tolist()
        rows = [
            [str(i), each.name, each.modality, *(f"{cosine:.3f}" for cosine in cosines[i - 1])]
            for i, each in enumerate(done, start=1)
        ]
        console.table("cosine", ["", "source", "sense", *(str(i + 1) for i in range(len(done)))], rows, left=3)
    elif done:
        rows = [
            [
                each.name,
                each.modality,
                str(len(each.vector)),
                " ".join(f"{x:+.3f}" for x in each.vector[:_SHOWN]) + " ...",
            ]
            for each in done
        ]
        console.table("", ["source", "sense", "numbers", "vector"], rows, left=2)
