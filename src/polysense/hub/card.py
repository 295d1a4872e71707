"""Model cards, rendered from what a run wrote down: no figure on a card is typed by hand."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2
from huggingface_hub import EvalResult, ModelCardData

from polysense.hub.gains import StageGains, chain_gains
from polysense.hub.limits import limits
from polysense.hub.public import redacted
from polysense.hub.quick_start import outcome, quick_start
from polysense.hub.records import check_metrics, check_stage, lineage, read_metrics, read_stage
from polysense.modality import JsonValue
from polysense.processing import BUILT_IN

_PIPELINES = {"unialign": "feature-extraction", "comet": "feature-extraction", "mera": "image-text-to-text"}
_TITLES = {"unialign": "UniAlign", "comet": "COMET", "mera": "MERA"}
_RANKS = ("median_rank", "mean_rank")  # the metrics that are no shares
_HUNDREDTHS = "CIDEr"  # how the metrics begin that papers print times 100 though they may exceed 1
_BOUNDS = {"comet": "the same head, trained on the sense that it is tested on"}
_SUPERVISED = "a model of the same size trained with labels for that sense alone"
_MINUTE = 60
_DIGITS = 4  # of a figure in the metadata


def render_card(
    stage: Mapping[str, JsonValue],
    metrics: Mapping[str, JsonValue] | None = None,
    *,
    history: Sequence[Mapping[str, JsonValue]] = (),
    gains: Mapping[str, StageGains] | None = None,
) -> str:
    """The README.md of one stage's folder. Local paths are shortened and secrets removed on the way.

    Args:
        stage: content of `stage.json`.
        metrics: content of `metrics.json`; `None` when the stage was not evaluated.
        history: `stage.json` of the earlier stages, first to last.
        gains: name to the relative gains of a stage, where they are known.

    Raises:
        CheckpointError: a key is missing or of the wrong type.
    """
    stage = _redacted(check_stage(stage))
    metrics = None if metrics is None else _redacted(check_metrics(metrics))
    stages = [*(_redacted(check_stage(each)) for each in history), stage]
    results = [_shown(each) for each in metrics["results"]] if metrics else []
    total, trainable = (sum(column) for column in zip(*stage["parameters"].values(), strict=True))
    title = f"{_TITLES.get(stage['system'], stage['system'])}: {', '.join(stage['modalities'])}"
    return _template().render(
        card_data=_card_data(stage, stages, metrics).to_yaml(),
        title=title,
        summary=_summary(stage),
        quick_start=quick_start(stage),
        outcome=outcome(stage),
        unregistered=[name for name in stage["modalities"] if name not in BUILT_IN],
        history=stages,
        limits=limits(stage, metrics),
        merges=[_merged(each, (gains or {}).get(each["name"])) for each in stages if each["system"] == "mera"],
        stage=stage,
        metrics=metrics,
        results=results,
        bound=_BOUNDS.get(stage["system"], _SUPERVISED)
        if any(each.get("upper_bound") is not None for each in results) else "",
        hundredths=any(each["metric"].startswith(_HUNDREDTHS) for each in results),
        judgements=_judgements(metrics),
        codebook=_codebook(metrics),
        parameters={"total": total, "trainable": trainable, "share": f"{100 * trainable / max(total, 1):.1f} %"},
        hyperparameters=_flat(stage["hyperparameters"]),
        duration=_duration(stage["seconds"]),
        base_models=_base_models(stages),
    )  # fmt: skip


def card_of_folder(folder: str | Path) -> str:
    """The card of a stage's folder; the stages beside it give the history.

    Raises:
        CheckpointError: `stage.json` (or a `metrics.json` that is there) is missing, damaged or incomplete.
    """
    folder = Path(folder)
    stage = read_stage(folder)
    gains = chain_gains(folder) if stage["system"] == "mera" else {}
    return render_card(stage, read_metrics(folder), history=lineage(folder), gains=gains)


def _template() -> jinja2.Template:
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, keep_trailing_newline=True, autoescape=False)
    environment.filters["cell"] = _cell
    environment.filters["commit"] = _commit
    return environment.from_string((files(__package__) / "card_template.md").read_text(encoding="utf-8"))


def _cell(value: object) -> str:
    """Text that stays inside its cell of a Markdown table."""
    return " ".join(str("not stated" if value is None else value).split()).replace("|", "\\|").replace("<", "&lt;")


def _commit(name: str | None) -> str:
    """A commit in words; "+" after it says that files differed from it (`recipes.provenance.commit`)."""
    if not name:
        return "commit unknown"
    changed = " with changes that were not committed" if name.endswith("+") else ""
    return f"commit `{name.removesuffix('+')}`{changed}"


def _card_data(
    stage: Mapping[str, Any], stages: Sequence[Mapping[str, Any]], metrics: Mapping[str, Any] | None
) -> ModelCardData:
    results = [
        EvalResult(
            task_type=_slug(each["task"]), task_name=f"{each['task']} ({each['modality']})",
            dataset_type=_slug(each["dataset"]), dataset_name=each["dataset"],
            metric_type=each["metric"], metric_name=f"{each['metric']} ({each['modality']})",
            metric_value=round(each["value"], _DIGITS), dataset_config=each["modality"],
        )
        for each in _headlines(metrics)
    ]  # fmt: skip
    bases = [each["name"] for each in _base_models(stages) if _is_repository(each["name"])]
    return ModelCardData(
        library_name="polysense",
        pipeline_tag=_PIPELINES.get(stage["system"]),
        license="apache-2.0",
        base_model=bases or None,
        datasets=[each["name"] for each in stage["data"] if _is_repository(each["name"])] or None,
        tags=["polysense", stage["system"], "multimodal", "modality-incremental", *stage["modalities"]],
        model_name=f"polysense-{stage['system']}-{stage['name']}",
        eval_results=results or None,
    )


def _headlines(metrics: Mapping[str, Any] | None) -> list[Mapping[str, Any]]:
    """One figure of every sense and data set: the Hub lists those of the metadata, and the card's table has all."""
    first: dict[tuple[str, str], Mapping[str, Any]] = {}
    for each in metrics["results"] if metrics else ():
        first.setdefault((each["modality"], each["dataset"]), each)
    return list(first.values())


def _summary(stage: Mapping[str, Any]) -> str:
    trained = ", ".join(stage["trained"]) or "nothing new"
    senses = [sense for sense in stage["modalities"] if sense != "text" or stage["system"] != "mera"]
    counted = f"{len(senses)} sense{'s' if len(senses) > 1 else ''}"
    what = f"{counted} in one embedding space, grown one at a time"
    if stage["system"] == "mera":
        what = f"a language model that answers about files of {counted} ({', '.join(senses)}), learned one at a time"
    if stage["system"] == "comet":
        what = f"one discrete codebook that {counted} share ({', '.join(senses)}), grown one pair at a time"
    return (
        f"A polysense checkpoint: {what}. Stage {stage['stage']} ({stage['name']}) trained {trained}, on "
        f"{stage['parent'] or stage['base_model']['name']}."
    )


def _merged(stage: Mapping[str, Any], gains: StageGains | None) -> dict[str, Any]:
    """How a stage was merged into the language model, and what it left of the senses, as text."""
    merge, rounding = dict(stage.get("merge") or {}), "-"
    if errors := merge.get("rounding"):
        rounding = f"{errors['once']:.2g} / {errors['by_stage']:.2g}"
    method = merge.get("method") or ("added whole" if merge else "-")
    options = ", ".join(f"{key} {value}" for key, value in dict(merge.get("options") or {}).items())
    counts = merge.get("coefficient")
    shares = {"backward": None, "forward": None} if gains is None else asdict(gains)
    return {
        "stage": stage["stage"], "learned": ", ".join(stage["trained"]),
        "method": f"{method} ({options})" if options else method, "counts": "-" if counts is None else f"{counts:.4g}",
        "rounding": rounding, **{key: "-" if each is None else f"{100 * each:.1f}" for key, each in shares.items()},
    }  # fmt: skip


def _judgements(metrics: Mapping[str, Any] | None) -> list[dict[str, str]]:
    """Who judged the answers to questions, data set by data set, and how much could be judged."""
    found = dict((metrics or {}).get("judgements") or {})
    return [
        {"dataset": name, "judge": str(each.get("judge")), "answers": f"{each.get('answers', 0):,}",
         "coverage": f"{100 * each.get('coverage', 0.0):.1f}",
         "complete": "yes" if each.get("complete") else "no: it is not among the figures"}
        for name, each in found.items()
    ]  # fmt: skip


def _codebook(metrics: Mapping[str, Any] | None) -> dict[str, Any]:
    """How large a codebook is, and how its codes were used on the samples that have all senses."""
    sizes = list(((metrics or {}).get("codebook") or {}).get("sizes") or [])
    codes = (metrics or {}).get("codes") or {}
    used = [
        {"sense": sense, "active": f"{100 * sum(hit > 0 for hit in hits) / max(len(hits), 1):.1f}",
         "perplexity": f"{codes['perplexity'][sense]:.1f}"}
        for sense, hits in (codes.get("hits") or {}).items()
    ]  # fmt: skip
    shared = [f"{number}: {100 * share:.1f} %" for number, share in (codes.get("active_in") or {}).items()]
    dead = f"{100 * codes['dead']:.1f}" if "dead" in codes else ""
    return {"sizes": sizes, "total": sum(sizes), "used": used, "shared": ", ".join(shared), "dead": dead}


def _shown(result: Mapping[str, Any]) -> dict[str, Any]:
    """One result with its figures as text."""

    def shown(key: str) -> str:
        value = result.get(key)
        if value is None:
            return "-"
        return f"{value:.1f}" if result["metric"] in _RANKS else f"{100 * value:.1f}"

    interval = f" [{shown('low')}, {shown('high')}]" if result.get("low") is not None else ""
    return {
        **result,
        "shown": shown("value") + interval,
        "shown_chance": shown("chance"),
        "shown_bound": shown("upper_bound"),
        "shown_count": "-" if result.get("count") is None else f"{result['count']:,}",
    }


def _base_models(stages: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Every base model of the whole history, once."""
    return list({each["base_model"]["name"]: each["base_model"] for each in stages}.values())


def _flat(values: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    out: dict[str, Any] = {}
    for name, value in values.items():
        nested = isinstance(value, Mapping) and value
        out |= _flat(value, f"{prefix}{name}.") if nested else {f"{prefix}{name}": value}
    return out


def _duration(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), _MINUTE)
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _slug(text: str) -> str:
    return "-".join(text.lower().split())


def _is_repository(name: str) -> bool:
    """Whether a name can be a repository of the Hub (`owner/name`), as the metadata block wants it."""
    owner, slash, rest = name.partition("/")
    return (
        bool(slash and owner not in {"", ".", "..", "..."} and rest)
        and not set(name) & set(" \\:")
        and "/" not in rest
    )


def _redacted(value: Any) -> Any:
    if isinstance(value, str):
        return redacted(value)
    if isinstance(value, Mapping):
        return {redacted(str(key)): _redacted(item) for key, item in value.items()}
    return [_redacted(item) for item in value] if isinstance(value, list | tuple) else value


__all__ = ["card_of_folder", "render_card"]
