"""A linear least-squares problem with a part outside the range, as the rules see it."""

from __future__ import annotations

import jax.numpy as jnp
import matrices as M
import numpy as np
from matrices import EPS

from distgram.linalg.butterfly import triangle
from distgram.linalg.spectrum import Spectrum
from distgram.linalg.tsqr import spectrum_of_triangle

P = 10
A = M.prescribed(50, M.geometric(P, 1e3))
SOLUTION = np.random.default_rng(2).standard_normal(P)
OUTSIDE = 0.1 * np.random.default_rng(3).standard_normal(50)
RIGHT = A @ SOLUTION + OUTSIDE
LEAST_SQUARES = np.linalg.lstsq(A, RIGHT)[0]
LEAST = float(np.sum((A @ LEAST_SQUARES - RIGHT) ** 2))
THETA = jnp.zeros(P)
# 100 eps of backward error, times the condition squared: b has a part outside the range.
SENSITIVITY = 100 * EPS * 1e6


def linear(theta):
    """(spectrum, losses_at) of the residual Aθ - b at θ."""

    def losses_at(thetas):
        return jnp.sum((thetas @ A.T - RIGHT) ** 2, axis=1)

    r = A @ theta - RIGHT
    return spectrum_of_triangle(triangle(jnp.column_stack([jnp.asarray(A), r]))), losses_at


def by_hand(s, c, outside=0.0) -> Spectrum:
    s, c = jnp.asarray(s, float), jnp.asarray(c, float)
    return Spectrum(s, jnp.eye(len(s)), c, jnp.asarray(outside, float))
