"""The tables of the READMEs, generated from tests/bench/results/*.json.

    python tests/bench/tables.py                              write them (make tables)
    python tests/bench/tables.py --check                      exit code 1 where one is out of date
    python tests/bench/tables.py record NAME -- COMMAND...    run a bench that prints JSON (--json),
                                                              keep it as results/NAME-DATE.json

A table stands between the lines `<!-- table NAME -->` and `<!-- end -->` of a page. Below it stand
the script, the date, the commit and the machine of its figures, as the result file knows them.
"""

from __future__ import annotations

import json
import os
import platform
import re
import subprocess
import sys
import tomllib
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from functools import cache
from importlib.metadata import version
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "tests" / "bench" / "results"
PUBLISHED = ROOT / "tests" / "bench" / "published.toml"
PAGES = tuple(ROOT / page for page in ("README.md", "configs/README.md", "tests/bench/README.md"))
MARKED = re.compile(r"(<!-- table ([\w-]+) -->\n).*?(<!-- end -->)", re.DOTALL)
KNOWS = re.compile(r"Knows of the solution: (.*?)\.(?: |$)")
SETTINGS = ("-anagram", "-amstramgram")  # configs whose rule and setting are the source's

Result = dict[str, Any]


def results(kind: str) -> list[Result]:
    """The result files of a kind, the oldest first."""
    paths = sorted(RESULTS.glob(f"{kind}-????-??-??.json"))
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def provenance(script: str) -> Result:
    """What a result file says of itself: script, date, commit, machine."""

    def git(*words: str) -> str:
        return subprocess.run(
            ["git", *words], cwd=ROOT, capture_output=True, text=True, check=True
        ).stdout.strip()

    changed = ", with changes" if git("status", "--porcelain", "--untracked-files=no") else ""
    return {
        "script": script,
        "date": str(date.today()),
        "commit": git("rev-parse", "--short", "HEAD") + changed,
        "machine": f"{os.cpu_count()} cores {platform.machine()}, jax {version('jax')}, "
        f"Python {platform.python_version()}",
    }


def record(name: str, command: Sequence[str]) -> Path:
    """Run a bench that prints JSON on stdout, as one value or one object a line; keep it with its
    provenance. A list of rows is kept under `rows`."""
    printed = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True).stdout
    try:
        found = json.loads(printed)
    except json.JSONDecodeError:
        lines = [line for line in printed.splitlines() if line.startswith(("{", "["))]
        values = [json.loads(line) for line in lines]
        found = values[0] if len(values) == 1 else values
    body = found if isinstance(found, dict) else {"rows": found}
    path = RESULTS / f"{name}-{date.today()}.json"
    text = json.dumps(provenance(" ".join(command)) | body, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    return path


def number(value: float | None, digits: int = 1) -> str:
    """A figure as 2.7e-16, or as 0.42 where that is shorter."""
    if value is None:
        return ""
    if 0.01 <= abs(value) < 1000:
        return f"{value:.{digits + 1}g}"
    return re.sub(r"e\+?(-?)0?", r"e\1", f"{value:.{digits}e}")


def spread(row: Result, key: str) -> str:
    """'mean ± standard deviation' of a quantity of a row of table.py; the mean of one run."""
    mean, deviation = row[f"{key}_mean"], row[f"{key}_std"]
    return number(mean) + ("" if deviation is None else f" ± {number(deviation, 0)}")


def markdown(columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> str:
    """A table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "".join(f"| {' | '.join(str(cell) for cell in line)} |\n" for line in lines)


def told(*sources: Result) -> str:
    """The lines below a table: where its figures are from."""
    lines = []
    for source in sources:
        commit = source["commit"] or "not recorded"
        if source.get("entered"):
            commit += f" (figures entered with {source['entered']})"
        note = f" {source['note']}" if source.get("note") else ""
        script, machine = source["script"], source["machine"]
        lines.append(f"*{script}; {source['date']}; commit {commit}; {machine}.{note}*\n")
    return "\n" + "\n".join(lines)


@cache
def published() -> dict[str, Result]:
    """What published.toml says of each config."""
    return tomllib.loads(PUBLISHED.read_text(encoding="utf-8"))


def seeds() -> dict[str, Result]:
    """The newest row of table.py for each config, with its date."""
    found: dict[str, Result] = {}
    for result in results("table"):
        found |= {name: row | {"date": result["date"]} for name, row in result["rows"].items()}
    return found


def knows(config: str) -> str:
    """What a config knows of the solution, from its first comment."""
    lines = (ROOT / "configs" / f"{config}.toml").read_text(encoding="utf-8").splitlines()
    comment = " ".join(line[2:] for line in lines if line.startswith("# "))
    found = KNOWS.match(comment)
    assert found, f"configs/{config}.toml: expected the first comment to say what it knows"
    return found[1]


@cache
def rms(config: str) -> float:
    """The rms of u over the evaluation set of a config's problem, in units of u."""
    import numpy as np

    from distgram.linalg.precision import set_precision
    from distgram.pde.registry import get

    set_precision()
    table = tomllib.loads((ROOT / "configs" / f"{config}.toml").read_text(encoding="utf-8"))
    known = get(table["problem"]["name"], table["problem"].get("parameters")).known()
    assert known is not None
    return float(np.sqrt(np.mean(known.u**2)))


def theirs(entry: Result) -> str:
    """A published figure and its setting."""
    relative = " relative" if entry.get("relative") else ""
    figure = f" {re.sub('0e', 'e', number(entry['l2'], 2))}{relative}" if "l2" in entry else ""
    return f"{entry['by']}{figure} ({entry['setting']})"


def front() -> str:
    """The table of the first page: what a config knows stands before its figure."""
    rows, plain = [], results("plain")[-1]["rows"]
    for name, about in published().items():
        ours = seeds()[name]
        without = [
            f"{number(r['l2_error'])} ({r['setting']})" for r in plain if r["problem"] == name
        ]
        rows.append(
            [
                f"[{about['title']}](configs/{name}.toml)",
                knows(name),
                spread(ours, "l2_error"),
                number(ours["l2_error_mean"] / rms(name)),
                "; ".join(without) or "not measured",
                "; ".join(map(theirs, about["published"])),
            ]
        )
    columns = ["problem", "our config knows of the solution", "L2 error", "relative"]
    return markdown([*columns, "L2 error without that, one seed", "published L2 error"], rows)


def gallery() -> str:
    """One row and one picture a problem."""
    rows = []
    for name, about in published().items():
        ours = seeds()[name]
        rows.append(
            [
                f"![{about['title']}: u over its domain](pictures/{name}.png)",
                f"**{about['title']}**: {about['equation']}",
                knows(name),
                f"{spread(ours, 'l2_error')} of {number(rms(name), 2)}",
                f"{ours['seconds_mean']:.0f} s, {ours['steps_mean']:.0f} steps",
                f"[{name}.toml]({name}.toml)",
            ]
        )
    columns = ["u", "equation", "the config knows of the solution", "L2 error, of rms u", "solving"]
    return markdown([*columns, "config"], rows) + told(*results("table"))


def ten_seeds() -> str:
    """Every config that has been run over the seeds."""
    rows = []
    for name, row in sorted(seeds().items(), key=lambda item: _order(item[0])):
        ended = ", ".join(f"{reason} {count}" for reason, count in sorted(row["reasons"].items()))
        quantities = ("l2_error", "mean_square_residual", "heldout_residual")
        rows.append(
            [name, row["runs"], knows(name), *(spread(row, q) for q in quantities)]
            + [f"{row['steps_mean']:.0f}", f"{row['seconds_mean']:.0f}", ended, row["date"]]
        )
    columns = ["config", "seeds", "it knows of the solution", "L2 error", "residual", "held-out"]
    table = markdown([*columns, "steps", "seconds", "ended", "date"], rows)
    return table + told(*results("table"))


def _order(config: str) -> tuple[int, int, str]:
    """The order of published.toml, then the source's rules, then the baselines."""
    problem = config
    for ending in SETTINGS:
        problem = problem.removesuffix(ending)
    names = list(published())
    kind = 0 if config in names else 1 if problem != config else 2
    return kind, names.index(problem) if problem in names else len(names), config


def without_knowledge() -> str:
    """The single runs that know nothing of the solution, with their commands."""
    result = results("plain")[-1]
    rows = [
        [r["problem"], r["setting"]]
        + [number(r[k]) for k in ("l2_error", "relative_l2_error")]
        + [number(r[k]) for k in ("mean_square_residual", "heldout_residual")]
        + [r["steps"], f"{r['seconds']:.0f}", r["reason"], f"`{r['arguments']}`"]
        for r in result["rows"]
    ]
    columns = ["problem", "setting", "L2 error", "relative", "residual", "held-out", "steps"]
    return markdown([*columns, "seconds", "ended", "arguments"], rows) + told(result)


def acceleration() -> str:
    """Loss and L2 error when three quarters of the plain run's time are over."""
    result = results("acceleration")[-1]
    rows = []
    for problem in dict.fromkeys(r["problem"] for r in result["rows"]):
        cells = [problem]
        for variant in ("plain", "accelerated"):
            runs = [r for r in result["rows"] if (r["problem"], r["variant"]) == (problem, variant)]
            at = [r["at"][-2] for r in runs]
            cells.append(f"{_list(at, 'loss')}; L2 {_list(at, 'l2')}")
            if variant == "plain":
                cells[0] += f", {sum(a['seconds'] for a in at) / len(at):.0f} s"
        rows.append(cells)
    return markdown(["problem, seconds", "plain", "accelerated"], rows) + told(result)


def _list(rows: list[Result], key: str) -> str:
    return ", ".join(number(r[key], 0) for r in rows)


def samplers() -> str:
    """Placements against problems."""
    result = results("samplers")[-1]
    cells = {(r["sampler"], r["problem"]): r for r in result["rows"]}
    names, problems = (list(dict.fromkeys(key[i] for key in cells)) for i in (0, 1))
    rows = []
    for name in names:
        row = [f"`{name}`"]
        for problem in problems:
            r = cells[name, problem]
            worst = number(r["l2_worst"])
            row += [f"{number(r['l2_geometric_mean'])} ({worst})", number(r["ratio"])]
        largest = max(cells[name, problem]["overhead_percent"] for problem in problems)
        rows.append([*row, f"{largest:.1f} %"])
    columns = [text for p in problems for text in (f"{p}, L2 (worst)", "held-out ratio")]
    return markdown(["sampler", *columns, "of a step"], rows) + told(result)


def randomized() -> str:
    """The first steps by the exact factorization and by the randomized one."""
    result = results("scaling")[-1]
    found = result["scaling"]["randomized"]
    rows = [
        [step, some["rank"], some["triplets"], f"{full['seconds']:.1f}", f"{some['seconds']:.1f}"]
        for step, (full, some) in enumerate(zip(found["full"], found["some"], strict=True), 1)
    ]
    return markdown(["step", "rank", "width", "`tsqr`, s", "`randomized`, s"], rows) + told(result)


def scaling() -> str:
    """Seconds and memory of a step against S, on one core."""
    result = results("scaling")[-1]
    rows = [
        [p["S"], f"{p['step_seconds']:.3g}", f"{p['peak_mib']:.0f}"]
        for p in result["scaling"]["points"]
    ]
    return markdown(["S", "seconds a step", "peak MiB"], rows) + told(result)


def million() -> str:
    """One whole step at a million points, and its parts alone."""
    result = results("scaling")[-1]
    found = result["million"]
    columns = ["S", "P", "whole step, s", *(f"{p.replace('_', ' ')}, s" for p in found["parts"])]
    row = [found["S"], found["P"], f"{found['step_seconds']:.0f}"]
    row += [f"{seconds:.2g}" for seconds in found["parts"].values()]
    return markdown([*columns, "peak MiB"], [[*row, f"{found['peak_mib']:.0f}"]]) + told(result)


def workers() -> str:
    """Seconds a step by launcher and number of processes."""
    result = results("workers")[-1]
    cells = {(r["launcher"], r["workers"], r["S"]): r["step_seconds"] for r in result["table"]}
    launchers = sorted(
        {key[:2] for key in cells}, key=lambda launcher: (launcher[1], launcher[0] == "Ray")
    )
    rows = [
        [size, *(f"{cells[(*launcher, size)]:.3g}" for launcher in launchers)]
        for size in sorted({key[2] for key in cells})
    ]
    columns = [name if name == "one process" else f"{name}, {n}" for name, n in launchers]
    return markdown(["S", *columns], rows) + told(result)


def model() -> str:
    """The modelled step on many devices."""
    result = results("model")[-1]
    shapes = list(dict.fromkeys((r["S"], r["P"]) for r in result["table"]))
    cells = {(r["S"], r["P"], r["devices"]): r for r in result["table"]}
    counts = sorted({key[2] for key in cells} - {1})
    rows = []
    for shape in shapes:
        of = {n: cells[(*shape, n)] for n in counts}
        largest = f"{of[counts[0]]['largest']}, {of[counts[-1]]['largest']}"
        figures = [f"{r['seconds']:.2g} s, {100 * r['efficiency']:.0f} %" for r in of.values()]
        if of[counts[0]]["seconds"] >= 100:
            figures = [f"{r['seconds']:.0f} s, {100 * r['efficiency']:.0f} %" for r in of.values()]
        rows.append([number(shape[0], 1).replace(".0e", "e"), shape[1], *figures, largest])
    columns = ["S", "P", *(f"{n} devices" for n in counts)]
    last = f"largest part at {counts[0]}, at {counts[-1]}"
    return markdown([*columns, last], rows) + told(result)


def plainly(kind: str) -> Callable[[], str]:
    """A table that its result file holds as it is shown: columns and rows."""

    def table() -> str:
        found = results(kind)
        if not found:
            return "Not measured yet.\n"
        result = found[-1]
        return markdown(result["columns"], result["rows"]) + told(result)

    return table


TABLES: dict[str, Callable[[], str]] = {
    "front": front,
    "gallery": gallery,
    "ten-seeds": ten_seeds,
    "without-knowledge": without_knowledge,
    "acceleration": acceleration,
    "samplers": samplers,
    "randomized": randomized,
    "scaling": scaling,
    "million": million,
    "workers": workers,
    "model": model,
} | {
    kind: plainly(kind)
    for kind in ("factorizations", "step", "green", "inverse-heat", "faults", "asked", "suite")
}


def generated(page: str) -> str:
    """A page with its tables as the result files give them."""
    return MARKED.sub(lambda found: found[1] + TABLES[found[2]]() + found[3], page)


def main(words: Sequence[str]) -> int:
    """The command line; the exit code."""
    if words[:1] == ["record"]:
        _, name, dashes, *command = words
        assert dashes == "--", "record NAME -- COMMAND..."
        print(record(name, command))
        return 0
    late = []
    for path in PAGES:
        page = path.read_text(encoding="utf-8")
        if (new := generated(page)) != page:
            late.append(path.relative_to(ROOT))
            if "--check" not in words:
                path.write_text(new, encoding="utf-8")
    for path in late:
        print(path, "is out of date" if "--check" in words else "written")
    return int("--check" in words and bool(late))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
