"""How fast the Green's function of a network tends to the exact one as the network grows.

    -u'' = f on [0, 1],   u(0) = u(1) = 0,      g(x, y) = min(x, y) (1 - max(x, y)),

for u = x (1 - x) times a tanh network of one hidden layer at initialisation. The error is the rms
over (x, y) on a 200 x 200 grid. No kernel of rank r comes closer than the first r sines,
whose error (Σ_{j>r} (jπ)⁻⁴)^½ falls as r^(-3/2).

    python tests/bench/green.py [--json] [--figure green.png]
"""

from __future__ import annotations

import argparse
import json
import time
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import NullFormatter

from distgram.geometry.regions import Box
from distgram.linalg.mesh import make_mesh
from distgram.linalg.precision import set_precision
from distgram.linalg.rows import Residual, lay_out
from distgram.net.features import Features
from distgram.net.mlp import Perceptron
from distgram.net.network import flatten
from distgram.pde.operators import partial
from distgram.pde.problem import HardConstraint, Term
from distgram.report.curves import BLACK, BLUE, VERMILION, dress
from distgram.report.kernels import green, tangent
from distgram.report.maps import signed_map

INTERVAL = Box((0.0,), (1.0,))
WIDTHS = (5, 10, 20, 40, 80, 160)
GAINS = (1.0, 4.0)
POINTS, NODES, RCOND = 4000, 200, 1e-10
X = (np.arange(NODES)[:, None] + 0.5) / NODES
EXACT = np.minimum(X, X.T) * (1 - np.maximum(X, X.T))


def minus_second_derivative(u):
    return lambda x: -partial(u, 0, 2)(x)


TERM = Term(minus_second_derivative, lambda x: jnp.zeros(1), INTERVAL, name="interior")


def computed(width: int, gain: float) -> tuple[dict, np.ndarray]:
    """What was found for one network, and its Green's function on the grid."""
    began = time.perf_counter()
    features = Features("normalize", INTERVAL.lower, INTERVAL.upper, (None,))
    network = Perceptron(features, [width], 1, key=jax.random.key(0), gain=gain)
    ends = HardConstraint(lambda x: jnp.zeros(1), lambda x: 4 * x * (1 - x), ())
    model, mesh = flatten(network, ends), make_mesh()
    points = (lay_out(mesh, TERM, INTERVAL.sample(POINTS, 0, "grid"), None, 1),)
    at = tangent(Residual((TERM,), model, mesh), model.theta0, points, RCOND)
    kernel = green(at, TERM, X, X)[:, 0, :, 0]
    found = {
        "gain": gain,
        "width": width,
        "P": model.p,
        "rank": at.rank,
        "rms_error": float(np.sqrt(np.mean((kernel - EXACT) ** 2))),
        "least_of_rank": float(np.sqrt(np.sum((np.pi * np.arange(at.rank + 1, 1e5)) ** -4.0))),
        "seconds": time.perf_counter() - began,
    }
    return found, kernel


def slope(rows: list[dict], against: str) -> float:
    """Of log error against the log of a size, by least squares."""
    sizes = np.log([row[against] for row in rows])
    return float(np.polyfit(sizes, np.log([row["rms_error"] for row in rows]), 1)[0])


def figure(rows: list[dict], kernels: dict[float, np.ndarray], path: Path) -> None:
    """Maps of the exact function, the best network's and their difference; error against rank."""
    fig = Figure(figsize=(9.6, 7.6), layout="constrained")
    *maps, ax = fig.subplots(2, 2).ravel()
    best, name = kernels[GAINS[-1]], f"network of gain {GAINS[-1]:g}, width {WIDTHS[-1]}"
    shown = {"exact Green's function": EXACT, name: best, "network less exact": best - EXACT}
    for cell, (title, values) in zip(maps, shown.items(), strict=True):
        signed_map(cell, (X[:, 0], X[:, 0]), values)
        dress(cell, "$x$", "$y$", title, grid=False)
    for gain, colour in zip(GAINS, (BLUE, VERMILION), strict=True):
        mine = [row for row in rows if row["gain"] == gain]
        ranks = [row["rank"] for row in mine]
        errors = [row["rms_error"] for row in mine]
        ax.loglog(ranks, errors, "o-", color=colour, label=f"gain {gain:g}")
    ranks = np.geomspace(min(r["rank"] for r in rows), max(r["rank"] for r in rows), 50)
    least = [np.sqrt(np.sum((np.pi * np.arange(round(r) + 1, 1e5)) ** -4.0)) for r in ranks]
    ax.loglog(ranks, least, "--", color=BLACK, label="least of that rank")
    dress(ax, "rank", "rms error", "error against rank")
    ax.set_xticks([20, 40, 80], ["20", "40", "80"])
    ax.xaxis.set_minor_formatter(NullFormatter())
    ax.legend(frameon=False)
    fig.savefig(path, dpi=150)


def main(given: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--figure", type=Path)
    options = parser.parse_args(given)
    set_precision()
    rows, kernels = [], {}
    for gain in GAINS:
        for width in WIDTHS:
            row, kernels[gain] = computed(width, gain)
            rows.append(row)
            if not options.json:
                print("  ".join(f"{k} {v:.4g}" for k, v in row.items()), flush=True)
    slopes = {
        f"gain {gain:g}, {against}": slope([r for r in rows if r["gain"] == gain], against)
        for gain in GAINS
        for against in ("P", "rank")
    }
    if options.json:
        print(json.dumps({"rows": rows, "slopes": slopes}))
    else:
        print("slope of log error against log of", slopes)
    if options.figure:
        figure(rows, kernels, options.figure)


if __name__ == "__main__":
    main()
