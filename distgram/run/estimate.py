"""The error of a solution that nobody knows, from the way on which it was found.

At an earlier moment a of the same run, when the rms residual r_a on held-out points was several
times the present r, the error was nearly the whole distance to the present solution. Error and
residual fall together, so that each such moment gives a constant and all of them an estimate:

    ‖u_a - u*‖ ≈ ‖u_a - u‖,     C_a = ‖u_a - u‖ / r_a,     ‖u - u*‖ ≈ max_a C_a r.

Its limits: a residual that is small where the solution is wrong all along the way deceives it, and
so does a run that has hardly begun; below APART between r_a and r, or with fewer than FEWEST
moments, there is no estimate. The estimate is that of the equations as they were posed, on held-out
points: of one time slab it does not know what the slab began with. That is handed on,

    E_k = a_k E_{k-1} + e_k,     a_k = max(1, ‖u_t(end)‖ / ‖u_t(begin)‖),

e_k the estimate of slab k by itself. Where the equation does not depend on time, u_t solves the
linearised one, as an error that is a shift in time does: other errors may grow faster.

Source: an a posteriori estimate by successive approximations, as of an iteration whose contraction
is known only from its steps (Ortega, Rheinboldt 1970, ch. 12), with the held-out residual in place
of the contraction.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from jaxtyping import Float

APART = 3.0  # of the rms residuals of two moments that are compared, and of two that are kept
FEWEST = 2
KEPT = 6
POINTS = 1024  # of the domain, at which solutions are compared


class Way(NamedTuple):
    """The last moments that were kept: u at POINTS points, and the rms residual, nan where there is
    none yet; the oldest first."""

    u: Float[np.ndarray, "k n m"]
    residual: Float[np.ndarray, " k"]


def begin(outputs: int) -> Way:
    """A way without moments, for m components of u."""
    return Way(np.full((KEPT, POINTS, outputs), np.nan), np.full(KEPT, np.nan))


def keep(way: Way, u: Float[np.ndarray, "n m"], residual: float) -> Way:
    """The way with this moment added, if its rms residual is APART from that of the last moment."""
    last = way.residual[-1]
    if not np.isfinite(residual) or residual * APART > last:
        return way
    return Way(np.append(way.u[1:], u[None], axis=0), np.append(way.residual[1:], residual))


def rms(u: Float[np.ndarray, "n m"]) -> float:
    """The root mean square of values."""
    with np.errstate(over="ignore", invalid="ignore"):  # of a run that blew up
        return float(np.sqrt(np.mean(u**2)))


def handed_on(own: float | None, before: float | None, growth: float) -> float | None:
    """E_k from e_k and E_{k-1}, absolute errors; None where either is not known."""
    if own is None or before is None:
        return None
    return max(growth, 1.0) * before + own


def estimate(way: Way, u: Float[np.ndarray, "n m"], residual: float) -> float | None:
    """The estimate of ‖u - u*‖ / ‖u‖; None where the way says too little."""
    if not np.isfinite(residual):  # a run that blew up, whose squares would overflow
        return None
    apart = way.residual > APART * residual
    size = rms(u)
    if np.sum(apart) < FEWEST or not size > 0:
        return None
    distances = np.sqrt(np.mean((way.u[apart] - u) ** 2, axis=(1, 2)))
    return float(np.max(distances / way.residual[apart]) * residual / size)
