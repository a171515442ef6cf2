"""The share of the SVD in a step, and LAPACK's SVD of the triangle against block Jacobi.

First, the rows and triangle of S = 8P points of laplace5d (2-layer network, P = 7 h + 1) against
the SVD of that triangle. Then that SVD by Jacobi on D forced devices of this machine, and with
--processes N in N processes of one core and one device each. Last, what to expect of D devices that
do not share cores: the rounds of one device are timed here at the sizes they have for D, and what
it sends is priced by --latency and --bandwidth. All is compiled apart and blocked. 'cpu' is the
processor time of the process, which other work on the machine touches less.

    python tests/bench/svd.py [--json] [--repeat N] [--hidden 64 143 286] [--processes 2]
"""

from __future__ import annotations

import argparse
import json
import os
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

if __name__ == "__main__":  # one thread a device, and eight devices unless a process is one of many
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    _DEVICES = 1 if "--rank" in sys.argv else 8
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + f" --xla_force_host_platform_device_count={_DEVICES}"
        " --xla_cpu_multi_thread_eigen=false"
    )

import jacobi
import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from distgram.linalg.mesh import make_mesh, replicate
from distgram.linalg.precision import set_precision
from distgram.linalg.tsqr import TSQR, spectrum_of_triangle
from distgram.net.mlp import MLP
from distgram.pde.registry import get
from distgram.run.setup import Setup
from distgram.run.stage import build_stage

EPS = 2.0**-52
MODELLED = (1, 2, 4, 8, 16, 32, 64)


def timed(function, args, repeat: int):
    """The last result, and the least and median of the seconds; compiled before."""
    compiled = jax.jit(function).lower(*args).compile()
    wall, cpu, out = [], [], None
    for _ in range(repeat):
        began, used = time.perf_counter(), time.process_time()
        out = jax.block_until_ready(compiled(*args))
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return out, {"least": min(wall), "median": statistics.median(wall), "cpu": min(cpu)}


def of_laplace5d(hidden: int, repeat: int) -> tuple[np.ndarray, dict]:
    """The triangle of a network of one hidden layer, and what it and its SVD cost."""
    count = 8 * (7 * hidden + 1)
    points = {"interior": count - count // 9, "boundary": count // 9}
    run = build_stage(Setup(get("laplace5d"), MLP([hidden]), points), make_mesh(1))
    args = (run.model.theta0, run.points())
    r, rows = timed(lambda t, p: TSQR().reduce(run.residual.rows(t, p)), args, repeat)
    _, svd = timed(spectrum_of_triangle, (r,), repeat)
    return np.asarray(r), {"P": run.model.p, "S": run.size, "rows_and_triangle": rows, "svd": svd}


def by_jacobi(r: np.ndarray, devices: int, repeat: int) -> dict:
    """Jacobi on a mesh of so many devices: seconds, sweeps, and how far from LAPACK's s."""
    mesh = make_mesh(devices)
    args = (replicate(mesh, r),)
    (spectrum, sweeps), times = timed(lambda r: jacobi.spectrum_and_sweeps(r, mesh), args, repeat)
    s, vt = np.asarray(spectrum.s), np.asarray(spectrum.vt)
    exact = np.linalg.svd(r[:-1, :-1], compute_uv=False)
    return {
        "devices": devices,
        "sweeps": int(sweeps),
        "seconds": times,
        "s_error_eps": float(np.max(np.abs(s - exact)) / exact[0] / EPS),
        "orthogonality_eps": float(np.linalg.norm(vt @ vt.T - np.eye(len(s)), 2) / EPS),
    }


def flops_of(p: int, devices: int, sweeps: int) -> dict:
    """Operations of one device, and bytes it sends: 16 P b² for QR and product of a pair of blocks
    of b columns, 12 of n = 2b rows and 4b entries for each of n²/2 rotations."""
    held, width = jacobi.layout(p, devices)
    rounds, n = 2 * devices * held - 1, 2 * width
    return {
        "serial": 8 / 3 * p**3,
        "own": 2 * p**3 / devices + sweeps * rounds * held * (16 * p * width**2 + 9 * n**3),
        "bytes": sweeps * rounds * 16 * (p + 1) * width + 8 * p * (p + 1),
        "messages": sweeps * rounds * 2,
    }


def ten_rounds(table: jacobi.Table, limits: jacobi.Limits):
    """The same round ten times: alone it would take no longer than its call."""

    def again(_, sine):
        # 0·sine: the compiler must not take the round out of the loop.
        same = table._replace(upper=table.upper * (1 + 0 * sine))
        turned, cosine, sine = jacobi.orthogonalize_pairs(same, limits)
        return turned.upper[0, 0, 0] + cosine + sine

    return lax.fori_loop(0, 10, again, 0.0)


def model(r: np.ndarray, sweeps: int, repeat: int, latency: float, bandwidth: float) -> list[dict]:
    """Seconds expected of D devices, from the serial part and the round of one device."""
    p = len(r) - 1
    triangle, z = jnp.asarray(r[:-1, :-1]), jnp.asarray(r[:-1, -1:])
    limits = jacobi.Limits(jnp.sqrt(1.0 * p) * EPS, EPS**2 * jnp.linalg.norm(triangle))
    _, finish = timed(
        lambda x: jacobi.sorted_triplets(x, limits.zero), (jnp.asarray(r[:-1]),), repeat
    )
    out = []
    for devices in MODELLED:
        held, width = jacobi.layout(p, devices)
        blocks = jnp.arange(2 * held)
        prepare = lambda a, z, k=blocks, b=width: jacobi.preconditioned(a, z, k, b)  # noqa: E731
        columns, start = timed(prepare, (triangle, z), repeat)
        table = jacobi.Table(columns[:held], columns[held:])
        _, turn = timed(ten_rounds, (table, limits), repeat)
        count = flops_of(p, devices, sweeps)
        rounds = sweeps * (2 * devices * held - 1) * turn["cpu"] / 10
        sent = (count["messages"] * latency + count["bytes"] / bandwidth) if devices > 1 else 0.0
        serial = start["cpu"] + finish["cpu"]
        out.append(
            {"devices": devices, "held": held, "width": width, "flops": count, "serial": serial}
            | {"rounds": rounds, "sent": sent, "seconds": serial + rounds + sent}
        )
    return out


def process(rank: int, processes: int, address: str, file: str, repeat: int) -> None:
    """One of the processes: its own core, one device; the first prints what it measured."""
    if hasattr(os, "sched_setaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        os.sched_setaffinity(0, {cores[rank % len(cores)]})
    jax.config.update("jax_cpu_collectives_implementation", "gloo")
    jax.distributed.initialize(address, processes, rank, cluster_detection_method="deactivate")
    set_precision()
    r = np.load(file)
    measured = by_jacobi(r, processes, repeat)
    _, measured["lapack"] = timed(spectrum_of_triangle, (jnp.asarray(r),), repeat)
    if rank == 0:
        print(json.dumps(measured))
    jax.distributed.shutdown()


def in_processes(r: np.ndarray, processes: int, repeat: int) -> dict:
    """Jacobi and LAPACK (every process the whole SVD) in processes of one core each."""
    with tempfile.TemporaryDirectory() as folder, socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        free.close()
        file = str(Path(folder) / "r.npy")
        np.save(file, r)
        command = [sys.executable, __file__, "--repeat", str(repeat), "--processes", str(processes)]
        started = [
            subprocess.Popen(
                [*command, "--rank", str(rank), "--address", address, "--triangle", file],
                stdout=subprocess.PIPE,
                text=True,
                env=os.environ | {"XLA_FLAGS": "", "JAX_PLATFORMS": "cpu"},
            )
            for rank in range(processes)
        ]
        answers = [each.communicate()[0] for each in started]
    if any(each.returncode for each in started):
        raise SystemExit(f"a process failed: {[each.returncode for each in started]}")
    return json.loads(answers[0].splitlines()[-1])


def case(hidden: int, options: argparse.Namespace) -> dict:
    r, out = of_laplace5d(hidden, options.repeat)
    lapack = out["svd"]
    share = lapack["cpu"] / (lapack["cpu"] + out["rows_and_triangle"]["cpu"])
    print(f"\nP = {out['P']}, S = {out['S']}       least    median   cpu")
    line = "{:<22} {least:<8.3f} {median:<8.3f} {cpu:<8.3f} {after}"
    print(line.format("Jacobian and QR", after="", **out["rows_and_triangle"]))
    print(line.format("SVD, LAPACK", after=f"{share:.0%} of both (cpu)", **lapack))
    there = [d for d in options.devices if d <= jax.device_count()]
    out["share"], out["jacobi"] = share, [by_jacobi(r, d, options.repeat) for d in there]
    if options.processes:
        out["processes"] = in_processes(r, options.processes, options.repeat)
    for each in [*out["jacobi"], *([out["processes"]] if options.processes else [])]:
        name = f"Jacobi, {each['devices']} " + ("processes" if "lapack" in each else "device(s)")
        after = f"{each['sweeps']} sweeps, s to {each['s_error_eps']:.1f} eps s1, "
        after += f"V to {each['orthogonality_eps']:.0f} eps"
        if "lapack" in each:
            after += f"; LAPACK there {each['lapack']['least']:.3f}"
        print(line.format(name, after=after, **each["seconds"]))
    sweeps = out["jacobi"][-1]["sweeps"]
    bandwidth, latency = options.bandwidth * 1e9, options.latency * 1e-6
    out["model"] = model(r, sweeps, options.repeat, latency, bandwidth)
    print("model: D   serial   rounds   sent     total    LAPACK/total   Gflop: serial   own   MB")
    for m in out["model"]:
        f = m["flops"]
        print(
            f"{m['devices']:>8}   {m['serial']:<8.3f} {m['rounds']:<8.3f} {m['sent']:<8.4f} "
            f"{m['seconds']:<8.3f} {lapack['cpu'] / m['seconds']:<21.2f}   "
            f"{f['serial'] / 1e9:<7.2f} {f['own'] / 1e9:<5.2f} {f['bytes'] / 1e6:.0f}"
        )
    return out


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (default 3)")
    parser.add_argument("--hidden", type=int, nargs="+", default=[64, 143, 286], help="widths h")
    parser.add_argument("--devices", type=int, nargs="+", default=[1, 2, 4, 8], help="forced")
    parser.add_argument("--processes", type=int, default=0, help="also in N processes (CPU)")
    parser.add_argument("--latency", type=float, default=20.0, help="of a message, µs (model)")
    parser.add_argument("--bandwidth", type=float, default=10.0, help="of a link, GB/s (model)")
    parser.add_argument("--rank", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--address", help=argparse.SUPPRESS)
    parser.add_argument("--triangle", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.rank is not None:
        process(options.rank, options.processes, options.address, options.triangle, options.repeat)
        return
    print(f"{set_precision()}, jax {jax.__version__}, {os.cpu_count()} cores, one thread a device")
    cases = [case(hidden, options) for hidden in options.hidden]
    if options.json:
        print(json.dumps({"cases": cases}))


if __name__ == "__main__":
    main()
