"""`polysense merge` and `polysense export`: the weights of several stages as one model, or as one adapter."""

from __future__ import annotations

import argparse
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from polysense.cli.arguments import Commands, add_command, add_imports
from polysense.cli.console import console
from polysense.cli.loading import fetched
from polysense.errors import ConfigError
from polysense.storage import check_intact

if TYPE_CHECKING:
    from polysense.merging.lora_delta import Factors

_SHARED = ("model.language_model", "lm_head")  # what the senses of a MERA model have in common
_RECORDS = ("stage.json", "metrics.json")  # true of the model they came with, not of a merged one
_ADAPTER = "adapter_config.json"
_METHOD = "running_average"


def add(commands: Commands) -> None:
    """Add both commands."""
    merge = add_command(
        commands, "merge", "merge models, or adapters into a model, from folder to folder", run=_merge,
        about="""
            Merge a model with those that were trained from it, each one stage later, a few megabytes at a time
            whatever their size. By default that is MERA's running average: stage i counts 1/i, so two models are
            averaged. Of MERA checkpoints the language model is merged, and every sense is kept as it is. Instead of a
            model, a LoRA that peft saved may follow the first model: its change of the weights is merged exactly. That
            of a MERA stage counts what it did there, unless a method, a stage or options are given.""",
        examples="""
            polysense merge before after -o merged
            polysense merge before after -o merged --stage 3 --method task_arithmetic --options scale=0.5
            polysense merge before after -o merged --method ties --base first --shared model.layers
            polysense merge runs/mera/llama runs/mera/stages/stage-3-audio-*/adapters/stage-* -o merged""",
    )  # fmt: skip
    merge.add_argument("models", nargs="+", metavar="MODEL",
                       help="folder or owner/name: the earlier model, then later ones or adapters")  # fmt: skip
    _add_output(merge)
    merge.add_argument("--method", help=f"how to merge (default: {_METHOD}, or what an adapter says that it counts)")
    merge.add_argument("--stage", type=int, metavar="I",
                       help="stage of the second model (default: 2, or what an adapter says of itself)")  # fmt: skip
    merge.add_argument("--base", metavar="MODEL", help="the model before the first stage, for methods that need it")
    merge.add_argument("--shared", action="append", metavar="MODULE",
                       help="merge this module alone, and keep the rest; repeatable")  # fmt: skip
    merge.add_argument("--options", nargs="+", action="extend", default=[], metavar="KEY=VALUE",
                       help="options of the method, in YAML")  # fmt: skip
    add_imports(merge)
    export = add_command(
        commands, "export", "write what all stages changed of a language model as one peft adapter", run=_export,
        about="""
            Write the adapters of a MERA stage and of all stages before it, each with what it counts in the merge, as
            one LoRA of the summed rank: PeftModel.from_pretrained(language_model, OUT) then computes what the merged
            language model does. No connector is in it.""",
        examples="""
            polysense export runs/mera/stages/stage-3-audio-* -o adapter
            polysense export me/my-mera -o adapter --onto mera""",
    )  # fmt: skip
    export.add_argument("stage", metavar="STAGE", help="a MERA stage's folder, or owner/name on the Hub")
    _add_output(export)
    export.add_argument("--onto", choices=("llm", "mera"), default="llm",
                        help="what it will be loaded onto: the language model of the time before the first stage "
                             "alone, or inside a MERA model (default: %(default)s)")  # fmt: skip


def _add_output(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("-o", "--output", type=Path, required=True, metavar="DIR", help="folder to make")


def _merge(arguments: argparse.Namespace) -> int:
    from polysense.merging import get_merge_method, merge_folders
    from polysense.recipes.config import import_modules  # brings more than --help needs

    import_modules(arguments.imports)
    check_new(arguments.output)
    options = _options(arguments.options)
    models = [_folder(each) for each in arguments.models]
    adapted = [(each / _ADAPTER).exists() for each in models]
    if len(models) < 2 or adapted[0] or len(set(adapted[1:])) > 1:
        raise ConfigError("what is merged is a model, then models or adapters", where="merge",
                          fix="Give the earlier model first, then one or more of one kind.")  # fmt: skip
    if any(adapted):
        if any((arguments.base, arguments.shared)):
            raise ConfigError("an adapter is merged without base or shared modules", where=str(models[1]),
                              fix="Leave out --base and --shared.")  # fmt: skip
        _merge_adapters(models, arguments.output, arguments.method, arguments.stage, options)
    else:
        stage = 2 if arguments.stage is None else arguments.stage
        base = None if arguments.base is None else fetched(arguments.base)
        method = arguments.method or _METHOD
        get_merge_method(method).prepare(stage, options, has_base=base is not None)
        merge_folders(
            models, arguments.output, stage=stage, method=method, base=base,
            shared=arguments.shared or _shared_of(models[0]), finish=_forget, **options,
        )  # fmt: skip
    console.say(str(arguments.output))
    return 0


def _export(arguments: argparse.Namespace) -> int:
    from polysense.continual.peft_export import export_adapters

    check_new(arguments.output)
    rank = export_adapters(fetched(arguments.stage), arguments.output, base=arguments.onto)
    console.say(str(arguments.output))
    console.note(f"one adapter of rank {rank}")
    return 0


def check_new(folder: Path) -> None:
    """Raise `ConfigError` if something is there already."""
    if folder.exists():
        raise ConfigError("there is something already", where=folder, fix="Choose another place, or remove it.")


def _folder(name: str) -> Path:
    """An adapter's folder if it is intact, a model's after a look at whether it is safe."""
    path = Path(name)
    if not (path / _ADAPTER).exists():
        return fetched(name)
    check_intact(path)
    return path


def _options(given: Sequence[str]) -> dict[str, Any]:
    from polysense.recipes.plain_yaml import read_yaml

    options = {}
    for each in given:
        key, sign, value = each.partition("=")
        if not sign:
            raise ConfigError(f"the option {each!r} has no '='", where="--options", fix="Write key=value.")
        options[key] = read_yaml(value, f"--options {key}")
    return options


def _shared_of(model: Path) -> list[str] | None:
    """Modules to merge of a MERA model (a tied head is not stored); `None`, everything, of any other."""
    from polysense.merging.weight_files import read_headers
    from polysense.safety import read_json

    if read_json(model / "config.json").get("model_type") != "mera":
        return None
    keys = read_headers(model)
    return [module for module in _SHARED if any(key.startswith(f"{module}.") for key in keys)]


def _forget(folder: Path) -> None:
    for name in _RECORDS:
        (folder / name).unlink(missing_ok=True)


def _merge_adapters(
    models: Sequence[Path], output: Path, method: str | None, stage: int | None, options: Mapping[str, Any]
) -> None:
    """Add the deltas of adapters to a model, each with what its record says, or with what the arguments make it count.

    Raises:
        ConfigError: a method that is no sum of deltas, options that it cannot have, or an adapter of another model.
        CheckpointError: an adapter that cannot be read, or was trained on other weights.
    """
    from polysense.continual.adapter_checks import check_added, check_sum, stored_key
    from polysense.continual.stage_adapter import RECORD, coefficient_of, read_adapter, read_factors
    from polysense.merging import add_deltas
    from polysense.merging.streaming import check_apart
    from polysense.merging.weight_files import read_headers

    check_apart(output, models)
    if len({each.resolve() for each in models}) < len(models):
        raise ConfigError("an adapter is given twice", where="merge", fix="Give each of them once.")
    weights = read_headers(models[0])
    deltas: dict[str, list[Factors]] = {}
    for place, adapter in enumerate(models[1:]):
        known = read_adapter(adapter) if (adapter / RECORD).exists() else None
        number = known.stage if known and stage is None else (2 if stage is None else stage) + place
        if known and method is None and stage is None and not options:
            check_sum([known], adapter)
            coefficient = known.coefficient
        else:
            coefficient = coefficient_of(method or _METHOD, number, options)
        if coefficient is None:
            raise ConfigError(f"merge method {method!r} does not add up deltas", where=adapter,
                              fix="Merge the adapter with running_average, or merge whole models.")  # fmt: skip
        for key, (A, B, scaling) in (known.factors if known else read_factors(adapter)).items():
            own = stored_key(key, weights)  # a MERA stage's adapter may be meant for the bare language model
            deltas.setdefault(own, []).append((A, B, scaling * coefficient))
    check_added(models[0], models[1:])
    add_deltas(models[0], deltas, output, finish=_forget)
