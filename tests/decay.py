"""Noisy measurements of a decay: u' = -k u + q, u(0) = 1."""

from __future__ import annotations

import numpy as np

RATE, SOURCE, NOISE, COUNT = 2.0, 0.5, 0.01, 60


def measurements(sigma: bool, seed: int = 0) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """(x (n, 1), u (n,), σ (n,)) with noise; every second value is ten times noisier where σ is
    stated, else all are alike and σ is None."""
    rng = np.random.default_rng(seed)
    x = rng.uniform(0.0, 1.0, COUNT)
    s = NOISE * np.where(np.arange(COUNT) % 2 == 1, 10.0 if sigma else 1.0, 1.0)
    clean = SOURCE / RATE + (1 - SOURCE / RATE) * np.exp(-RATE * x)
    u = clean + s * rng.standard_normal(COUNT)
    return x[:, None], u, s if sigma else None


def table(sigma: bool, seed: int = 0) -> str:
    """The same as a CSV file."""
    x, u, s = measurements(sigma, seed)
    columns = [x[:, 0], u] + ([] if s is None else [s])
    rows = [",".join(f"{value:.17g}" for value in row) for row in zip(*columns, strict=True)]
    return "\n".join(["x,u" + ",sigma" * sigma, *rows]) + "\n"
