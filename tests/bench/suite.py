"""The standard suite: every problem by one policy, which is told the problem, a seed, a budget and
the error that is asked for, as `tolerance`, where the table has one.

    python tests/bench/suite.py [--problems a,b] [--seeds 0,1,2] [--seconds 600] [--jobs 2]
                                [--out results] [--again]
    python tests/bench/suite.py --table [--seconds 600] [--out results]

Each run is a process of its own on a core of its own, `--jobs` of them at a time, and leaves
<out>/PROBLEM-SEED.json. A run of the same library, by the contents of distgram/, and the same
seconds is not run again, unless `--again`; one that a signal has ended leaves nothing. A run that
has died, or had to be killed after twice its seconds and five minutes, leaves its reason and the
last line of its log.

`--table` runs nothing. It prints the table of the runs that are there: of each problem those of the
library that was run last. For the standard 600 seconds the table is kept in
tests/bench/results/suite-DATE.json as well, and put into README.md (as `make tables` does).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import signal
import statistics
import subprocess
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import tables

ROOT = Path(__file__).resolve().parents[2]
SECONDS, SEEDS = 600.0, (0, 1, 2)
GRACE = 300.0  # seconds beyond twice the budget after which a run is killed
INTERRUPTED = 75  # the exit code of a run that a signal has ended
FACTOR = 10.0  # of estimate and truth, within which an estimate is good

Run = dict[str, Any]


@dataclass(frozen=True)
class Entry:
    """A problem of the suite: its registered name and parameters; the median relative L2 error that
    it is to reach, None where none is stated."""

    problem: str
    target: float | None = None
    parameters: Mapping[str, Any] = field(default_factory=dict)


SUITE = {
    "helmholtz": Entry("helmholtz", 1e-9),
    "klein_gordon": Entry("klein_gordon", 1e-10),
    "wave": Entry("wave", 1e-7),
    "advection": Entry("advection", 1e-7),
    "kdv": Entry("kdv", 1e-6),
    "nls": Entry("nls", 1e-5),
    "allen_cahn": Entry("allen_cahn", 1e-6),
    "burgers": Entry("burgers", 1e-6),
    "allen_cahn_periodic": Entry("allen_cahn_periodic", 1e-5),
    "ks": Entry("ks", 1e-4),
    "poisson10d": Entry("poisson10d", 1e-8),
    "cavity": Entry("cavity", 1e-4),
    "laplace2d": Entry("laplace2d", 1e-14),
    "heat": Entry("heat", 1e-14),
    "laplace5d": Entry("laplace5d", 1e-8),
    "poisson_nonlinear": Entry("poisson_nonlinear", 1e-11),
    "poisson_nonlinear-k4": Entry("poisson_nonlinear", parameters={"k": 4}),
    "burgers-nu0.01": Entry("burgers", parameters={"viscosity": 0.01}),
    "reaction": Entry("reaction"),
    "convection_diffusion": Entry("convection_diffusion"),
    "poisson5d": Entry("poisson5d"),
    "kovasznay": Entry("kovasznay"),
    "beltrami": Entry("beltrami"),
    "van_der_pol": Entry("van_der_pol"),
}


class Job(NamedTuple):
    """One run: a name of SUITE, or of a registered problem; its seed and its budget in seconds."""

    name: str
    seed: int
    seconds: float

    def path(self, out: Path) -> Path:
        return out / f"{self.name}-{self.seed}.json"


def entry(name: str) -> Entry:
    """The entry of a name; that of any other registered problem has no target."""
    return SUITE.get(name, Entry(name))


def library() -> str:
    """What a run is a run of: the files of distgram/ in this checkout, as twelve hex digits."""
    digest = hashlib.sha256()
    for path in sorted((ROOT / "distgram").rglob("*")):
        if path.suffix in (".py", ".npz"):
            digest.update(str(path.relative_to(ROOT)).encode() + path.read_bytes())
    return digest.hexdigest()[:12]


def read(path: Path) -> Run:
    """A run as it was kept."""
    return json.loads(path.read_text(encoding="utf-8"))


def keep(run: Run, path: Path) -> None:
    """Write a run, all or nothing; what is not finite becomes null."""

    def plain(value: Any) -> Any:
        if isinstance(value, dict):
            return {key: plain(v) for key, v in value.items()}
        if isinstance(value, list | tuple):
            return [plain(v) for v in value]
        return None if isinstance(value, float) and not math.isfinite(value) else value

    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_suffix(".part")
    beside.write_text(json.dumps(plain(run), allow_nan=False) + "\n", encoding="utf-8")
    os.replace(beside, path)


def missing(jobs: Iterable[Job], out: Path, of: str) -> list[Job]:
    """The jobs of which there is no run of the same seconds and the same library `of`."""

    def done(job: Job) -> bool:
        path = job.path(out)
        run = read(path) if path.is_file() else {}
        return (run.get("library"), run.get("budget_s")) == (of, job.seconds)

    return [job for job in jobs if not done(job)]


# One run, in a process of its own.


def solve(job: Job) -> Run | None:
    """Solve one problem in this process, by the policy and nothing else; None where a signal has
    ended it. All seconds count: imports, the problem and its reference, compilation, the end."""
    about, load = stamp(job, library()), os.getloadavg()[0]
    began = time.perf_counter()
    import distgram as dg
    from distgram.pde.registry import get

    problem = get(entry(job.name).problem, entry(job.name).parameters)
    limits = dg.Limits(tolerance=entry(job.name).target, time_budget_s=job.seconds)
    solution = dg.solve(problem, limits=limits, seed=job.seed, progress=False)
    wall = time.perf_counter() - began
    result = solution.result
    assert result is not None
    if result.reason == "signal":
        return None
    late = wall - result.seconds  # which the clock of the rows leaves out: most of it comes first
    return about | {
        "wall_s": wall,
        "solving_s": result.seconds,
        "compile_s": result.compile_seconds,
        "steps": result.steps,
        "P": result.P,
        "S": result.S,
        "relative_l2": result.relative_l2_error,
        "estimate": result.error_estimate,
        "training": result.mean_square_residual,
        "heldout": result.heldout_residual,
        "reason": result.reason,
        "success": result.success,
        "overfitted": result.overfitted,
        "load": load,
        "curve": [
            [late + row["seconds"], row["relative_l2_error"], row["error_estimate"]]
            + [row["mean_square_residual"], row["heldout_residual"]]
            for row in solution.history
        ],
    }


def stamp(job: Job, of: str) -> Run:
    """Which run it is, of what, when and where."""
    about = tables.provenance("tests/bench/suite.py")
    return {
        "problem": job.name,
        "seed": job.seed,
        "budget_s": job.seconds,
        "library": of,
        "commit": about["commit"],
        "date": datetime.now().isoformat(timespec="seconds"),
        "cpu": cpu(),
        "machine": about["machine"],
        "versions": {name: version(name) for name in ("jax", "jaxlib", "flax", "numpy", "scipy")},
    }


def cpu() -> str:
    """The processor's name, as Linux gives it."""
    path = Path("/proc/cpuinfo")
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return names[0] if names else "unknown"


def died(job: Job, of: str, reason: str, wall: float, log: Path) -> Run:
    """A run that has left nothing itself."""
    lines = log.read_text(encoding="utf-8", errors="replace").split("\n") if log.is_file() else []
    said = [line for line in lines if line.strip()]
    empty = dict.fromkeys(("steps", "P", "S", "relative_l2", "estimate", "training", "heldout"))
    return (
        stamp(job, of)
        | empty
        | {
            "wall_s": wall,
            "reason": reason,
            "success": False,
            "curve": [],
            "said": said[-1][-400:] if said else "",
        }
    )


# Many runs, each on a core of its own.


@dataclass
class Child:
    """A run that goes on, since `began`; its log lies beside its result."""

    job: Job
    process: subprocess.Popen
    log: Path
    began: float

    def seconds(self) -> float:
        return time.monotonic() - self.began


def command(job: Job, out: Path) -> list[str]:
    """What a child is started with."""
    one = ["--one", "--problems", job.name, "--seeds", str(job.seed)]
    return [sys.executable, __file__, *one, "--seconds", str(job.seconds), "--out", str(out)]


def start(job: Job, core: int, out: Path) -> Child:
    """Start one run on one core, with this checkout's library."""
    flags = os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1", "XLA_FLAGS": flags.strip()}
    environment = os.environ | threads | {"PYTHONPATH": path, "SUITE_CORE": str(core)}
    log = job.path(out).with_suffix(".log")
    with open(log, "w", encoding="utf-8") as file:
        process = subprocess.Popen(
            command(job, out), env=environment, stdout=file, stderr=subprocess.STDOUT, cwd=ROOT
        )
    return Child(job, process, log, time.monotonic())


def pin() -> None:
    """Keep this process, and the threads that it will start, on the core it was given."""
    if "SUITE_CORE" in os.environ and hasattr(os, "sched_setaffinity"):
        os.sched_setaffinity(0, {int(os.environ["SUITE_CORE"])})


def cores() -> list[int]:
    """The cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return sorted(os.sched_getaffinity(0))
    return list(range(os.cpu_count() or 1))


def run_all(jobs: Sequence[Job], width: int, out: Path, of: str) -> None:
    """Run the jobs in their order, `width` at a time; what still runs is ended with this process.

    Raises: SystemExit: more at a time than there are cores.
    """
    free, running = cores()[:width], dict[int, Child]()
    if len(free) < width:
        sys.exit(f"suite.py: --jobs {width}: expected at most {len(free)}, one a core.")
    out.mkdir(parents=True, exist_ok=True)
    waiting = list(jobs)
    try:
        while waiting or running:
            while waiting and free:
                core = free.pop(0)
                running[core] = start(waiting.pop(0), core, out)
            time.sleep(0.1)
            for core, child in list(running.items()):
                if ended(child, out, of):
                    del running[core]
                    free.append(core)
    finally:
        for child in running.values():
            child.process.kill()
            child.process.wait()


def ended(child: Child, out: Path, of: str) -> bool:
    """Whether a run is over; its result is then kept, whatever it was."""
    job, code, spent = child.job, child.process.poll(), child.seconds()
    late = spent > 2 * job.seconds + GRACE
    if code is None and not late:
        return False
    if code is None:
        child.process.kill()
        child.process.wait()
    if code == INTERRUPTED:
        print(f"{job.name} seed {job.seed}: ended by a signal, not kept", flush=True)
        return True
    if code != 0:
        reason = "killed" if code is None else f"died with {code}"
        keep(died(job, of, reason, spent, child.log), job.path(out))
    print(in_words(read(job.path(out))), flush=True)
    return True


def in_words(run: Run) -> str:
    """One run in one line."""
    told = f"{run['problem']} seed {run['seed']}: relative L2 {figure(run['relative_l2'])}"
    told += f", estimate {figure(run['estimate'])}, {run['reason']}, {run['wall_s']:.0f} s"
    return told + (f": {run['said']}" if run.get("said") else "")


# The table.


def newest(runs: Iterable[Run]) -> dict[str, list[Run]]:
    """By problem the runs of the library that was run last, in the order of the suite."""
    by_name: dict[str, list[Run]] = {}
    for run in sorted(runs, key=lambda run: run["seed"]):
        by_name.setdefault(run["problem"], []).append(run)
    order = [*SUITE, *sorted(set(by_name) - set(SUITE))]
    found = {}
    for name in (n for n in order if n in by_name):
        last = max(by_name[name], key=lambda run: run["date"])["library"]
        found[name] = [run for run in by_name[name] if run["library"] == last]
    return found


def figure(value: float | None) -> str:
    """A figure, or a dash where there is none."""
    return "-" if value is None or not math.isfinite(value) else tables.number(value)


def over(values: Iterable[float | None]) -> list[float]:
    """The values, infinite where there is none: a run without an error has none that is small."""
    return [math.inf if value is None else value for value in values]


def ratio(run: Run) -> float | None:
    """Estimate over truth; None where either is missing."""
    known = run["estimate"] is not None and run["relative_l2"]
    return run["estimate"] / run["relative_l2"] if known else None


COLUMNS = (
    *("problem", "seeds", "relative L2, median", "worst", "target", "estimate / truth"),
    *("P", "S", "steps", "seconds", "ended", "called a success"),
)


def row(name: str, runs: Sequence[Run]) -> list[str]:
    """One problem of the table: medians over its seeds."""
    errors, target = over(run["relative_l2"] for run in runs), entry(name).target
    middle = statistics.median(errors)
    wanted = "" if target is None else tables.number(target).replace(".0e", "e")
    if target is not None and middle <= target:
        wanted += ", met"
    reasons = [run["reason"] for run in runs]
    counts = (f"{reason} {reasons.count(reason)}" for reason in dict.fromkeys(sorted(reasons)))
    sizes = [[run[key] for run in runs if run[key] is not None] for key in ("P", "S", "steps")]
    return [
        *(name, str(len(runs)), figure(middle), figure(max(errors)), wanted),
        ", ".join(figure(ratio(run)) for run in runs),
        *(f"{statistics.median(size):.0f}" if size else "-" for size in sizes),
        f"{statistics.median(run['wall_s'] for run in runs):.0f}",
        ", ".join(counts),
        f"{sum(run['success'] for run in runs)} of {len(runs)}",
    ]


def calibration(runs: Sequence[Run]) -> str:
    """How the estimates of all runs compare with the truth, in a sentence."""
    solved = [run for run in runs if run["relative_l2"]]
    ratios = [r for r in map(ratio, solved) if r is not None]
    if not ratios:
        return "No run has an estimate beside a known error."
    good = sum(1 / FACTOR <= r <= FACTOR for r in ratios)
    return (
        f"The estimate is within a factor {FACTOR:.0f} of the truth in {good} of {len(solved)} "
        f"runs, {len(solved) - len(ratios)} of which have none; the smallest is "
        f"{figure(min(ratios))} of the truth, the largest {figure(max(ratios))}."
    )


def summary(runs: Iterable[Run], seconds: float) -> Run | None:
    """The table of the runs of a budget, as a result file for `tables.py`; None without runs."""
    found = newest(run for run in runs if run["budget_s"] == seconds)
    every = [run for of in found.values() for run in of]
    if not every:
        return None
    commits, machines, cpus = (
        ", ".join(sorted({run[key] for run in every})) for key in ("commit", "machine", "cpu")
    )
    return {
        "script": "tests/bench/suite.py",
        "date": max(run["date"] for run in every)[:10],
        "commit": commits,
        "machine": f"{machines}; {cpus}; one core a run",
        "note": f"Each run had {seconds:.0f} s. {calibration(every)}",
        "columns": list(COLUMNS),
        "rows": [row(name, of) for name, of in found.items()],
    }


def write_table(out: Path, seconds: float) -> None:
    """Print the table; keep that of the standard budget and put it into the READMEs."""
    result = summary(map(read, sorted(out.glob("*.json"))), seconds)
    if result is None:
        sys.exit(f"suite.py: {out}: no run of {seconds:g} s is there; run it without --table.")
    print(tables.markdown(result["columns"], result["rows"]) + tables.told(result))
    if seconds != SECONDS:
        return
    path = tables.RESULTS / f"suite-{result['date']}.json"
    text = json.dumps(result, indent=1, ensure_ascii=False)
    path.write_text(text + "\n", encoding="utf-8")
    tables.main([])


def main() -> None:
    """Run what is missing, or write the table."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--problems", type=lambda text: text.split(","), default=list(SUITE))
    numbers = {"type": lambda text: [int(n) for n in text.split(",")], "default": list(SEEDS)}
    parser.add_argument("--seeds", **numbers)
    parser.add_argument("--seconds", type=float, default=SECONDS, help="of one run")
    parser.add_argument("--jobs", type=int, default=min(2, len(cores())), help="runs at a time")
    parser.add_argument("--out", type=Path, default=ROOT / "results")
    parser.add_argument("--again", action="store_true", help="also what has been run")
    parser.add_argument("--table", action="store_true", help="run nothing, write the table")
    parser.add_argument("--one", action="store_true", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    out = arguments.out.resolve()
    jobs = [
        Job(name, seed, arguments.seconds)
        for seed in arguments.seeds
        for name in arguments.problems
    ]
    if arguments.table:
        write_table(out, arguments.seconds)
    elif arguments.one:
        pin()
        run = solve(jobs[0])
        if run is None:
            sys.exit(INTERRUPTED)
        keep(run, jobs[0].path(out))
    else:
        check_names(arguments.problems)
        of = library()
        wanted = jobs if arguments.again else missing(jobs, out, of)
        print(f"{len(wanted)} of {len(jobs)} runs to do, {arguments.jobs} at a time", flush=True)
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(INTERRUPTED))
        run_all(wanted, arguments.jobs, out, of)


def check_names(given: Sequence[str]) -> None:
    """Check that each name is of the suite or registered.

    Raises: SystemExit: one is neither, with the nearest.
    """
    for name in set(given) - set(SUITE):
        from distgram.errors import nearest
        from distgram.pde.registry import names

        known = {*SUITE, *names()}
        if name not in known:
            sys.exit(f"suite.py: --problems {name}: {nearest(name, known)}")


if __name__ == "__main__":
    main()
