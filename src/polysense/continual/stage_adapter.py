"""The language model's share of a stage: a fresh LoRA, merged exactly on the weights that it stands for.

Stage i trains W_{i-1} + s B_i A_i with W_{i-1} frozen; the running average then is W_i = W_{i-1} + (s/i) B_i A_i
(MERA section 4.1, method-facts 4.3; see `polysense.merging.lora_delta`). The adapters of all stages stay beside the
merged weights, each with its coefficient, so that W_0 + sum_i (s/i) B_i A_i can be computed with one rounding.
"""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from peft import LoraConfig, get_peft_model
from peft.tuners.lora import LoraLayer
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from polysense.continual.adapter_settings import BODY, AdapterSettings, check_targets
from polysense.errors import CheckpointError, ConfigError
from polysense.merging import effective_weight, get_merge_method
from polysense.merging.lora_delta import Factors
from polysense.modality import JsonValue
from polysense.models.base import weights_digest
from polysense.nn.starts import named_draws
from polysense.safety import check_links, read_json
from polysense.storage import digest, write_whole

logger = logging.getLogger(__name__)

TRAINED = r".*\.lora_[AB]\..*"
"""Pattern of an adapter's parameters for the freezing table."""

ROOT = "base_model.model."
"""What peft writes before the names of a model's parts."""

RECORD = "merge.json"
"""File beside an adapter that says what its delta counts."""

_A, _B = ".lora_A.weight", ".lora_B.weight"
_BEYOND_FACTORS = ("rank_pattern", "alpha_pattern", "fan_in_fan_out", "use_dora", "layer_replication")
_KEEP_BASE = (True, False, None, "gaussian", "eva", "orthogonal")  # starts of a LoRA; others change the base weights


@dataclass(frozen=True)
class StageAdapter:
    """What a stage has added to the language model.

    Attributes:
        stage: its number.
        coefficient: what its delta counts in the merged weights; `None` where they are no such sum.
        factors: key of a weight to its (A, B, scaling).
        whole: whether it is all that the stage has changed of the language model; not where realigning trained that.
        base, merged: digests of the weights that it was trained on, and of those that its stage ended with; `None` in
            folders of the time before they were recorded.
    """

    stage: int
    coefficient: float | None
    factors: Mapping[str, Factors]
    whole: bool = True
    base: str | None = None
    merged: str | None = None

    def scaled(self, key: str) -> Factors:
        """Factors of a weight as they enter the sum."""
        A, B, scaling = self.factors[key]
        return A, B, scaling * (1.0 if self.coefficient is None else self.coefficient)


@dataclass(frozen=True)
class MergeErrors:
    """What rounding has done to merged weights, as greatest absolute differences.

    Attributes:
        once: between the weights and the float32 sum that they were rounded from.
        by_stage: between the sums from W_0 and from W_{i-1}, whose weights were rounded after every stage; 0 where
            only one of them can be had.
    """

    once: float = 0.0
    by_stage: float = 0.0


def coefficient_of(method: str | None, stage: int, options: Mapping[str, JsonValue] | None = None) -> float | None:
    """What a delta counts: 1/i in the running average, 1 without a merge, `None` where a method only knows weights."""
    return 1.0 if method is None else get_merge_method(method).coefficient(stage, options)


def bare_key(key: str, prefix: str = "model") -> str:
    """Name that a weight of MERA's language model has in the language model alone, whose body is `prefix`."""
    return key.replace(BODY, f"{prefix}.", 1)


def base_digest(keys: Iterable[str], weight_of: Callable[[str], Tensor]) -> str:
    """SHA-256 of weights of a language model, the same for it alone and within a MERA model.

    Those that an adapter changes tell its base: heads may be tied or not, and vocabularies grow.
    """
    found = (weights_digest({bare_key(key): weight_of(key)}) for key in sorted(keys, key=bare_key))
    return digest(" ".join(found).encode())


def add_adapter(
    model: nn.Module, settings: AdapterSettings, *, stage: int, seed: int, go_on: StageAdapter | None = None
) -> Any:
    """Wrap `model`, in place, with a LoRA in float32; nothing else of it trains any more.

    Args:
        go_on: an earlier stage's adapter that is trained on; without it the LoRA is a fresh one.

    Returns:
        The peft model; `model` itself has the adapter's parameters among its own.

    Raises:
        ConfigError: the pattern matches no linear, or more than linears of the language model; nothing has been
            changed then.
        CheckpointError: the settings are not those that `go_on` was trained with.
    """
    check_targets(model, settings.targets)
    config = LoraConfig(r=settings.rank, lora_alpha=settings.alpha, lora_dropout=settings.dropout,
                        target_modules=settings.targets, bias="none")  # fmt: skip
    with named_draws(f"{seed}/stage-{stage}.lora"):
        try:
            wrapped: Any = get_peft_model(model, config)
        except ValueError as error:
            raise ConfigError(f"no adapter can be added ({error})", where="adapter: targets",
                              fix="Give a pattern of linear layers.") from error  # fmt: skip
    if go_on is not None:
        _put_factors(wrapped, go_on)
    return wrapped


@torch.no_grad()
def _put_factors(wrapped: Any, adapter: StageAdapter) -> None:
    layers = dict(_lora_layers(wrapped))
    shapes = {key: (A.shape, B.shape) for key, (A, B, _) in adapter.factors.items()}
    if shapes != {key: (A.shape, B.shape) for key, (A, B) in layers.items()}:
        raise CheckpointError(f"the adapter of stage {adapter.stage} is of other layers or another rank",
                              where="adapter", fix="Go on with the settings it was trained with.")  # fmt: skip
    for key, (A, B) in layers.items():
        A.copy_(adapter.factors[key][0])
        B.copy_(adapter.factors[key][1])


def _lora_layers(wrapped: Any) -> Iterator[tuple[str, tuple[nn.Parameter, nn.Parameter]]]:
    """Key of every adapted weight with the parameters A and B beside it."""
    for name, module in wrapped.named_modules():
        if isinstance(module, LoraLayer):
            factors = cast(Any, module)
            pair = factors.lora_A["default"].weight, factors.lora_B["default"].weight
            yield f"{name.removeprefix(ROOT)}.weight", pair


def trained_adapter(
    wrapped: Any, *, stage: int, method: str | None, options: Mapping[str, JsonValue] | None = None
) -> StageAdapter:
    """The adapter of a peft model as factors, copied, with a digest of what it was trained on.

    Args:
        method, options: by which it is to be merged, see `merge_adapter`.

    Raises:
        ConfigError: an unknown method, or options that it cannot have.
    """
    config = wrapped.peft_config["default"]
    scaling = config.lora_alpha / config.r
    factors = {
        key: (A.detach().cpu().clone(), B.detach().cpu().clone(), scaling) for key, (A, B) in _lora_layers(wrapped)
    }
    layer = "base_layer.weight"
    base = base_digest(factors, lambda key: wrapped.get_parameter(f"{ROOT}{key.removesuffix('weight')}{layer}"))
    return StageAdapter(stage, coefficient_of(method, stage, options), factors, base=base)


def save_adapter(
    wrapped: Any,
    folder: Path,
    adapter: StageAdapter,
    *,
    method: str | None,
    options: Mapping[str, JsonValue] | None = None,
) -> None:
    """Write an adapter as peft does (`PeftModel.from_pretrained` reads it), with its place in the merge."""
    wrapped.save_pretrained(folder)
    (folder / "README.md").unlink(missing_ok=True)
    path = folder / "adapter_config.json"
    config = {**read_json(path), "base_model_name_or_path": None}  # a local path, which is nothing to publish
    path.write_text(json.dumps(config, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    record = {"stage": adapter.stage, "method": method, "options": dict(options or {}),
              "coefficient": adapter.coefficient, "whole": adapter.whole, "base": adapter.base,
              "merged": adapter.merged}  # fmt: skip
    write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")


def record_merged(folder: Path, model: nn.Module, keys: Iterable[str]) -> None:
    """Note in the folder of an adapter which weights its stage ended with, once nothing changes them any more."""
    record = {**read_json(folder / RECORD), "merged": base_digest(keys, model.get_parameter)}
    write_whole(folder / RECORD, json.dumps(record, indent=1) + "\n")


def adapter_folder(folder: Path, stage: int) -> Path:
    """Where a stage folder has the adapter of a stage: its own, or one that its weights are a sum with."""
    return folder / "adapters" / f"stage-{stage}"


def read_adapters(folder: Path) -> list[StageAdapter]:
    """The adapters of a stage folder (`adapters/stage-i`), in order; those of an extended LLaVA begin with the second.

    Raises:
        CheckpointError: a number is missing in between, or an adapter is no LoRA with its record.
    """
    paths = sorted(folder.glob("adapters/stage-*"), key=_stage_of)
    found = [read_adapter(path) for path in paths]
    stages = [each.stage for each in found]
    if stages and stages != list(range(stages[0], stages[0] + len(stages))):
        raise CheckpointError(f"there are adapters of the stages {stages}", where=folder,
                              fix="Use a stage folder as the recipe wrote it.")  # fmt: skip
    return found


def _stage_of(folder: Path) -> int:
    try:
        return int(folder.name.removeprefix("stage-"))
    except ValueError as error:
        raise CheckpointError("the name has no number of a stage", where=folder,
                              fix="Move it elsewhere, or give it its own name back.") from error  # fmt: skip


def read_adapter(folder: Path) -> StageAdapter:
    """One adapter, from its own folder (`adapter_folder`).

    Raises:
        CheckpointError: it is no LoRA with its record.
    """
    record, factors = read_json(folder / RECORD), read_factors(folder)
    try:
        coefficient = record["coefficient"]
        coefficient = None if coefficient is None else float(coefficient)
        known = {name: record.get(name) for name in ("base", "merged")}
        return StageAdapter(int(record["stage"]), coefficient, factors, bool(record["whole"]), **known)
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise CheckpointError(f"the adapter cannot be read ({error})", where=folder,
                              fix="Use a stage folder as the recipe wrote it.") from error  # fmt: skip


def check_adapter(model: nn.Module, adapter: StageAdapter) -> None:
    """Refuse an adapter whose factors are not of this model's weights.

    Raises:
        CheckpointError: naming stage and weight.
    """
    shapes = {name: tuple(parameter.shape) for name, parameter in model.named_parameters()}
    for key, (A, B, _) in adapter.factors.items():
        if shapes.get(key) != (len(B), A.shape[1]):
            raise CheckpointError(
                f"the adapter of stage {adapter.stage} is for weights of shape {(len(B), A.shape[1])}, and the model "
                f"has {shapes.get(key) or 'none'} there", where=key,
                fix="Use the adapters of this very model, in a stage folder as the recipe wrote it.",
            )  # fmt: skip


def read_factors(folder: Path) -> dict[str, Factors]:
    """Key of a weight to its (A, B, scaling), of a LoRA that peft saved.

    Raises:
        CheckpointError: damaged, none at all, of another rank than its config says, or more than plain factors of
            linears (DoRA, biases, embeddings, ranks by layer, a start such as PiSSA's that changes the base).
        UnsafeFileError: a link that leads outside the folder.
    """
    check_links(folder)
    config, weights = read_json(folder / "adapter_config.json"), folder / "adapter_model.safetensors"
    factors: dict[str, Factors] = {}
    try:
        tensors = load_file(weights)
        rank = int(config["r"])
        scaling = float(config["lora_alpha"]) / (math.sqrt(rank) if config.get("use_rslora") else rank)
        for key in sorted(tensors):
            if key.endswith(_A):
                place = key.removesuffix(_A)
                factors[f"{place.removeprefix(ROOT)}.weight"] = (tensors[key], tensors[place + _B], scaling)
    except (OSError, SafetensorError, KeyError, TypeError, ValueError, ZeroDivisionError) as error:
        raise CheckpointError(f"the adapter cannot be read ({error})", where=folder,
                              fix="Use a LoRA as peft saved it.") from error  # fmt: skip
    beyond = any(config.get(name) for name in _BEYOND_FACTORS) or config.get("init_lora_weights") not in _KEEP_BASE
    if len(tensors) != 2 * len(factors) or beyond:
        raise CheckpointError("the adapter is more than one LoRA of linears", where=folder,
                              fix="Use a plain LoRA: no DoRA, PiSSA, biases or ranks by layer.")  # fmt: skip
    ranks = sorted({size for A, B, _ in factors.values() for size in (A.shape[:1].numel(), B.shape[1:].numel())})
    if ranks != [rank]:
        raise CheckpointError(f"the config tells of rank {rank}, the factors of {ranks or 'none'}", where=folder,
                              fix="Use a LoRA as peft saved it.")  # fmt: skip
    return factors


@torch.no_grad()
def merge_adapter(
    wrapped: Any,
    adapter: StageAdapter,
    *,
    method: str | None,
    options: Mapping[str, JsonValue] | None = None,
    base: Mapping[str, Tensor] | None = None,
    earlier: Sequence[StageAdapter] = (),
) -> MergeErrors:
    """Take the adapter out of the wrapped model, in place, and merge what it stands for into the weights.

    Computed in float32 and rounded once to the weights' own dtype.

    Args:
        method: a registered merge method; `None` adds the delta whole, as plain fine-tuning does.
        options: of the method.
        base: W_0 by key, where it is at hand. With all earlier coefficients the weights are W_0 + sum_i (s/i) B_i A_i,
            else W_{i-1} + (s/i) B_i A_i.
        earlier: the adapters of the stages before.

    Raises:
        ConfigError: an unknown method, or one that needs W_0 where there is none.
    """
    merge = None if adapter.coefficient is not None else get_merge_method(str(method))
    model = wrapped.unload()
    whole = base is not None and all(each.whole and each.coefficient is not None for each in earlier)
    once = by_stage = 0.0
    for key in adapter.factors:
        weight = model.get_parameter(key)
        before = weight.detach().cpu()
        if merge is None:
            merged = effective_weight(before, [adapter.scaled(key)])
            if whole and base is not None:
                chain = [each.scaled(key) for each in (*earlier, adapter) if key in each.factors]
                summed = effective_weight(base[key].cpu(), chain)
                by_stage = max(by_stage, float((summed - merged).abs().max()))
                merged = summed
        else:
            current = effective_weight(before, [adapter.factors[key]])
            origin = None if base is None else {key: base[key].float().cpu()}
            states = {key: before.float()}, {key: current}
            merged = merge(*states, stage=adapter.stage, base=origin, **(options or {}))[key]
        rounded = merged.to(weight.dtype)
        once = max(once, float((rounded.float() - merged).abs().max()))
        weight.copy_(rounded)
    logger.info("merged stage %d (%s); weights are rounded by at most %.3g, the sums over all stages and over the "
                "last differ by %.3g", adapter.stage, method or "added whole", once, by_stage)  # fmt: skip
    return MergeErrors(once, by_stage)


@torch.no_grad()
def take_out(model: nn.Module, adapter: StageAdapter, base: Mapping[str, Tensor]) -> None:
    """Undo the merge of an adapter that was added to W_0, in place.

    Args:
        model: with the merged weights W = W_0 + c s B A, c being the adapter's coefficient.
        base: W_0 by key. Where it is not at hand, or more than the adapter has changed (`adapter.whole`), W - c s B A
            serves instead.

    Raises:
        CheckpointError: see `check_adapter`; nothing has been changed then.
    """
    check_adapter(model, adapter)
    for key in adapter.factors:
        weight, (A, B, scaling) = model.get_parameter(key), adapter.scaled(key)
        known = adapter.whole and key in base
        before = base[key] if known else effective_weight(weight.detach().cpu(), [(A, B, -scaling)])
        weight.copy_(before.to(weight.device, weight.dtype))


__all__ = [
    "RECORD",
    "ROOT",
    "TRAINED",
    "MergeErrors",
    "StageAdapter",
    "adapter_folder",
    "add_adapter",
    "bare_key",
    "base_digest",
    "check_adapter",
    "coefficient_of",
    "merge_adapter",
    "read_adapter",
    "read_adapters",
    "read_factors",
    "record_merged",
    "save_adapter",
    "take_out",
    "trained_adapter",
]
