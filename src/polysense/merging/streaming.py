"""Merging models that are larger than memory, from folder to folder, a few megabytes at a time."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import torch
from jaxtyping import Shaped
from torch import Tensor

from polysense.errors import ConfigError
from polysense.merging.lora_delta import Factors, check_deltas, effective_weight
from polysense.merging.registry import Formula, check_values, get_merge_method, merge_numbers
from polysense.merging.select import MERGEABLE, select
from polysense.merging.weight_files import (
    INDEX,
    Output,
    Piece,
    StoredTensor,
    read_headers,
    read_numbers,
    write_weights,
)
from polysense.modality import JsonValue
from polysense.storage import MANIFEST, atomic_folder

CHUNK_BYTES = 1 << 20
"""262144 numbers: enough that calls cost little beside the work, few enough to stay in a processor's cache."""
Finish = Callable[[Path], object]
_WORKING_BYTES = 4  # of a number in float32, in which everything is computed
_COMPANIONS = {".json", ".jinja", ".txt", ".model"}  # configs, chat templates and tokenizers


def merge_folders(
    folders: Sequence[str | Path],
    target: str | Path,
    *,
    stage: int,
    method: str = "running_average",
    base: str | Path | None = None,
    shared: Sequence[str] | None = None,
    chunk_bytes: int = CHUNK_BYTES,
    finish: Finish | None = None,
    **options: JsonValue,
) -> None:
    """Merge model folders into a new one, bit for bit as in memory, reading and writing in small pieces.

    Keys, shapes and dtypes of all folders are compared before a byte is written; the target appears whole or not at
    all. Memory does not depend on the size of the models, except that methods with `whole_tensors` (TIES, SLERP)
    hold one tensor at a time, with all that they compute of it up to thirty times its size in float32.

    Args:
        folders: the previous model, then the current one, each with model.safetensors or an index of shards. Further
            ones are merged on top, each one stage later, and the result is rounded only once.
        target: the folder to make; replaced if it is there. Config, tokenizer and template files are the last model's,
            which therefore has to have the tensors of all others.
        stage: i of the second folder, see `MergeMethod`.
        method: name of a registered merge method.
        base: folder of the model before the first stage, for methods that need it.
        shared: names of the modules that are merged, see `MergeMethod`.
        chunk_bytes: size of a piece of one model in float32.
        finish: called with the folder before it becomes visible, to add to it or to replace the companions.
        options: of the method.

    Raises:
        ConfigError: unknown method, wrong stage or option; a target within a source, or the other way round; keys,
            shapes or dtypes that differ; a last model that lacks what another has; numbers that are not finite or
            integers that differ. The message names the file and the key.
        UnsafeFileError: an index that names paths, or an unsafe config.
        CheckpointError: a damaged source, or a disk that is full.
    """
    if isinstance(folders, str) or len(folders) < 2:
        raise ConfigError("a merge needs two folders or more", fix="Give the previous model, then the current one.")
    chosen = get_merge_method(method)
    formula = chosen.prepare(stage, options, has_base=base is not None)
    check_apart(target, [*folders, *([] if base is None else [base])])
    models = [read_headers(Path(folder)) for folder in folders]
    origin = None if base is None else read_headers(Path(base))
    for folder, current in zip(folders[1:], models[1:], strict=True):
        places = (folder, folder if base is None else base)
        selection = select(models[0], current, origin, shared=shared, same_dtype=True, places=places)
    numbers = None if chosen.whole_tensors else _numbers(chunk_bytes)
    outputs = _copies(models, chunk_bytes)
    if (Path(folders[-1]) / "config.json").exists():
        _check_config_fits(outputs, models[-1], Path(folders[-1]))
    for key in selection.merged:
        bases = () if origin is None else (origin[key],)
        job = _Merge(formula, key, stage, tuple(model[key] for model in models), bases, numbers)
        outputs[key] = Output(models[0][key].dtype, models[0][key].shape, job.pieces)
    details = {"method": method, "stage": stage, "options": options, "shared": None if shared is None else [*shared]}
    _save(outputs, Path(target), {"merge": details}, companions=Path(folders[-1]), finish=finish,
          whole_tensors=chosen.whole_tensors)  # fmt: skip


def add_deltas(
    source: str | Path,
    deltas: Mapping[str, Sequence[Factors]],
    target: str | Path,
    *,
    chunk_bytes: int = CHUNK_BYTES,
    finish: Finish | None = None,
) -> None:
    """Write W_0 + sum_i s_i B_i A_i of a model folder into a new one: `effective_weight`, some rows at a time.

    Args:
        source: folder of W_0.
        deltas: per key of a weight, its (A_i, B_i, coefficient * scaling); a mapping that reads them when they are
            asked for keeps memory small. All other tensors are copied.
        target, chunk_bytes, finish: see `merge_folders`.

    Raises:
        ConfigError: a target within the source or the other way round, a delta for a key that is not there or has
            another shape, or numbers that are not finite.
        UnsafeFileError, CheckpointError: see `merge_folders`.
    """
    check_apart(target, [source])
    stored = read_headers(Path(source))
    for key, factors in deltas.items():
        if key not in stored or stored[key].dtype not in MERGEABLE:
            raise ConfigError("there is no such weight to add a delta to", where=f"{source}: {key}",
                              fix="Give the factors under the key of their layer's weight.")  # fmt: skip
        check_deltas(stored[key].shape, factors, where=stored[key].where)
    outputs = _copies([stored], chunk_bytes)
    for key in deltas:
        pieces = partial(_effective_rows, stored[key], partial(deltas.__getitem__, key), _numbers(chunk_bytes))
        outputs[key] = Output(stored[key].dtype, stored[key].shape, pieces)
    _save(outputs, Path(target), {"deltas": sorted(deltas)}, companions=Path(source), finish=finish)


def check_apart(target: str | Path, sources: Sequence[str | Path]) -> None:
    """Refuse a target that would become part of a model it is made of, or take its place with all that it holds.

    Raises:
        ConfigError: names the source.
    """
    place = Path(target).resolve()
    for source in sources:
        held = Path(source).resolve()
        if held in place.parents or place in held.parents:
            raise ConfigError(f"the result's folder and {source} lie within one another", where=target,
                              fix="Choose a folder beside the models.")  # fmt: skip


@dataclass(frozen=True)
class _Merge:
    """The merge of one stored tensor; `numbers` of it at a time, None for all at once."""

    formula: Formula
    key: str
    stage: int
    sources: tuple[StoredTensor, ...]
    bases: tuple[StoredTensor, ...]
    numbers: int | None

    def pieces(self) -> Iterator[Piece]:
        return (partial(self._merged, *place) for place in _ranges(self.sources[0], self.numbers))

    def _merged(self, start: int, stop: int) -> Shaped[Tensor, " numbers"]:
        stored = self.sources + self.bases
        read = [read_numbers(each, start, stop) for each in stored]
        check_values([(each.where, values) for each, values in zip(stored, read, strict=True)])
        states, base = read[: len(self.sources)], read[len(self.sources) :]
        return merge_numbers(self.formula, self.key, start, self.stage, states[0], states[1:], *base)


def _copies(models: Sequence[Mapping[str, StoredTensor]], chunk_bytes: int) -> dict[str, Output]:
    """Every tensor of the models as it is, of the first model that has it."""
    stored: dict[str, StoredTensor] = {}
    for model in models:
        stored = {**model, **stored}
    return {
        key: Output(tensor.dtype, tensor.shape, partial(_unchanged, tensor, _numbers(chunk_bytes)))
        for key, tensor in sorted(stored.items())
    }


def _check_config_fits(outputs: Mapping[str, Output], last: Mapping[str, StoredTensor], folder: Path) -> None:
    """Refuse tensors that a model with the config of the last one would not load."""
    for key, output in outputs.items():
        if key not in last or last[key].shape != output.shape:
            state = f"has another shape of {key} than" if key in last else f"lacks {key} of"
            raise ConfigError(
                f"the last model, whose config the result has, {state} an earlier one", where=folder,
                fix="Give the models in the order of their stages, each with all senses of the one before.",
            )  # fmt: skip


def _unchanged(tensor: StoredTensor, numbers: int) -> Iterator[Piece]:
    return (partial(read_numbers, tensor, *place) for place in _ranges(tensor, numbers))


def _effective_rows(tensor: StoredTensor, factors: Callable[[], Sequence[Factors]], numbers: int) -> Iterator[Piece]:
    read, (_, inputs) = factors(), tensor.shape
    for place in _ranges(tensor, max(1, numbers // inputs) * inputs):
        yield partial(_effective, tensor, read, *place)


def _effective(tensor: StoredTensor, factors: Sequence[Factors], start: int, stop: int) -> Shaped[Tensor, " numbers"]:
    inputs = tensor.shape[1]
    weight = read_numbers(tensor, start, stop).view(-1, inputs)
    rows = slice(start // inputs, stop // inputs)
    merged = effective_weight(weight, [(A, B[rows], scale) for A, B, scale in factors]).to(tensor.dtype)
    check_values([(tensor.where, merged)])
    return merged.view(-1)


def _ranges(tensor: StoredTensor, numbers: int | None) -> Iterator[tuple[int, int]]:
    size = math.prod(tensor.shape)
    step = max(1, size if numbers is None else numbers)
    return ((start, min(start + step, size)) for start in range(0, size, step))


def _numbers(chunk_bytes: int) -> int:
    return max(1, chunk_bytes // _WORKING_BYTES)


def _save(
    outputs: Mapping[str, Output],
    target: Path,
    details: dict[str, JsonValue],
    *,
    companions: Path,
    finish: Finish | None,
    whole_tensors: bool = False,
) -> None:
    needed = sum(output.size for output in outputs.values())
    with atomic_folder(target, details=details, needed_bytes=needed) as folder:
        with _one_thread() as threads:
            write_weights(folder, outputs, workers=1 if whole_tensors else threads)
        if (companions / "config.json").exists():  # a model folder, which `read_headers` has judged
            for path in sorted(companions.iterdir()):
                if path.suffix in _COMPANIONS and path.name not in {INDEX, MANIFEST}:
                    shutil.copyfile(path, folder / path.name)
        if finish is not None:
            finish(folder)


@contextmanager
def _one_thread() -> Iterator[int]:
    """Within this block torch computes a piece in one thread, and as many pieces side by side as it had threads: they
    are small, and threads that wait for one another over each cost twice the work itself."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield threads
    finally:
        torch.set_num_threads(threads)
