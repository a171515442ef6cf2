"""Unknown coefficients and unknown initial values from noisy measurements, over seeds.

viscosity: nu of Burgers' equation on [0, 1] x [-1, 1] from 200 values at random points, with
noise of 1 % of the rms of u; the run begins at another nu. Beside the error: the standard deviation
and the 95 % interval that the run states, and the least standard deviation that any unbiased
estimate from these points can have (Cramér-Rao, the initial and boundary values known).

heat: the heat equation without its initial values, from 200 values at t > 0.05: the error of u at
t = 0 and over the whole domain, for three sizes of the noise.

    python tests/bench/inverse.py [viscosity|heat] [--seeds 10] [--nu 0.05] [--json]
"""

from __future__ import annotations

import argparse
import json
import math
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np
from distgram_launch import local

from distgram import load
from distgram.config.schema import check
from distgram.pde import tables
from distgram.pde.problems.burgers import cole_hopf

COUNT, NOISE, WEIGHT = 200, 0.01, 0.01
RULE = {"name": "adaptive_ratio", "excursion": 1.0}


def solved(tree: dict[str, Any], columns: dict[str, np.ndarray], folder: Path):
    """A run with these measurements: its result, and its solution."""
    with open(folder / "data.csv", "w", encoding="utf-8", newline="") as file:
        tables.write(file, columns.items())
    tree = tree | {"data": {"sensors": {"file": str(folder / "data.csv"), "weight": WEIGHT}}}
    result = local.start(check(tree), folder / "run", 1, False, lambda row: None, lambda line: None)
    return result, load(folder / "run")


def burgers_at(t: np.ndarray, x: np.ndarray, nu: float) -> np.ndarray:
    return np.array(
        [cole_hopf(np.array([a]), np.array([b]), nu)[0, 0] for a, b in zip(t, x, strict=True)]
    )


def viscosity(seed: int, nu: float, initial: float, steps: int, folder: Path) -> dict[str, Any]:
    """One estimate of nu, and what it stated of itself."""
    rng = np.random.default_rng(seed)
    t, x = rng.uniform(0.0, 1.0, COUNT), rng.uniform(-1.0, 1.0, COUNT)
    clean = burgers_at(t, x, nu)
    sigma = NOISE * math.sqrt(np.mean(clean**2))
    tree = {
        "problem": {"name": "burgers"},
        "model": {"hidden": [20, 20], "features": "periodic", "hard_constraint": True},
        "points": {"interior": {"count": 2048}},
        "unknown": {"viscosity": {"initial": initial, "positive": True}},
        "rule": RULE,
        "run": {"seed": seed, "steps": steps},
    }
    noisy = clean + sigma * rng.standard_normal(COUNT)
    columns = {"t": t, "x": x, "u": noisy, "sigma": np.full(COUNT, sigma)}
    result, _ = solved(tree, columns, folder)
    found = result.unknown["viscosity"]
    h = 1e-4
    slope = (burgers_at(t, x, nu * (1 + h)) - burgers_at(t, x, nu * (1 - h))) / (2 * h)
    return {
        "seed": seed,
        "nu": found["value"],
        "error": found["value"] / nu - 1,
        "sd": found["sd"] / nu,
        "least_sd": sigma / math.sqrt(np.sum(slope**2)),
        "covered": found["low"] <= nu <= found["high"],
        "steps": result.steps,
        "seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
        "P": result.P,
    }


def heat(seed: int, noise: float, steps: int, folder: Path) -> dict[str, Any]:
    """Errors of the solution of the heat equation from values at later times."""
    rng = np.random.default_rng(seed)
    t, x = rng.uniform(0.05, 1.0, COUNT), rng.uniform(0.0, 1.0, COUNT)
    clean = np.exp(-0.25 * np.pi**2 * t) * np.sin(np.pi * x)
    sigma = noise * math.sqrt(np.mean(clean**2))
    tree = {
        "problem": {"name": "heat", "without": ["initial"]},
        "model": {"hidden": [16, 16], "features": "normalize"},
        "points": {"interior": {"count": 1024}, "boundary": {"count": 256}},
        "rule": RULE,
        "run": {"seed": seed, "steps": steps},
    }
    columns = {"t": t, "x": x, "u": clean + sigma * rng.standard_normal(COUNT)}
    result, u = solved(tree, columns, folder)
    start = np.stack([np.zeros(201), np.linspace(0.0, 1.0, 201)], axis=1)
    error = u(start)[:, 0] - np.sin(np.pi * start[:, 1])
    return {
        "seed": seed,
        "noise": noise,
        "initial_rms_error": float(np.sqrt(np.mean(error**2))),
        "rms_error": result.l2_error,
        "mean_square_residual": result.mean_square_residual,
        "steps": result.steps,
        "seconds": result.seconds,
        "compile_seconds": result.compile_seconds,
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("what", nargs="?", choices=("viscosity", "heat"), default="viscosity")
    parser.add_argument("--seeds", type=int, default=10)
    parser.add_argument("--nu", type=float, default=0.05)
    parser.add_argument("--initial", type=float, default=0.02)
    parser.add_argument("--steps", type=int, default=40)
    parser.add_argument("--json", action="store_true")
    options = parser.parse_args()
    rows = []
    for seed in range(options.seeds):
        for noise in (0.0, 0.001, 0.01) if options.what == "heat" else (NOISE,):
            with tempfile.TemporaryDirectory() as made:
                began = time.perf_counter()
                if options.what == "heat":
                    row = heat(seed, noise, options.steps, Path(made))
                else:
                    given = (options.nu, options.initial, options.steps)
                    row = viscosity(seed, *given, Path(made))
                row["whole_seconds"] = time.perf_counter() - began
            rows.append(row)
            if not options.json:
                print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    if options.json:
        print(json.dumps(rows))
    elif options.what == "viscosity":
        errors = np.array([abs(row["error"]) for row in rows])
        covered = sum(row["covered"] for row in rows)
        print(f"largest error {errors.max():.3%}; covered {covered} of {len(rows)}")


if __name__ == "__main__":
    main()
