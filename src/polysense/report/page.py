"""The report of a run: one HTML file that needs nothing else, and the table and figures on their own."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from polysense.report.curves import plot_curves, plot_scores
from polysense.report.run import Run, read_run
from polysense.report.style import to_png
from polysense.report.tables import LEGEND, headlines, result_rows, stage_names, to_html, to_json, to_markdown

_ARGUMENTS = {"image": "images", "video": "videos"}
_TITLES = {"unialign": "UniAlign", "comet": "COMET", "mera": "MERA"}


def write_report(folder: str | Path, galleries: Mapping[str, bytes] | None = None) -> Path:
    """Write `report/` of a run folder: report.html, table.md, table.json, curves.png, scores.png.

    Args:
        folder: a run folder.
        galleries: heading to PNG; each is also kept as `report/<heading>.png`. A report written again without them
            shows those that are there.

    Returns:
        Path of report.html.

    Raises:
        CheckpointError: the folder has no stages, or one of their records is damaged.
    """
    run = read_run(folder)
    out = run.folder / "report"
    out.mkdir(exist_ok=True)
    rows = result_rows(run.stages)
    names = stage_names(rows, run.stages)
    figures = {"scores": plot_scores(rows, names), "curves": plot_curves(run.log)}
    pictures = {name: to_png(figure) for name, figure in figures.items() if figure is not None}
    for heading, picture in (galleries or {}).items():
        (out / f"{_file_name(heading)}.png").write_bytes(picture)
    shown = dict(galleries or _kept(out))
    for name, picture in pictures.items():
        (out / f"{name}.png").write_bytes(picture)
    (out / "table.md").write_text(to_markdown(rows, names), encoding="utf-8")
    (out / "table.json").write_text(to_json(rows), encoding="utf-8")
    page = out / "report.html"
    page.write_text(render_page(run, pictures, shown), encoding="utf-8")
    return page


def render_page(run: Run, pictures: Mapping[str, bytes], galleries: Mapping[str, bytes]) -> str:
    """The report as one self-contained HTML text.

    Args:
        pictures: PNGs named "scores" and "curves", where there are any.
        galleries: heading to PNG.
    """
    rows = result_rows(run.stages)
    names, main = stage_names(rows, run.stages), headlines(rows)
    records = [stage.record for stage in run.stages]
    embedded = {name: _data_uri(picture) for name, picture in pictures.items()}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True)
    template = environment.from_string((files(__package__) / "page_template.html").read_text(encoding="utf-8"))
    return template.render(
        **_about(run), snippet=snippet(run), rows=len(rows), legend=LEGEND.replace("*", ""),
        scores=embedded.get("scores"), curves=embedded.get("curves"),
        galleries=[(heading, _data_uri(picture)) for heading, picture in galleries.items()],
        headline_table=to_html(main, names),
        full_table=to_html(rows, names) if len(main) < len(rows) else "",
        stages=[_stage_line(record) for record in records],
        data=list({each["name"]: each for record in records for each in record.get("data", ())}.values()),
        limits=list(dict.fromkeys(limit for record in records for limit in record.get("limits", ()))),
        commands=list(dict.fromkeys(record["command"] for record in records if record.get("command"))),
        versions=", ".join(f"{name} {version}" for name, version in records[-1].get("versions", {}).items()),
        config=run.config,
    )  # fmt: skip


def snippet(run: Run) -> str:
    """The Python that embeds a user's file with the last stage of a run."""
    last = run.stages[-1]
    place = (run.folder / "stages" / last.name).as_posix()
    modality = [*last.record.get("modalities", ["image"])][-1]
    argument = _ARGUMENTS.get(modality, modality)
    return (
        "import polysense, transformers\n"
        f'model, processor = (auto.from_pretrained("{place}") '
        "for auto in (transformers.AutoModel, transformers.AutoProcessor))\n"
        f'embedding = model.embed("{modality}", processor({argument}=["your-file"]))'
    )


def _about(run: Run) -> dict[str, Any]:
    """Title, sentence and figures at the head of the page."""
    records = [stage.record for stage in run.stages]
    last = records[-1]
    senses = [sense.replace("_", " ") for sense in last.get("modalities", ())]
    listed = ", ".join(senses[:-1]) + f" and {senses[-1]}" if len(senses) > 1 else "".join(senses)
    base = last.get("base_model", {}).get("name", "its base model")
    facts = {
        "senses": len(senses),
        "stages": len(records),
        "optimiser steps": f"{sum(record.get('steps', 0) for record in records):,}",
        "training time": f"{sum(record.get('seconds', 0) for record in records) / 60:.1f} min",
        "seed": last.get("seed", "-"),
        "base model": base,
    }
    title = f"{_TITLES.get(last.get('system', ''), 'Run')} with {listed}"
    return {"title": title, "lead": f"What came of {run.folder.name}, grown from {base}.", "facts": facts}


def _stage_line(record: Mapping[str, Any]) -> dict[str, str]:
    counts: Sequence[Sequence[int]] = list(record.get("parameters", {}).values())
    total, trainable = (sum(each[column] for each in counts) for column in (0, 1))
    return {
        "name": str(record.get("name", "")),
        "trained": ", ".join(record.get("trained", ())),
        "modalities": ", ".join(record.get("modalities", ())),
        "steps": f"{record.get('steps', 0):,}",
        "seconds": f"{record.get('seconds', 0):.0f}",
        "total": f"{total:,}",
        "trainable": f"{trainable:,} ({100 * trainable / max(total, 1):.1f} %)",
    }


def _kept(out: Path) -> dict[str, bytes]:
    """Galleries that an earlier report left."""
    own = {"scores", "curves"}
    found = [path for path in sorted(out.glob("*.png")) if path.stem not in own]
    return {path.stem.replace("-", " ").capitalize(): path.read_bytes() for path in found}


def _file_name(heading: str) -> str:
    return "-".join("".join(c if c.isalnum() else " " for c in heading.lower()).split())


def _data_uri(png: bytes) -> str:
    return "data:image/png;base64," + base64.b64encode(png).decode()
