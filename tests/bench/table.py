"""The table of the README: every config over the ten seeds, resumable, means and spreads.

    python tests/bench/table.py [--configs a b ...] [--seeds n] [--jobs n] [--out runs/table]

A run whose result.json exists is not run again, unless its config has changed since; an interrupted
one is resumed. Each job gets its
share of the cores, in whole BLAS threads: LAPACK's spinning threads slow each other down badly
when there are more of them than cores. The last lines are the table in Markdown; it is also
written to <out>/table.md, with the figures in table.json.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from importlib.metadata import version
from pathlib import Path

from distgram.config.schema import dump, load
from distgram.report.compare import summary

ROOT = Path(__file__).resolve().parents[2]
SEEDS = (6865, 8369, 4785, 6705, 5729, 4353, 3409, 3601, 5681, 1857)  # those of the source


def ended(folder: Path) -> bool:
    """Whether the run of a folder came to its own end."""
    path = folder / "result.json"
    return path.is_file() and json.loads(path.read_text())["reason"] != "signal"


def run_one(config: Path, seed: int, out: Path, threads: int) -> Path:
    """Solve, resume or skip one run; its folder."""
    folder = out / config.stem / str(seed)
    wanted = dump(load(config, [f"run.seed={seed}"]))
    same = (folder / "config.toml").is_file() and dump(load(folder / "config.toml")) == wanted
    if same and ended(folder):
        return folder
    command = [sys.executable, "-m", "distgram_launch.cli"]
    if same and any((folder / "checkpoints").glob("*/seal.json")):
        command += ["resume", str(folder)]
    else:
        command += ["solve", str(config), "--seed", str(seed), "--out", str(folder), "--force"]
    environment = os.environ | {
        "OPENBLAS_NUM_THREADS": str(threads),
        "XLA_FLAGS": os.environ.get("XLA_FLAGS", "")
        + (" --xla_cpu_multi_thread_eigen=false" if threads == 1 else ""),
    }
    folder.parent.mkdir(parents=True, exist_ok=True)
    with open(folder.parent / f"{seed}.log", "w", encoding="utf-8") as log:
        code = subprocess.run(
            command, env=environment, stdout=log, stderr=subprocess.STDOUT, cwd=ROOT
        ).returncode
    print(f"{config.stem} seed {seed}: exit {code}", flush=True)
    return folder


def number(mean: float | None, std: float | None) -> str:
    """'mean ± std' with two figures."""
    if mean is None:
        return ""
    return f"{mean:.2e}" if std is None else f"{mean:.2e} ± {std:.1e}"


def main() -> None:
    """Run what is missing, then print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="*", help="config names; all by default")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "table")
    arguments = parser.parse_args()
    configs = [
        path
        for path in sorted((ROOT / "configs").glob("*.toml"))
        if not arguments.configs or path.stem in arguments.configs
    ]
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    jobs = [(config, seed) for config in configs for seed in SEEDS[: arguments.seeds]]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        folders = list(pool.map(lambda job: run_one(*job, arguments.out, threads), jobs))
    rows = []
    for config in configs:
        done = [
            folder
            for (c, _), folder in zip(jobs, folders, strict=True)
            if c == config and ended(folder)
        ]
        if done:
            (row,) = summary(done)
            rows.append({"config": config.stem} | row)
    lines = [
        f"{date.today()}, {platform.machine()}, {arguments.jobs} job(s) of {threads} thread(s), "
        f"jax {version('jax')}, numpy {version('numpy')}, Python {platform.python_version()}.",
        "",
        "| config | seeds | L2 error | mean square residual | held-out | steps | seconds | ended |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for row in rows:
        cells = [
            number(row[f"{key}_mean"], row[f"{key}_std"])
            for key in ("l2_error", "mean_square_residual", "heldout_residual")
        ]
        reasons = ", ".join(f"{reason} {count}" for reason, count in sorted(row["reasons"].items()))
        lines.append(
            f"| {row['config']} | {row['runs']} | {' | '.join(cells)} | {row['steps_mean']:.0f} | "
            f"{row['seconds_mean']:.0f} ± {row['seconds_std'] or 0:.0f} | {reasons} |"
        )
    text = "\n".join(lines) + "\n"
    (arguments.out / "table.md").write_text(text, encoding="utf-8")
    (arguments.out / "table.json").write_text(json.dumps(rows, indent=1, default=dict) + "\n")
    print(text)


if __name__ == "__main__":
    main()
