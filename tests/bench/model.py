"""Step time and parallel efficiency on 1 to 4096 devices, by a model calibrated on this machine.

    python tests/bench/model.py [--json] [--measured tests/bench/results/workers-DATE.json]

The model (cost.py, rates.py beside this file): every device computes its
rows, the folds of their QR, its share of the trial losses and the whole SVD at the rates that one
core of this machine is measured to have now; log2(devices) triangles come and go by messages of
50 us and 1.25 GB/s (Ethernet of 10 Gbit/s); sending does not overlap with computing. Left out: the
host's part of the loop (decisions, rows of metrics, checkpoints), stragglers, contention of the
network. With --measured it is first held against the table of tests/bench/workers.py.
Efficiency is T(1) / (N T(N)), T(1) by the same model.
"""

from __future__ import annotations

import argparse
import json
import os
import sys
from dataclasses import replace
from pathlib import Path

sys.path[:0] = [str(Path(__file__).parent)]

CASES = ((2**18, 64), (10**6, 150), (10**7, 286), (10**8, 572))  # S, hidden: P = 7 hidden + 1
DEVICES = (1, 8, 64, 512, 4096)


def calibrated(size: int, hidden: int):
    """A run of laplace5d on one device, the rates of that, and its trial losses a step."""
    from rates import measure, trials
    from scaling import laplace5d

    run = laplace5d(size, [hidden])
    count = trials(run.setup.rule, run.model.p)
    return run, measure(run, count), count


def planned(run, rates, count: int, devices: int, rows: int | None = None):
    """The parts of a step on so many devices, of so many rows if they are not those of the run."""
    from cost import Step

    from distgram.run.stage import plan_step

    shape = replace(run.plan.shape, devices=devices, rows=rows or run.plan.shape.rows)
    return Step(plan_step(run.setup, shape), rates, count).parts()


def against(measured: list[dict], cores: int) -> list[dict]:
    """Modelled over measured seconds a step; devices beyond the cores take turns on them."""
    from cost import total

    run, rates, count = calibrated(2**18, 64)
    table = []
    for row in (r for r in measured if r["launcher"] != "Ray"):
        whole = total(planned(run, rates, count, row["workers"], row["S"]))
        turns = max(1, -(-row["workers"] // cores))
        modelled = turns * whole.computing + whole.seconds - whole.computing
        table.append(
            {"S": row["S"], "workers": row["workers"], "measured": row["step_seconds"]}
            | {"modelled": modelled, "ratio": modelled / row["step_seconds"]}
        )
    return table


def reach(size: int, hidden: int) -> list[dict]:
    """Seconds, efficiency and largest part on every number of devices."""
    from cost import total

    run, rates, count = calibrated(size, hidden)
    table = []
    for devices in DEVICES:
        parts = planned(run, rates, count, devices)
        largest = max(parts, key=lambda p: p.seconds)
        seconds = total(parts).seconds
        alone = table[0]["seconds"] if table else seconds
        table.append(
            {"S": size, "P": run.model.p, "devices": devices, "seconds": seconds}
            | {"efficiency": alone / (devices * seconds)}
            | {"largest": largest.name, "share": largest.seconds / seconds}
        )
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="the last line is all of it as JSON")
    parser.add_argument("--measured", type=Path, help="the results of tests/bench/workers.py")
    given = parser.parse_args()
    cores = len(os.sched_getaffinity(0))
    os.environ |= {"OPENBLAS_NUM_THREADS": "1", "JAX_PLATFORMS": "cpu"}
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})  # one core is the device

    from distgram.linalg.precision import set_precision

    set_precision()
    held = []
    if given.measured:
        found = json.loads(given.measured.read_text(encoding="utf-8"))
        held = against(found["table"], cores)
        for r in held:
            print(
                f"S = {r['S']:6d}  {r['workers']} worker(s)  measured {r['measured']:.3f} s, "
                f"modelled {r['modelled']:.3f} s, {r['ratio']:.2f} of it"
            )
    table = [row for case in CASES for row in reach(*case)]
    for r in table:
        print(
            f"S = {r['S']:9d}  P = {r['P']:4d}  {r['devices']:4d} device(s)  {r['seconds']:10.3f} s"
            f"  efficiency {r['efficiency']:.2f}  {r['largest']} {100 * r['share']:.0f} %"
        )
    if given.json:
        print(json.dumps({"against": held, "table": table}))


if __name__ == "__main__":
    main()
