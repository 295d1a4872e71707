"""Write what was measured from the reports: `python eval/readme.py` (`--check` only compares). Nothing is typed.

The README gets what a reader wants to know first, `docs/measured.md` every claim, gate and fault.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import fmean
from typing import Any

from polysense.metrics import UNDECIDED
from polysense.recipes.claims import NOT_MEASURED, ONE_SEED
from polysense.recipes.comet_scores import CARRIED

ROOT = Path(__file__).parents[1]
REPORTS = ROOT / "eval" / "reports"
BENCHMARKS = ("experts", "senses", "head", "generation", "training_cost", "padding", "merging", "fisher", "codebook",
              "published_codebook", "codebook_growth", "comet_step", "points", "captioning", "judge")  # fmt: skip
DECIDED = ("reproduced", "not reproduced")
VERDICTS = (*DECIDED, UNDECIDED, ONE_SEED, NOT_MEASURED)  # in the order in which they are told
DETAILS, FINDINGS = "docs/measured.md", "docs/findings.md"
BLOCK = re.compile(r"(<!-- generated: python eval/readme.py -->\n).*?(<!-- /generated -->)", re.DOTALL)


def read(name: str) -> dict[str, Any] | None:
    """A report, `None` if it was not made yet."""
    path = REPORTS / name
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else None


def percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def evidence(report: dict[str, Any]) -> Iterator[str]:
    """Zero-shot accuracy on the world."""
    yield (
        f"UniAlign on the embedded world, top-1 in percent, mean of as many seeds as stand beside a method "
        f"(`{report['command']}`):"
    )
    if not report["senses"]:
        yield ""
        return
    first: dict[str, Any] = next(iter(report["senses"].values()))
    joint, steps = (len(first["test"].get(method, {"seeds": ()})["seeds"]) for method in ("joint", "incremental"))
    bound = len(first["bound"]["seeds"])
    yield ""
    yield (
        f"| sense | chance | one phase ({joint}) [90 %] | one by one ({steps}) | supervised ({bound}) | share of "
        f"supervised |"
    )
    yield "|---|---|---|---|---|---|"
    for sense, entry in report["senses"].items():
        one: dict[str, Any] = entry["test"].get("joint", {})
        low, high = one.get("low"), one.get("high")
        spread = "" if low is None or high is None else f" [{percent(low)}, {percent(high)}]"
        figures = [entry["test"].get("incremental", {}).get("mean"), entry["bound"]["mean"], one.get("share_of_bound")]
        yield (
            f"| {sense} | {percent(entry['test']['chance'])} | {percent(one.get('mean'))}{spread} | "
            f"{' | '.join(map(percent, figures))} |"
        )
    yield ""


def growth(report: dict[str, Any]) -> Iterator[str]:
    """What MERA and its rivals keep of earlier senses on the world."""
    orders = ("sequential", "reverse")
    yield (
        f"MERA on the embedded world, backward relative gain over the stages in percent, mean of "
        f"as many seeds as stand beside a method, its deviation over the stages, and the forward gain of the later "
        f"stages (what each learns of its own sense, beside an expert that learned it alone; `{report['command']}`):"
    )
    yield ""
    yield f"| method | {' | '.join(f'{order} | deviation | forward' for order in orders)} |"
    yield "|---|---|---|---|---|---|---|"
    for method in report["gains"][orders[0]]:
        rows = [report["gains"][order].get(method) for order in orders]
        figures = [text for row in rows for text in _gains(row)]
        counts = dict.fromkeys(str(len(row["seeds"])) for row in rows if row)
        yield f"| {report['methods'][method]} ({' / '.join(counts)}) | {' | '.join(figures)} |"
    yield ""


def _gains(row: dict[str, Any] | None) -> list[str]:
    """A method's figures in one order: mean and deviation of what it keeps, and the mean of what it learns."""
    if row is None:
        return ["-"] * 3
    return [percent(value) for value in (row["mean"]["mean"], row["deviation"]["mean"], fmean(row["forward"][1:]))]


def sharing(report: dict[str, Any]) -> Iterator[str]:
    """What COMET and its rivals learn, keep and carry over in the paper's first order."""
    order = report["main"][0]
    pairs = ("V-T", "A-T", "I-T")
    yield (
        f"COMET on the embedded world, order {', '.join(report['orders'][order])}: each pair's average recall as "
        f"learned, and the share of it above chance that is kept to the end; what heads that learned from films or "
        f"sounds have above chance on the other in the end, mean of Table 1. All in percent, mean of as many seeds as "
        f"stand beside a method (`{report['command']}`):"
    )
    yield ""
    learned = [f"{pair} {what}" for pair in pairs for what in ("learned", "kept")][:-1]  # nothing comes after the last
    yield f"| method | {' | '.join(learned)} | carried over |"
    yield "|---" * (len(learned) + 2) + "|"
    rows = {
        name: report["memory"][order][name] for name in report["rows"]["compared"] if name in report["memory"][order]
    }
    for method, memory in rows.items():
        run = report["scores"][order][method]
        scores = [memory.get(pair, {}).get(what) for pair in pairs for what in ("plasticity", "retention")][:-1]
        scores.append(run["stages"][-1].get(CARRIED))
        figures = " | ".join(percent(each["mean"]) if each else "-" for each in scores)
        yield f"| {report['methods'][method]} ({len(run['seeds'])}) | {figures} |"
    chances = [next((each[pair]["chance"] for each in report["memory"][order].values() if pair in each), None)
               for pair in pairs]  # fmt: skip
    told = ["-" if each is None else percent(each) for each in chances]
    yield f"| chance | {' |  | '.join(told)} |  |"
    yield ""


def verdicts(claims: dict[str, Any]) -> Iterator[str]:
    """A line for every claim."""
    yield "| claim | measured as | value | verdict |"
    yield "|---|---|---|---|"
    for name, claim in claims.items():
        value = f"{claim.get('mean', claim['values'][0]):.3f}" if claim["values"] else "-"
        yield f"| {name} | {claim['measure']} | {value} | {claim['verdict']} |"
    yield ""


def speed() -> Iterator[str]:
    """Gates of the benchmarks, passed or not, and what they print beside: the peers."""
    for _, report in benchmarks():
        yield f"`{report['command']}`:"
        yield ""
        yield "| measure | value | gate | met |"
        yield "|---|---|---|---|"
        for gate in gates(report):
            wanted = bounds(gate)
            met = ("yes" if gate["passed"] else "no") if wanted else ""
            yield f"| {gate['name']} | {gate['value']:.3g} | {wanted} | {met} |"
        yield ""


def benchmarks() -> Iterator[tuple[str, dict[str, Any]]]:
    """Name and report of every benchmark that was run."""
    for name in BENCHMARKS:
        if (report := read(f"performance/{name}.json")) is not None:
            yield name, report


def bounds(gate: dict[str, Any]) -> str:
    """What a gate asks for; nothing if it is only printed."""
    asked = [f"{sign} {gate[key]:g}" for sign, key in (("≥", "at_least"), ("≤", "at_most")) if gate[key] is not None]
    return " and ".join(asked)


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


# ---- in few words ---------------------------------------------------------------------------------------------------


def in_short(claims: dict[str, Any]) -> Iterator[str]:
    """The claims that are decided, by name, and how many are not."""
    by_verdict: dict[str, list[str]] = {verdict: [] for verdict in VERDICTS}
    for name, claim in claims.items():
        by_verdict.setdefault(claim["verdict"], []).append(name)
    told = {verdict: f" ({', '.join(by_verdict[verdict])})" for verdict in DECIDED}
    words = {ONE_SEED: f"on {ONE_SEED}"}
    parts = [f"{len(names)} {words.get(verdict, verdict)}{told.get(verdict, '')}"
             for verdict, names in by_verdict.items() if names]  # fmt: skip
    yield f"Of {len(claims)} claims: {'; '.join(parts)}."
    yield ""


def speed_in_short() -> Iterator[str]:
    """How many gates are met, and those that are not."""
    found = [(name, gate) for name, report in benchmarks() for gate in gates(report) if bounds(gate)]
    if found:
        missed = [f"{name}: {gate['name']}, {gate['value']:.3g} ({bounds(gate)})"
                  for name, gate in found if not gate["passed"]]  # fmt: skip
        rest = f" Missed are: {'; '.join(missed)}." if missed else ""
        yield f"Of {len(found)} gates of the benchmarks (`eval/performance`) {len(found) - len(missed)} are met.{rest}"
        yield ""


def faults_in_short() -> Iterator[str]:
    """All fault sets together."""
    report = read("faults/faults.json")
    if report is not None:
        total = {
            key: sum(each[key] for each in report["classes"]) for key in ("injected", "detected", "lost", "silent")
        }
        yield (
            f"Of {total['injected']:,} faults injected (`{report['command']}`) {total['detected']:,} were detected; "
            f"{total['lost']} lost something, {total['silent']} passed unnoticed."
        )
        yield ""


REPORTED: dict[str, Callable[[dict[str, Any]], Iterator[str]]] = {
    "unialign-world": evidence, "mera-world": growth, "comet-world": sharing,
}  # fmt: skip


def figures() -> str:
    """What the README says."""
    lines: list[str] = []
    for name, table in REPORTED.items():
        if (report := read(f"{name}.json")) is not None:
            lines += [*table(report), *in_short(report["claims"])]
    lines += [*speed_in_short(), *faults_in_short()]
    details, findings = (f"[{path}]({path})" for path in (DETAILS, FINDINGS))
    lines.append(f"Every claim, gate and fault: {details}. Why the world may disagree with the papers: {findings}.")
    return "\n".join(lines)


def details() -> str:
    """Everything, one section a report."""
    lines = ["# What was measured", "", "Made by `python eval/readme.py` from the reports in `eval/reports`.", ""]
    for name, table in REPORTED.items():
        if (report := read(f"{name}.json")) is not None:
            title = name.removesuffix("-world")
            lines += [f"## {title}", "", *table(report), f"![{title}](../eval/reports/{name}.png)", ""]
            lines += [*verdicts(report["claims"])]
            if fresh := report.get("fresh", {}).get("claims"):
                lines += ["On worlds of other seeds, from which nothing was chosen:", "", *verdicts(fresh)]
    return "\n".join([*lines, "## Speed and memory", "", *speed(), "## Faults", "", *faults()])


def main(arguments: list[str]) -> int:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    made = {"README.md": BLOCK.sub(lambda match: f"{match[1]}{figures()}\n{match[2]}", text), DETAILS: details()}
    paths = {ROOT / name: content for name, content in made.items()}
    if "--check" in arguments:
        return int(any(not path.exists() or path.read_text(encoding="utf-8") != text for path, text in paths.items()))
    for path, content in paths.items():
        path.parent.mkdir(exist_ok=True)
        path.write_text(content, encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
