"""Paths to R of a block of S rows and P + 1 columns: which is fastest, and which is sound.

- householder: `jnp.linalg.qr`, LAPACK's or the GPU library's geqrf.
- wide panels: blocked Householder in the compact WY form, panels of 128 columns, all else products.
- pieces: R of four pieces of the rows at once, then of their triangles (TSQR on one device).
- cholesky: shifted CholeskyQR3, products and triangular solves only.

Backward error: the least ‖A - QR‖/‖A‖ over orthonormal Q is at most ‖T - Δ‖/‖A‖, with R = W Δ Zᵀ
and T the triangle of A Z. Singular values against prescribed ones, over s₁. nan: it broke down.
Sources: Golub, Van Loan, 4th ed., 5.2.3; Demmel et al., SIAM J. Sci. Comput. 34 (2012) A206;
Fukaya, Kannan, Nakatsukasa, Yamamoto, Yanagisawa, SIAM J. Sci. Comput. 42 (2020) A477.

    python tests/bench/qr_paths.py [--json] [--repeat N] [--columns 449 1000]
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import sys
import time
from pathlib import Path

if __name__ == "__main__":
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    os.environ["XLA_FLAGS"] = (
        os.environ.get("XLA_FLAGS", "") + " --xla_cpu_multi_thread_eigen=false"
    )
    sys.path.insert(0, str(Path(__file__).parents[1]))

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
from jax import lax
from jax.lax.linalg import triangular_solve

from distgram.linalg.precision import set_precision

ROWS = 8  # rows a column
PANEL = 128
# Rounding at S = 8P grows as √P, not as the bounds do; hundred eps is the promise of the solver.
SOUND = 100 * M.EPS


def householder(a):
    """R by the library's QR."""
    return jnp.linalg.qr(a, mode="r")


def wide_panels(a):
    """R by panels:  H₁ ... H_b = I - V T Vᵀ,  T⁻¹ = striu(VᵀV) + diag(1/τ)  (Puglisi 1992)."""
    n, rows = a.shape[1], []
    for at in range(0, n, PANEL):
        width = min(PANEL, n - at)
        h, tau = jnp.linalg.qr(a[:, :width], mode="raw")
        h = h.T
        right = jnp.zeros((width, 0))
        if at + width < n:
            v = jnp.where(tau == 0, 0.0, jnp.tril(h, -1) + jnp.eye(*h.shape))
            inverse = jnp.triu(v.T @ v, 1) + jnp.diag(1 / jnp.where(tau == 0, 1.0, tau))
            product = v.T @ a[:, width:]
            a = a[:, width:] - v @ triangular_solve(
                inverse, product, left_side=True, transpose_a=True
            )
            right, a = a[:width], a[width:]
        row = jnp.concatenate([jnp.triu(h[:width]), right], axis=1)
        rows.append(jnp.pad(row, ((0, 0), (at, 0))))
    return jnp.concatenate(rows)


def pieces(a):
    """R of the R's of four pieces."""
    parts = jnp.linalg.qr(a.reshape(4, -1, a.shape[1]), mode="r")
    return jnp.linalg.qr(parts.reshape(-1, a.shape[1]), mode="r")


def cholesky(a):
    """R₃ R₂ R₁: Cholesky of AᵀA + σI, σ = 11 (SP + P(P+1)) u ‖A‖², then twice unshifted."""
    rows, n = a.shape
    shift = 11 * (rows * n + n * (n + 1)) * M.EPS / 2
    r = jnp.eye(n)
    for step in range(3):
        gram = a.T @ a
        if step == 0:  # ‖A‖² from above by the Frobenius norm
            gram += shift * jnp.trace(gram) * jnp.eye(n)
        factor = lax.linalg.cholesky(gram).T
        r = jnp.triu(factor @ r)
        a = triangular_solve(factor, a)
    return r


PATHS = {
    "householder": householder,
    "wide panels": wide_panels,
    "pieces": pieces,
    "cholesky": cholesky,
}


def spectra(p: int) -> dict[str, np.ndarray]:
    """Singular values by name; the last one has half of them zero, as a redundant network has."""
    return {f"{c:.0e}": M.geometric(p, c) for c in (1.0, 1e8, 1e12, 1e15, 1e18)} | {
        "half": np.where(np.arange(p) < p // 2, 1.0, 0.0)
    }


def with_spectrum(rows: int, s: np.ndarray, seed: int) -> np.ndarray:
    """A matrix (rows, k) with singular values s to rounding, as `matrices.prescribed` in float64:
    in 80 bits these sizes take hours."""
    rng = np.random.default_rng(seed)
    left, right = (np.linalg.qr(rng.standard_normal((m, len(s))))[0] for m in (rows, len(s)))
    return (left * s) @ right.T


def errors(a: np.ndarray, s: np.ndarray, r) -> dict[str, float]:
    """Backward error and error of the singular values of a computed R, over s₁ = 1."""
    r = np.asarray(r)
    if not np.all(np.isfinite(r)):
        return {"backward": float("nan"), "singular_values": float("nan")}
    _, found, zt = np.linalg.svd(r)
    t = np.linalg.qr(a @ zt.T, mode="r")
    t *= np.where(np.diag(t) < 0, -1.0, 1.0)[:, None]
    return {
        "backward": float(np.linalg.norm(t - np.diag(found)) / np.linalg.norm(a)),
        "singular_values": float(np.max(np.abs(found - s)) / s[0]),
    }


def timed(function, a, repeat: int) -> dict[str, float]:
    """Least and median seconds and least processor seconds, compiled apart, blocked."""
    wall, cpu = [], []
    for _ in range(repeat):
        began, used = time.perf_counter(), time.process_time()
        jax.block_until_ready(function(a))
        wall.append(time.perf_counter() - began)
        cpu.append(time.process_time() - used)
    return {"least": min(wall), "median": statistics.median(wall), "cpu": min(cpu)}


def case(p: int, repeat: int) -> dict:
    """All paths at one P: times on Gaussian rows, errors on prescribed spectra."""
    n, rows = p + 1, ROWS * (p + 1)
    shape = jax.ShapeDtypeStruct((rows, n), jnp.float64)
    compiled = {name: jax.jit(f).lower(shape).compile() for name, f in PATHS.items()}
    a = jnp.asarray(np.random.default_rng(0).standard_normal((rows, n)))
    times = {name: timed(f, a, repeat) for name, f in compiled.items()}
    found: dict[str, dict] = {name: {} for name in PATHS}
    for seed, (kind, s) in enumerate(spectra(n).items()):
        given = with_spectrum(rows, s, seed)
        for name, f in compiled.items():
            found[name][kind] = errors(given, s, f(jnp.asarray(given)))
    paths = {}
    for name in PATHS:
        # A nan is no number below the limit.
        sound = all(max(e.values()) <= SOUND for e in found[name].values())
        gflops = 2 * n * n * (rows - n / 3) / times[name]["cpu"] / 1e9
        paths[name] = {"seconds": times[name], "gflops": gflops, "sound": sound}
        paths[name]["errors"] = found[name]
    return {"P": p, "S": rows, "paths": paths}


def table(c: dict) -> str:
    kinds = list(c["paths"]["householder"]["errors"])
    head = "".join(f"{kind:<19}" for kind in kinds)
    lines = [
        f"P = {c['P']}, S = {c['S']}: backward error, error of s for condition",
        f"{'path':<12} {'least':<8} {'median':<8} {'cpu':<8} {'Gflop/s':<8} sound  {head}",
    ]
    for name, path in c["paths"].items():
        t = path["seconds"]
        row = "".join(
            f"{e['backward']:<8.1e} {e['singular_values']:<10.1e}" for e in path["errors"].values()
        )
        lines.append(
            f"{name:<12} {t['least']:<8.3f} {t['median']:<8.3f} {t['cpu']:<8.3f} "
            f"{path['gflops']:<8.1f} {'yes' if path['sound'] else 'no':<6} {row}"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--repeat", type=int, default=5, help="repetitions (default 5)")
    parser.add_argument("--columns", type=int, nargs="+", default=[449, 1000], help="values of P")
    options = parser.parse_args()
    print(f"{set_precision()}, jax {jax.__version__}, {os.cpu_count()} cores, one thread")
    cases = []
    for p in options.columns:
        cases.append(case(p, options.repeat))
        print(table(cases[-1]), flush=True)
    if options.json:
        # JSON has no nan: null says that a path broke down.
        print(json.dumps({"cases": json.loads(json.dumps(cases), parse_constant=lambda _: None)}))


if __name__ == "__main__":
    main()
