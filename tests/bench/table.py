"""Every config over the ten seeds of the source, resumable: means and standard deviations.

    python tests/bench/table.py [--configs a b ...] [--seeds n] [--jobs n] [--out runs/table]
                                [--results runs/table]

A run whose result.json exists is not run again, unless its config has changed since; an interrupted
one is resumed. Each job gets its share of the cores, in whole BLAS threads: LAPACK's spinning
threads slow each other down badly when there are more of them than cores. The figures go to
<results>/table-DATE.json, beside those of the same day that are not measured again; in
tests/bench/results they are what `tables.py` makes the READMEs' tables from.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from datetime import date
from pathlib import Path

from tables import provenance

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


def main() -> None:
    """Run what is missing, then write the figures."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="*", help="config names; all by default")
    parser.add_argument("--seeds", type=int, default=len(SEEDS))
    parser.add_argument("--jobs", type=int, default=max(1, (os.cpu_count() or 1)))
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "table")
    parser.add_argument("--results", type=Path, help="folder of table-DATE.json; <out> by default")
    arguments = parser.parse_args()
    configs = [
        path
        for path in sorted((ROOT / "configs").glob("*.toml"))
        if not arguments.configs or path.stem in arguments.configs
    ]
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    jobs = [(config, seed) for config in configs for seed in SEEDS[: arguments.seeds]]
    with ThreadPoolExecutor(arguments.jobs) as pool:
        folders = list(pool.map(lambda job: run_one(job[0], job[1], arguments.out, threads), jobs))
    rows = {}
    for config in configs:
        done = [
            folder
            for (c, _), folder in zip(jobs, folders, strict=True)
            if c == config and ended(folder)
        ]
        if done:
            (rows[config.stem],) = summary(done)
    path = (arguments.results or arguments.out) / f"table-{date.today()}.json"
    before = json.loads(path.read_text(encoding="utf-8"))["rows"] if path.is_file() else {}
    about = provenance("tests/bench/table.py")
    about["machine"] += f"; {arguments.jobs} run(s) at a time, {threads} thread(s) each"
    text = json.dumps(about | {"rows": before | rows}, indent=1, default=dict, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    print(path)


if __name__ == "__main__":
    main()
