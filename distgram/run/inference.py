"""Unknown coefficients and how well the data determine them, from the spectrum.

With the rows φ̂ = V̂ Δ̂ Ûᵀ of all terms at the solution, and s² the variance that the noise gives a
row of data, the parameters have the Gauss-Newton (Laplace) covariance

    Cov θ = s² (φ̂ᵀφ̂)⁻¹ = s² Û Δ̂⁻² Ûᵀ,       Cov ξ  its rows and columns of the coefficients' ξ.

Singular values below α = RCOND Δ̂₁ count as α: what the rows do not determine is known to s/α. A
row of data is √(w ω_i) (u - y)_i with ω_i = σ_i⁻² / Σ_j σ_j⁻², so that s² = w / Σ_j σ_j⁻². Where no
σ is given, s² = Σ r² / (n - tr H) over the rows of data, H = φ̂ Cov φ̂ᵀ / s² the part of them that
the model follows.

Its limits: it is the first order about one solution, that of the loss as weighted; it takes the
residuals of the equation for a prior as strong as its rows are against those of the data (a small
weight of the data makes the equation exact), and the noise for independent and Gaussian; it knows
of no error of the equation, and of no other minimum. Beside noise-free rows of the equation it is
above the variance of the estimate.

Source: Bates, Watts, Nonlinear Regression Analysis (1988), ch. 2; Tarantola (2005), ch. 3.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from distgram.linalg.mesh import REPLICATED
from distgram.linalg.rows import Points, Residual
from distgram.linalg.tsqr import whole_spectrum
from distgram.net.unknown import Unknown, positions
from distgram.pde.measurements import Measurements
from distgram.pde.problem import Term
from distgram.run.stage import Stage

RCOND = 1e-10
FREE = 1e-3  # of the rows of data that the model must leave free, or there is no noise to see
NORMAL_95 = 1.959963984540054


class Estimate(NamedTuple):
    """A coefficient: its value, standard deviation, and the ends of its 95 % interval (symmetric in
    ξ), all in its own units; the last three are None where the noise is not known."""

    value: float
    sd: float | None
    low: float | None
    high: float | None


class DataSpectrum(NamedTuple):
    """What the spectrum says: singular values s, the coefficients' entries v of the right vectors,
    and of the data terms without a σ the sums Σ r² and tr H."""

    s: Float[Array | np.ndarray, " k"]
    v: Float[Array | np.ndarray, "k c"]
    squares: Float[Array | np.ndarray, ""]
    followed: Float[Array | np.ndarray, ""]


def estimates(
    stage: Stage, theta: Float[Array, " p"], points: tuple[Points, ...]
) -> dict[str, Estimate]:
    """The unknown coefficients of a run at θ, by name; none where it has none."""
    unknowns, where = positions(stage.model)
    if not unknowns:
        return {}
    everywhere = NamedSharding(stage.mesh, REPLICATED)
    see = jax.jit(partial(_see, stage, where), out_shardings=everywhere)
    seen = DataSpectrum(*map(np.asarray, see(theta, points)))
    variance = np.diag(covariance(np.asarray(seen.s), np.asarray(seen.v), stage.model.p))
    deviations = noise_scale(stage.terms, stage.problem.dim, seen) * np.sqrt(variance)
    xis = np.asarray(theta)[where]
    return {u.name: _estimate(u, *of) for u, *of in zip(unknowns, xis, deviations, strict=True)}


def stated(
    stage: Stage, theta: Float[Array, " p"], points: tuple[Points, ...]
) -> dict[str, dict[str, float | None]]:
    """The estimates as plain values."""
    return {name: found._asdict() for name, found in estimates(stage, theta, points).items()}


def _estimate(unknown: Unknown, xi: float, sd: float) -> Estimate:
    value, slope = jax.value_and_grad(unknown.value)(jnp.asarray(xi))
    if not np.isfinite(sd):
        return Estimate(float(value), None, None, None)
    low, high = (float(unknown.value(jnp.asarray(xi + e * NORMAL_95 * sd))) for e in (-1, 1))
    return Estimate(float(value), abs(float(slope)) * float(sd), min(low, high), max(low, high))


def covariance(
    s: Float[np.ndarray, " k"], v: Float[np.ndarray, "k c"], p: int
) -> Float[np.ndarray, "c c"]:
    """(φ̂ᵀφ̂)⁻¹ at some of p parameters, v their columns of Ûᵀ: the covariance over s²."""
    least = RCOND * s[0]
    scaled = v / np.maximum(s, least)[:, None]
    found = scaled.T @ scaled
    if len(s) < p:  # directions that no row sees
        found = found + (np.eye(v.shape[1]) - v.T @ v) / least**2
    return found


def noise_scale(terms: Sequence[Term], dim: int, seen: DataSpectrum) -> float:
    """s: the standard deviation that the noise gives a weighted row of data, the largest of all
    data terms; nan where there are no data, or where the model follows every row of them."""
    scales, rows = [], 0
    for term in terms:
        if isinstance(term.region, Measurements):
            if term.region.sigma is not None:
                scales.append(np.sqrt(term.weight / np.sum(term.region.sigma**-2.0)))
            else:
                rows += len(term.region.x) * (term.region.dim - dim)
    if rows:
        left = rows - float(seen.followed)
        scales.append(np.sqrt(float(seen.squares) / left) if left > FREE * rows else np.nan)
    return float(np.max(scales)) if scales else np.nan


def _see(stage: Stage, where: np.ndarray, theta: Array, points: tuple[Points, ...]) -> DataSpectrum:
    of_run = stage.residual
    spectrum = whole_spectrum(of_run.rows(theta, points))
    inverse = spectrum.vt.T / jnp.maximum(spectrum.s, RCOND * spectrum.s[0])
    squares = followed = jnp.asarray(0.0)
    for term, block in zip(stage.terms, points, strict=True):
        if isinstance(term.region, Measurements) and term.region.sigma is None:
            alone = Residual((term,), of_run.model, of_run.mesh, of_run.chunk, of_run.blocks)
            product, r = alone.rows(theta, (block,)).multiply(inverse)
            squares, followed = squares + jnp.sum(r**2), followed + jnp.sum(product**2)
    return DataSpectrum(spectrum.s, spectrum.vt[:, where], squares, followed)
