"""The pictures of configs/README.md: u over its domain, a small PNG a problem.

    python tests/bench/gallery.py [--runs RUN ...] [--out configs/pictures]

By default u is the exact solution or the reference of each config in published.toml, beyond two
dimensions on the plane of x1 and x2 through the middle of the domain. Of a run folder it is the
solution that the run has found: its solution.npz, for a problem of two dimensions.
"""

from __future__ import annotations

import argparse
import tomllib
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from matplotlib.figure import Figure
from tables import ROOT, published

from distgram.linalg.precision import set_precision
from distgram.pde.registry import get

SIDE = 101  # nodes an axis
LARGEST = 60_000  # bytes


def of_config(name: str) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """Two axes, u on their grid, and the names of the axes."""
    config = tomllib.loads((ROOT / "configs" / f"{name}.toml").read_text(encoding="utf-8"))
    problem = get(config["problem"]["name"], config["problem"].get("parameters"))
    if problem.dim > 2:
        assert problem.exact is not None
        box = problem.domain
        axes = list(box.axes(SIDE)[:2])
        middle = 0.5 * (np.add(box.lower, box.upper))
        x = np.tile(middle, (SIDE * SIDE, 1))
        x[:, :2] = np.stack(np.meshgrid(*axes, indexing="ij"), axis=-1).reshape(-1, 2)
        u = np.asarray(jax.vmap(problem.exact)(jnp.asarray(x)))
    else:
        known = problem.known(SIDE)
        assert known is not None
        axes, u = list(known.grid), known.u
    return axes, u[:, 0].reshape(len(axes[0]), -1), problem.input_names


def of_run(run: Path) -> tuple[list[np.ndarray], np.ndarray, tuple[str, ...]]:
    """As `of_config`, from the solution.npz of a run folder."""
    with np.load(run / "solution.npz") as file:
        x, u = file["x"], file["u"]
    axes = [np.unique(column) for column in x.T]
    assert len(axes) == 2, f"{run}: expected a solution on a grid of two axes"
    order = np.lexsort(x.T[::-1])
    return axes, u[order, 0].reshape(len(axes[0]), -1), ("x1", "x2")


def draw(axes: list[np.ndarray], u: np.ndarray, names: tuple[str, ...], file: Path) -> None:
    """u over the plane of its two axes, the first one to the right."""
    figure = Figure(figsize=(2.4, 1.9), layout="constrained")
    plot = figure.subplots()
    shown = plot.pcolormesh(*axes, u.T, cmap="viridis", shading="gouraud", rasterized=True)
    plot.set_xlabel(names[0], fontsize=8)
    plot.set_ylabel(names[1], fontsize=8)
    plot.tick_params(labelsize=7)
    figure.colorbar(shown).ax.tick_params(labelsize=7)
    file.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(file, dpi=120)
    assert file.stat().st_size <= LARGEST, f"{file}: expected at most {LARGEST} bytes"


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--runs", nargs="+", type=Path, default=[], help="run folders")
    parser.add_argument("--out", type=Path, default=ROOT / "configs" / "pictures")
    given = parser.parse_args()
    set_precision()
    for name in [] if given.runs else published():
        draw(*of_config(name), given.out / f"{name}.png")
    for run in given.runs:
        draw(*of_run(run), given.out / f"{run.name}.png")


if __name__ == "__main__":
    main()
