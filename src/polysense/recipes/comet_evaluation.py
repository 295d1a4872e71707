"""Score a COMET checkpoint, and draw how a run's stages share their codes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from polysense.data.feature_sequences import TEXT
from polysense.errors import ConfigError
from polysense.hub.records import distinct
from polysense.metrics import CodeActivation, code_activation
from polysense.models.base import best_device
from polysense.recipes.code_retrieval import RetrievalSettings
from polysense.recipes.comet_codes import CometReader
from polysense.recipes.comet_downstream import ActivationSettings, DownstreamSettings, score_codes
from polysense.recipes.config import import_modules, read_config
from polysense.recipes.evaluation import data_root, named
from polysense.recipes.sources import DatasetSettings
from polysense.report import method_name, plot_activation, plot_code_map, read_run, to_png
from polysense.storage import check_writable, write_whole, writing

_CODES = "codebook.embedding"


def run(
    checkpoint: str, manifests: Sequence[Path], output: Path | None = None, imports: Sequence[str] = (), *,
    protocols: str | Path | None = None, root: Path | None = None, revision: str | None = None,
) -> dict[str, Any]:  # fmt: skip
    """Score a checkpoint (folder or Hub name); the figures are returned and written to `output` (JSON).

    How the senses share the codes is under `codes`, as in a stage's `metrics.json`; where that was found on several
    data sets, under `codes_by_dataset` instead, by the name of each manifest, and of the protocols.

    Args:
        manifests: each gives retrieval between every two senses that its samples have, and how these share the codes.
            Media are relative to its folder, or to the folder above if that one is called `manifests`.
        protocols: a config of downstream protocols, such as "downstream-world".
        root: folder that the protocols' data sets are relative to.
        revision: tag, branch or commit of a checkpoint on the Hub.

    Raises:
        ConfigError: there is nothing to score it on, or the output cannot be written.
        CheckpointError, ManifestError, MediaError: see the parts.
    """
    import_modules(imports)
    if not manifests and protocols is None:
        raise ConfigError("there is nothing to evaluate on", where="evaluate", fix="Give a manifest, or protocols.")
    if output is not None:
        check_writable(output)
    reader = CometReader.from_pretrained(checkpoint, revision=revision)
    reader.model.to(best_device())
    record: dict[str, Any] = {}
    codes: dict[str, Any] = {}
    asked = {name: _of_manifest(path, name, reader) for path, name in named(manifests).items()}
    if protocols is not None:
        asked[f"protocols: {protocols}"] = read_config(DownstreamSettings, "comet", protocols), root or Path()
    for name, (settings, place) in asked.items():
        found = score_codes(settings, reader, reader.modalities, place, size=reader.size).record(settings.seed)
        if "codes" in found:
            codes[name] = found.pop("codes")
        record = {**record, **found, "results": distinct([*record.get("results", ()), *found["results"]])}
    if codes:
        record |= {"codes": next(iter(codes.values()))} if len(codes) == 1 else {"codes_by_dataset": codes}
    if not record["results"] and not codes:
        raise ConfigError(f"no protocol is about senses that are all among {', '.join(reader.modalities)}",
                          where=protocols, fix="Give others, or a later stage.")  # fmt: skip
    if output is not None:
        with writing(output):
            write_whole(output, json.dumps(record, indent=1) + "\n")
    return record


def _of_manifest(path: Path, name: str, reader: CometReader) -> tuple[DownstreamSettings, Path]:
    """What can be scored on the samples of a manifest, and the folder that its media are relative to."""
    root = data_root(path)
    data = DatasetSettings(manifest=str(path.absolute().relative_to(root)))
    samples = data.open(root)
    rows = [samples[index] for index in range(len(samples))]
    files = [sense for sense in reader.modalities if sense != TEXT]  # captions are the text of a sample
    media = [sense for sense in files if rows and all(sense in row.media for row in rows)]
    told = [sense for sense in media if TEXT in reader.modalities and all(row.captions.get(sense) for row in rows)]
    pairs = [*combinations(media, 2), *((sense, TEXT) for sense in told)]
    if not pairs:
        raise ConfigError(f"no two of {', '.join(reader.modalities)} are known of every sample", where=path,
                          fix="Give samples of several senses, or with captions, which are their text.")  # fmt: skip
    retrieval = {f"{name}: {a} and {b}": RetrievalSettings(data=data, senses=(a, b), captions=1) for a, b in pairs}
    senses = [*media, *([TEXT] if told[:1] == media[:1] else [])]
    activation = ActivationSettings(data=data, senses=senses) if len(senses) > 1 else None
    return replace(DownstreamSettings(), retrieval=retrieval, activation=activation), root


def pictures(output: Path) -> dict[str, bytes]:
    """Figure 3 of all methods in a run folder, and a map of the last method's codes; heading to PNG.

    Methods whose last stages have no common analysis of their codes are left out.
    """
    found: dict[str, tuple[str, CodeActivation]] = {}
    for chain in read_run(output).chains:
        last = chain[-1]
        if isinstance(codes := last.metrics.get("codes"), dict):
            found.setdefault(method_name(last), (last.name, recorded_activation(codes)))
    if not found:
        return {}
    senses = max((each.senses for _, each in found.values()), key=len)
    same = {name: each for name, each in found.items() if each[1].senses == senses}
    stage, activation = next(iter(same.values()))
    drawn = plot_activation({name: each for name, (_, each) in same.items()})
    mapped = plot_code_map(_codebook(output / "stages" / stage), activation)
    return {"Codes by the senses that share them": to_png(drawn), "Map of the codes": to_png(mapped)}


def recorded_activation(codes: dict[str, Any]) -> CodeActivation:
    """The analysis that `metrics.json` holds under "codes"."""
    return code_activation({sense: torch.tensor(hits) for sense, hits in codes["hits"].items()})


def _codebook(stage: Path) -> Tensor:
    with safe_open(stage / "model.safetensors", framework="pt") as file:
        return torch.as_tensor(file.get_tensor(_CODES))


__all__ = ["pictures", "recorded_activation", "run"]
