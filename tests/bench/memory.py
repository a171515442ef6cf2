"""The planned bytes of a factorization against the peak that one was measured to take.

Every case is a process of its own: it compiles one factorization of laplace5d, resets
the peak of its resident set (VmHWM), runs it once, and tells how far the peak rose above the
compiled process, shared out over the devices. The planned bytes must bound that.

    python tests/bench/memory.py [--json]         Linux
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
MIB = 2**20
# name, devices, hidden layers, rows, and what else the configuration says: of laplace5d, whose
# spectrum decays slowly. Where it decays fast, LAPACK deflates and touches less of its workspace.
CASES = (
    ("tsqr", 1, [40, 40], 32768, {"row_block": 8192}),
    ("tsqr", 1, [40, 40], 16384, {"row_block": 2048}),
    ("tsqr", 2, [40, 40], 32768, {"row_block": 4096}),
    ("tsqr", 3, [40, 40], 18432, {"row_block": 2048}),
    ("gram", 1, [40, 40], 16384, {}),
    ("gram", 2, [30, 30], 32768, {}),
    ("dual", 1, [40, 40], 1900, {}),
    ("dual", 3, [40, 40], 1500, {}),
    ("dual", 1, [150, 150], 600, {}),
    ("dual", 4, [150, 150], 600, {}),
    ("randomized", 1, [30, 30], 65536, {"row_block": 4096, "capacity": 256}),
    ("randomized", 2, [40, 40], 65536, {"row_block": 4096, "capacity": 256}),
    ("randomized", 1, [40, 40], 24576, {"row_block": 8192}),
    ("randomized", 1, [40, 40], 4096, {}),
    ("randomized", 1, [150, 150], 8192, {"row_block": 2048, "capacity": 64}),
)


def peak(name: str, devices: int, hidden: list[int], rows: int, more: dict) -> dict:
    """Bytes a device, planned and measured, of one factorization in this process."""
    import jax
    import jax.numpy as jnp

    from distgram.config.schema import FACTORIZATIONS
    from distgram.linalg.mesh import make_mesh, replicate
    from distgram.linalg.precision import set_precision
    from distgram.linalg.spectrum import Determined
    from distgram.net.mlp import MLP
    from distgram.pde.registry import get
    from distgram.run.setup import Memory, Setup
    from distgram.run.stage import build_stage

    set_precision()
    setup = Setup(
        get("laplace5d"),
        MLP(hidden),
        {"interior": rows - rows // 4, "boundary": rows // 4},
        factorization=FACTORIZATIONS[name](**{k: v for k, v in more.items() if k == "capacity"}),
        memory=Memory(64.0, more.get("row_block")),
    )
    mesh = make_mesh(devices)
    run = build_stage(setup, mesh)
    points = run.points()
    theta = replicate(mesh, run.model.theta0)
    state = replicate(mesh, run.factorization.init(run.residual.rows(theta, points)))
    # every width is tried; nothing but the dense factorization, or the widest, will do
    last = run.model.p if run.plan.dense else max(run.plan.widths, default=0)

    def needs(spectrum):
        return Determined(jnp.asarray(spectrum.s.shape[0] >= last), jnp.asarray(1), 1e-9)

    def factorize(theta, points, state):
        spectrum, state = run.factorization(run.residual.rows(theta, points), needs, state)
        return spectrum.direction(jnp.ones_like(spectrum.s)), spectrum.s, state

    args = (theta, points, state)
    compiled = jax.jit(factorize).lower(*args).compile()
    Path("/proc/self/clear_refs").write_text("5")  # the peak starts again from here
    before = _status("VmRSS")
    jax.block_until_ready(compiled(*args))
    return {
        "name": name,
        "rows": run.plan.shape.rows,
        "p": run.model.p,
        "devices": devices,
        "block": run.plan.block,
        "widths": run.plan.widths,
        "planned": run.plan.bytes,
        "measured": (_status("VmHWM") - before) // devices,
    }


def measured(case: tuple) -> dict:
    """`peak` of one case in a fresh process."""
    flags = f"--xla_force_host_platform_device_count={case[1]}"
    threads = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
    environment = os.environ | threads | {"JAX_PLATFORMS": "cpu", "XLA_FLAGS": flags}
    argv = [sys.executable, "-m", "tests.bench.memory", "--case", json.dumps(case)]
    ended = subprocess.run(argv, capture_output=True, text=True, env=environment, cwd=ROOT)
    if ended.returncode:
        raise RuntimeError(f"{case}: {ended.stderr.strip()}")
    return json.loads(ended.stdout.splitlines()[-1])


def _status(key: str) -> int:
    line = next(t for t in Path("/proc/self/status").read_text().splitlines() if t.startswith(key))
    return int(line.split()[1]) * 1024


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.case:
        print(json.dumps(peak(*json.loads(options.case))))
        return
    print("factorization  rows     P      devices  rows a block  planned/MiB  measured/MiB  ratio")
    cases = []
    for case in CASES:
        c = measured(case)
        cases.append(c)
        print(
            f"{c['name']:<14s} {c['rows']:<8d} {c['p']:<6d} {c['devices']:<8d} {c['block']:<13d} "
            f"{c['planned'] / MIB:<12.0f} {c['measured'] / MIB:<13.0f} "
            f"{c['planned'] / c['measured']:.2f}",
            flush=True,
        )
    if options.json:
        print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
