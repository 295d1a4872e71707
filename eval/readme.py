"""Write the README's figures from the reports: `python eval/readme.py` (`--check` only compares). Nothing is typed."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "eval" / "reports"
BENCHMARKS = ("experts", "senses", "head", "generation", "training_cost", "padding", "merging", "fisher", "codebook",
              "published_codebook", "codebook_growth", "comet_step", "points", "captioning", "judge")  # fmt: skip
BLOCK = re.compile(r"(<!-- generated: python eval/readme.py -->\n).*?(<!-- /generated -->)", re.DOTALL)


def read(name: str) -> dict[str, Any] | None:
    """A report, `None` if it was not made yet."""
    path = REPORTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def percent(value: float) -> str:
    return f"{100 * value:.1f}"


def evidence() -> Iterator[str]:
    """Zero-shot accuracy on the world, and the verdicts on the paper's claims."""
    report = read("unialign-world.json")
    if report is None:
        return
    yield f"UniAlign on the embedded world, top-1 in percent, {len(report['seeds'])} seeds (`{report['command']}`):"
    yield ""
    yield "| sense | chance | one phase [90 %] | one by one | supervised | share of supervised |"
    yield "|---|---|---|---|---|---|"
    for sense, entry in report["senses"].items():
        joint, steps = entry["test"]["joint"], entry["test"]["incremental"]
        yield (
            f"| {sense} | {percent(entry['test']['chance'])} | {percent(joint['mean'])} [{percent(joint['low'])}, "
            f"{percent(joint['high'])}] | {percent(steps['mean'])} | {percent(entry['bound']['mean'])} | "
            f"{percent(joint['share_of_bound'])} |"
        )
    yield ""
    yield from verdicts(report["claims"])


def growth() -> Iterator[str]:
    """What MERA and its rivals keep of earlier senses on the world, and the verdicts on the paper's claims."""
    report = read("mera-world.json")
    if report is None:
        return
    orders = ("sequential", "reverse")
    yield (
        f"MERA on the embedded world, backward relative gain over the stages in percent, mean of "
        f"{len(report['seeds'])} seeds at most, and its deviation over the stages (`{report['command']}`):"
    )
    yield ""
    yield f"| method | {' | '.join(f'{order} | deviation' for order in orders)} |"
    yield "|---|---|---|---|---|"
    for method in report["gains"][orders[0]]:
        rows = [report["gains"][order].get(method) for order in orders]
        figures = [
            percent(row[what]["mean"]) if row else "-" for row in rows for what in ("mean", "deviation")
        ]  # fmt: skip
        yield f"| {report['methods'][method]} | {' | '.join(figures)} |"
    yield ""
    yield from verdicts(report["claims"])


def sharing() -> Iterator[str]:
    """What COMET and its rivals learn, keep and carry over in the paper's first order, and the verdicts."""
    report = read("comet-world.json")
    if report is None:
        return
    order = report["main"][0]
    pairs = ("V-T", "A-T", "I-T")
    beside: dict[str, Any] = next(iter(report["references"].values()), {})
    last = [beside.get(name, {}) for name in report["columns"]["transfer"]]
    chance = [each["chance"] for each in last if each.get("chance") is not None]
    yield (
        f"COMET on the embedded world, order {', '.join(report['orders'][order])}: each pair's average recall as "
        f"learned and the share of it that is kept to the end; the average transfer of Table 1 after the last stage"
        f"{f' (chance {percent(fmean(chance))})' if chance else ''}. All in percent, mean of {len(report['seeds'])} "
        f"seeds at most (`{report['command']}`):"
    )
    yield ""
    yield f"| method | {' | '.join(f'{pair} learned | kept' for pair in pairs)} | transfer |"
    yield "|---|---|---|---|---|---|---|---|"
    for method, memory in report["memory"][order].items():
        scores = [memory.get(pair, {}).get(what) for pair in pairs for what in ("plasticity", "retention")]
        scores.append(report["scores"][order][method]["stages"][-1].get("transfer"))
        figures = " | ".join(percent(each["mean"]) if each else "-" for each in scores)
        yield f"| {report['methods'][method]} | {figures} |"
    yield ""
    yield from verdicts(report["claims"])


def verdicts(claims: dict[str, Any]) -> Iterator[str]:
    """A line for every claim."""
    yield "| claim | measured as | value | verdict |"
    yield "|---|---|---|---|"
    for name, claim in claims.items():
        value = f"{claim.get('mean', claim['values'][0]):.3f}" if claim["values"] else "-"
        yield f"| {name} | {claim['measure']} | {value} | {claim['verdict']} |"
    yield ""


def speed() -> Iterator[str]:
    """Gates of the benchmarks, passed or not."""
    for name in BENCHMARKS:
        report = read(f"performance/{name}.json")
        if report is None:
            continue
        yield f"`{report['command']}`:"
        yield ""
        yield "| measure | value | gate | met |"
        yield "|---|---|---|---|"
        for gate in gates(report):
            bounds = [f"≥ {gate['at_least']:g}" if gate["at_least"] is not None else "",
                      f"≤ {gate['at_most']:g}" if gate["at_most"] is not None else ""]  # fmt: skip
            wanted = " and ".join(filter(None, bounds))
            if wanted:
                yield f"| {gate['name']} | {gate['value']:.3g} | {wanted} | {'yes' if gate['passed'] else 'no'} |"
        yield ""


def gates(report: dict[str, Any]) -> list[dict[str, Any]]:
    """The gates of a benchmark: a list, or ratios beside the least that each is to reach."""
    if "rows" not in report:
        return list(report["gates"])
    return [
        {"name": row["name"], "value": row["ratio"], "at_least": report["gates"].get(row["name"]), "at_most": None,
         "passed": row["name"] not in report["failed"]}
        for row in report["rows"]
    ]  # fmt: skip


def faults() -> Iterator[str]:
    """The fault sets in one line each."""
    report = read("faults/faults.json")
    if report is None:
        return
    yield f"Faults injected into training and reading (`{report['command']}`):"
    yield ""
    yield "| fault | injected | detected | lost | silent |"
    yield "|---|---|---|---|---|"
    for each in report["classes"]:
        yield f"| {each['name']} | {each['injected']} | {each['detected']} | {each['lost']} | {each['silent']} |"
    yield ""


def figures() -> str:
    """The generated block."""
    return "\n".join([*evidence(), *growth(), *sharing(), *speed(), *faults()])


def main(arguments: list[str]) -> int:
    path = ROOT / "README.md"
    text = path.read_text(encoding="utf-8")
    made = BLOCK.sub(lambda match: f"{match[1]}{figures()}\n{match[2]}", text)
    if "--check" in arguments:
        return int(made != text)
    path.write_text(made, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
