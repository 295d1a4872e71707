"""Benchmarks P4 and P4x: merging folders beside loading everything, LoRA deltas beside peft's ways to combine them.

    python -m eval.performance.merging [--mib 256] [--repeats 9] [--mergekit PYTHON] [--out eval/reports/performance]

P4: the mean of three Llama-shaped models in bfloat16, whose bytes are compared first. The peers:

- load all: read every model, average in float32, `save_file`; also with our manifest, syncs and rename;
- tensor by tensor: `safe_open`, one tensor of all models at a time, the output held until it is saved;
- mergekit's linear merge, in an environment of its own: `--mergekit` names its interpreter. Without it the report says
  `"mergekit": null`.

Peak memory is the growth of the resident set of a fresh process, at two sizes of model; times are taken in turn with
all files in the page cache. P4x: the error of the merged delta of 2 to 4 LoRAs of rank 128 on 1024 x 1024 weights.
The exit code is 1 when a gate is missed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import peft
import torch
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import LlamaConfig

from eval.performance.harness import Gate, Report, arguments, require, take_turns
from eval.performance.memory import MIB, growth, in_child
from polysense.merging import (
    concatenate_factors,
    effective_weight,
    lora_delta,
    merge_coefficients,
    merge_folders,
    running_average,
)
from polysense.merging.weight_files import WEIGHTS
from polysense.storage import atomic_folder

MODELS = 3
SIZES = {"hidden_size": 1024, "intermediate_size": 2816, "vocab_size": 4096}
RANK, WIDTH, SCALING = 128, 1024, 2.0
MERGEKIT = """
import json, sys, time
from pathlib import Path
from mergekit.config import MergeConfiguration
from mergekit.merge import MergeOptions, run_merge
*folders, target = json.loads(sys.argv[1])
models = [{"model": folder, "parameters": {"weight": 1 / len(folders)}} for folder in folders]
config = {"merge_method": "linear", "models": models, "dtype": "float32", "out_dtype": "bfloat16"}
status = lambda key: int(next(l for l in open("/proc/self/status") if l.startswith(key)).split()[1]) * 1024
Path("/proc/self/clear_refs").write_text("5")
before, begun = status("VmRSS"), time.perf_counter()
run_merge(MergeConfiguration.model_validate(config), target, MergeOptions(copy_tokenizer=False, quiet=True))
seconds = time.perf_counter() - begun
from importlib.metadata import version
print(json.dumps({"ms": 1000 * seconds, "peak": status("VmHWM") - before, "version": version("mergekit")}))
"""


def ours(folders: Sequence[Path], target: Path) -> None:
    merge_folders(folders, target, stage=2)


def load_all(folders: Sequence[Path], target: Path) -> None:
    states = [load_file(folder / WEIGHTS) for folder in folders]
    mean = {key: mean_of([state[key] for state in states]) for key in states[0]}
    target.mkdir(exist_ok=True)
    save_file(mean, target / WEIGHTS, metadata={"format": "pt"})


def load_all_safely(folders: Sequence[Path], target: Path) -> None:
    with atomic_folder(target) as folder:
        load_all(folders, folder)


def tensor_by_tensor(folders: Sequence[Path], target: Path) -> None:
    files = [safe_open(folder / WEIGHTS, "pt") for folder in folders]
    keys = files[0].keys()
    mean = {key: mean_of([file.get_tensor(key) for file in files]) for key in keys}
    target.mkdir(exist_ok=True)
    save_file(mean, target / WEIGHTS, metadata={"format": "pt"})


def mean_of(tensors: Sequence[Tensor]) -> Tensor:
    total = tensors[0].float()
    for tensor in tensors[1:]:
        total += tensor.float()
    return total.div_(len(tensors)).to(tensors[0].dtype)


Side = Callable[[Sequence[Path], Path], None]
SIDES: dict[str, Side] = {
    "ours": ours,
    "load all": load_all,
    "load all, synced, hashed and renamed": load_all_safely,
    "tensor by tensor": tensor_by_tensor,
}


def write_models(root: Path, mib: int, seed: int) -> list[Path]:
    """Llama checkpoints of about `mib` MiB each, with random weights."""
    hidden, wide, vocabulary = SIZES["hidden_size"], SIZES["intermediate_size"], SIZES["vocab_size"]
    attention = {f"self_attn.{name}_proj": (hidden, hidden) for name in "qkvo"}
    ffn = {"mlp.gate_proj": (wide, hidden), "mlp.up_proj": (wide, hidden), "mlp.down_proj": (hidden, wide)}
    block = {**attention, **ffn, "input_layernorm": (hidden,), "post_attention_layernorm": (hidden,)}
    layers = max(1, round(mib * MIB / 2 / (4 * hidden * hidden + 3 * hidden * wide)))
    shapes = {f"model.layers.{i}.{name}.weight": shape for i in range(layers) for name, shape in block.items()}
    shapes |= {"model.embed_tokens.weight": (vocabulary, hidden), "lm_head.weight": (vocabulary, hidden),
               "model.norm.weight": (hidden,)}  # fmt: skip
    generator, folders = torch.Generator().manual_seed(seed), [root / f"{mib}-{i}" for i in range(MODELS)]
    for folder in folders:
        folder.mkdir()
        state = {key: torch.randn(shape, generator=generator).bfloat16() for key, shape in shapes.items()}
        save_file(state, folder / WEIGHTS, metadata={"format": "pt"})
        config = LlamaConfig(**SIZES, num_hidden_layers=layers, num_attention_heads=16, torch_dtype="bfloat16")
        config.architectures = ["LlamaForCausalLM"]
        config.save_pretrained(folder)
    return folders


def check_equality(folders: Sequence[Path], target: Path) -> float:
    """Stop unless our file equals the merge in memory byte for byte; share of numbers unlike the float64 mean's."""
    ours(folders, target)
    merged, *others = [load_file(folder / WEIGHTS) for folder in folders]
    exact = {key: torch.stack([each[key].double() for each in (merged, *others)]).mean(dim=0).bfloat16()
             for key in merged}  # fmt: skip
    merged = {key: tensor.float() for key, tensor in merged.items()}
    for stage, other in enumerate(others, start=2):
        merged = running_average(merged, other, stage=stage)
    reference = target.with_name("reference.safetensors")
    save_file({key: tensor.bfloat16() for key, tensor in merged.items()}, reference, metadata={"format": "pt"})
    if reference.read_bytes() != (target / WEIGHTS).read_bytes():
        sys.exit("ours differs from the merge in memory: nothing was timed")
    differing = sum(int((merged[key].bfloat16() != exact[key]).sum()) for key in exact)
    return differing / sum(tensor.numel() for tensor in exact.values())


def peak_of(side: str, folders: Sequence[Path], target: Path) -> int:
    """Bytes by which the resident set of this process grows at most."""
    return growth(partial(SIDES[side], folders, target))


def run_mergekit(python: Path | None, folders: Sequence[Path], target: Path, repeats: int) -> dict[str, Any] | None:
    """Least milliseconds and peak of mergekit's linear merge, and the share of numbers in which it differs."""
    if python is None:
        return None
    paths = json.dumps([str(path) for path in (*folders, target)])
    runs = [
        json.loads(
            subprocess.run([python, "-c", MERGEKIT, paths], check=True, capture_output=True).stdout.splitlines()[-1]
        )
        for _ in range(repeats)
    ]
    theirs = {key: tensor for path in target.glob("*.safetensors") for key, tensor in load_file(path).items()}
    expected = load_file(target.with_name("reference.safetensors"))
    differing = sum(int((theirs[key] != tensor).sum()) for key, tensor in expected.items())
    return {
        "version": runs[0]["version"],
        "ms": min(run["ms"] for run in runs),
        "peak": min(run["peak"] for run in runs),
        "share of numbers that differ": differing / sum(tensor.numel() for tensor in expected.values()),
    }


def measure_folders(report: Report, root: Path, parsed: argparse.Namespace) -> None:
    small, large = (write_models(root, mib, parsed.seed) for mib in (parsed.mib // 2, parsed.mib))
    targets = {side: root / f"target {i}" for i, side in enumerate(SIDES)}
    unlike = check_equality(large, targets["ours"])
    size = (large[0] / WEIGHTS).stat().st_size
    peaks = {side: in_child(peak_of, side, large, targets[side]) for side in SIDES}
    peak_small = in_child(peak_of, "ours", small, targets["ours"])
    calls = {side: partial(call, large, targets[side]) for side, call in SIDES.items()}
    times = take_turns(calls, parsed.repeats)
    mergekit = run_mergekit(parsed.mergekit, large, root / "mergekit", min(3, parsed.repeats))
    report.figures |= {
        "P4: bytes of a model": size,
        "P4: bytes read and written, at least": (MODELS + 1) * size,
        "P4: peak bytes": peaks,
        "P4: peak bytes, ours, models of half the size": peak_small,
        "P4: time, ms": times,
        "mergekit": mergekit,
    }
    fastest = times["ours"].min
    report.gates += [
        Gate("P4: share of numbers unlike the rounded float64 mean", unlike, at_most=1e-4),
        Gate("P4: peak MiB, ours", peaks["ours"] / MIB, at_most=256),
        Gate("P4: peak MiB, growth from half the size", (peaks["ours"] - peak_small) / MIB, at_most=16),
        Gate("P4: peak MiB, load all", peaks["load all"] / MIB),
        Gate("P4: time, ours / load all", fastest / times["load all"].min, at_most=1.3),
        Gate("P4: time, ours / load all, synced, hashed and renamed",
             fastest / times["load all, synced, hashed and renamed"].min),
        Gate("P4: time, ours / tensor by tensor", fastest / times["tensor by tensor"].min),
    ]  # fmt: skip
    if mergekit is None:
        print("mergekit was not run: name its interpreter with --mergekit")
    else:
        report.gates += [
            Gate("P4: peak MiB, mergekit", mergekit["peak"] / MIB),
            Gate("P4: time, ours / mergekit", fastest / mergekit["ms"]),
        ]


def measure_deltas(report: Report, count: int) -> None:
    """Relative Frobenius error of W_m - W_0 = sum_i (s/i) B_i A_i against float64, for every way to merge."""
    config = peft.LoraConfig(r=RANK, lora_alpha=int(SCALING * RANK), target_modules=["0"], lora_dropout=0.0)
    model: Any = peft.get_peft_model(nn.Sequential(nn.Linear(WIDTH, WIDTH, bias=False)), config, adapter_name="0")
    names = [str(index) for index in range(count)]
    for name in names[1:]:
        model.add_adapter(name, config)
    layer, coefficients = model.base_model.model[0], merge_coefficients(count)
    for name in names:
        nn.init.normal_(layer.lora_A[name].weight)
        nn.init.normal_(layer.lora_B[name].weight)
    factors = [(layer.lora_A[name].weight.data, layer.lora_B[name].weight.data, SCALING * coefficient)
               for name, coefficient in zip(names, coefficients, strict=True)]  # fmt: skip
    exact = effective_weight(
        torch.zeros(WIDTH, WIDTH, dtype=torch.float64), [(A.double(), B.double(), s) for A, B, s in factors]
    )
    found = {
        "ours, effective weight": effective_weight(torch.zeros(WIDTH, WIDTH), factors),
        "ours, concatenated factors": lora_delta(*concatenate_factors(factors)),
    }
    for kind in ("cat", "svd", "linear"):
        model.add_weighted_adapter(names, coefficients, adapter_name=kind, combination_type=kind)
        found[f"peft {kind}"] = layer.get_delta_weight(kind).detach()
    errors = {way: ((delta - exact).norm() / exact.norm()).item() for way, delta in found.items()}
    report.figures[f"P4x: relative error, {count} LoRAs of rank {RANK}"] = errors
    report.figures[f"P4x: rank of the concatenated factors, {count} LoRAs"] = len(concatenate_factors(factors)[0])
    report.gates += [
        Gate(f"P4x: {way}, {count} LoRAs", error, at_most=1e-6 if way.startswith("ours") else None)
        for way, error in errors.items()
    ]


def main() -> int:
    require("peft", "torch", "safetensors")
    parsed = arguments("eval.performance.merging", __doc__, repeats=9, further={
        "--mib": {"type": int, "default": 256, "help": "size of each of the three models (default: 256)"},
        "--mergekit": {"type": Path, "help": "interpreter of an environment with mergekit"},
    })  # fmt: skip
    command = f"python -m eval.performance.merging --mib {parsed.mib} --threads {parsed.threads}"
    report = Report("merging", command, parsed.seed, ("safetensors", "peft", "transformers"))
    for count in (2, 3, 4):
        measure_deltas(report, count)
    with tempfile.TemporaryDirectory() as root:
        measure_folders(report, Path(root), parsed)
    return report.write(parsed.out)


if __name__ == "__main__":
    sys.exit(main())
