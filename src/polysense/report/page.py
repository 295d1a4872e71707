"""The report of a run: one HTML file that needs nothing else, and the table and figures on their own."""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import jinja2

from polysense.report.curves import plot_curves, plot_scores
from polysense.report.retention import (
    RETENTION_LEGEND,
    Retention,
    final_stage,
    plot_retention,
    retention_tables,
    table_html,
)
from polysense.report.run import Run, read_run, stage_title
from polysense.report.style import to_png
from polysense.report.tables import (
    LEGEND,
    headlines,
    markdown_table,
    result_rows,
    stage_names,
    to_html,
    to_json,
    to_markdown,
)
from polysense.report.usage import snippet, usage
from polysense.storage import writing

_TITLES = {"unialign": "UniAlign", "comet": "COMET", "mera": "MERA"}


def write_report(folder: str | Path, galleries: Mapping[str, bytes] | None = None) -> Path:
    """Write `report/` of a run folder: report.html, table.md, table.json, curves.png, scores.png.

    Of MERA, scores.png shows what every stage still knows, for all methods that the folder holds.

    Args:
        folder: a run folder.
        galleries: heading to PNG; each is also kept as `report/<heading>.png`. A report written again without them
            shows those that are there.

    Returns:
        Path of report.html.

    Raises:
        CheckpointError: the folder has no stages, or one of their records is damaged.
        ConfigError: the report cannot be written.
    """
    run = read_run(folder)
    out = run.folder / "report"
    rows = result_rows(run.stages)
    names, tables = stage_names(rows, run.stages), retention_tables(run)
    figures = {
        "scores": plot_retention(run) if tables else plot_scores(rows, names),
        "curves": plot_curves(run.log, _panel_titles(run)),
    }
    pictures = {name: to_png(figure) for name, figure in figures.items() if figure is not None}
    texts = [markdown_table(each.title, each.head, each.rows, left=each.left) for each in tables]
    text = "\n\n".join([*texts, RETENTION_LEGEND]) + "\n" if tables else to_markdown(rows, names)
    page = out / "report.html"
    with writing(out):
        out.mkdir(exist_ok=True)
        for heading, picture in (galleries or {}).items():
            (out / f"{_file_name(heading)}.png").write_bytes(picture)
        shown = dict(galleries or _kept(out))
        for name, picture in pictures.items():
            (out / f"{name}.png").write_bytes(picture)
        (out / "table.md").write_text(text, encoding="utf-8")
        (out / "table.json").write_text(to_json(rows), encoding="utf-8")
        page.write_text(render_page(run, pictures, shown), encoding="utf-8")
    return page


def render_page(run: Run, pictures: Mapping[str, bytes], galleries: Mapping[str, bytes]) -> str:
    """The report as one self-contained HTML text.

    Args:
        pictures: PNGs named "scores" and "curves", where there are any.
        galleries: heading to PNG.
    """
    results = _results(run)
    records = [stage.record for stage in run.stages]
    embedded = {name: _data_uri(picture) for name, picture in pictures.items()}
    environment = jinja2.Environment(undefined=jinja2.StrictUndefined, autoescape=True, trim_blocks=True)
    template = environment.from_string((files(__package__) / "page_template.html").read_text(encoding="utf-8"))
    return template.render(
        **_about(run), usage=usage(run), snippet=snippet(run), **results,
        scores=embedded.get("scores"), curves=embedded.get("curves"),
        galleries=[(heading, _data_uri(picture)) for heading, picture in galleries.items()],
        stages=[_stage_line(record) for record in records],
        data=list({each["name"]: each for record in records for each in record.get("data", ())}.values()),
        limits=list(dict.fromkeys(limit for record in records for limit in record.get("limits", ()))),
        commands=list(dict.fromkeys(record["command"] for record in records if record.get("command"))),
        versions=", ".join(f"{name} {version}" for name, version in records[-1].get("versions", {}).items()),
        config=run.config,
    )  # fmt: skip


def _results(run: Run) -> dict[str, Any]:
    """The tables of the page, those that are folded away by their headings, and how to read them."""
    tables, rows = retention_tables(run), result_rows(run.stages)
    if tables:
        shown = "".join(map(table_html, tables))
        return {
            "headline_table": shown,
            "tables": _tables_of_methods(run),
            "legend": RETENTION_LEGEND.replace("*", ""),
        }
    names, main = stage_names(rows, run.stages), headlines(rows)
    folded = {f"All {len(rows)} measurements": to_html(rows, names)} if len(main) < len(rows) else {}
    return {"headline_table": to_html(main, names) if rows else "", "tables": folded,
            "legend": LEGEND.replace("*", "")}  # fmt: skip


def _tables_of_methods(run: Run) -> dict[str, str]:
    """All measurements of every method with their intervals, by heading."""
    out = {}
    for name, chain in (Retention(run).methods or {"one stage": run.stages}).items():
        rows = result_rows(chain)
        out[f"All measurements with intervals: {name}"] = to_html(rows, stage_names(rows, chain))
    return out


def _panel_titles(run: Run) -> dict[str, str]:
    """What stands above the learning curves of each stage: of several methods, whose it is."""
    kept = Retention(run)
    if len(kept.methods) < 2:
        return {}
    titles = {stage.name: f"{stage_title(stage.name)}, alone" for stage in run.stages}
    return titles | {stage.name: f"{stage_title(stage.name)}, {names}" for _, stage, names in kept.shared()}


def _about(run: Run) -> dict[str, Any]:
    """Title, sentence and figures at the head of the page."""
    records = [stage.record for stage in run.stages]
    last = final_stage(run).record
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
    return {"title": title, "lead": f"What came of {run.folder.resolve().name}, grown from {base}.", "facts": facts}


def _stage_line(record: Mapping[str, Any]) -> dict[str, str]:
    counts: Sequence[Sequence[int]] = list(record.get("parameters", {}).values())
    total, trainable = (sum(each[column] for each in counts) for column in (0, 1))
    return {
        "name": stage_title(str(record.get("name", ""))),
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
