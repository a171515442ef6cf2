"""sin and cos in float64 at the cost of a polynomial: XLA's own take eight times as long as tanh on
a CPU, these two to three times, and a sine network is mostly sines.

    sin x = (-1)^k sin r,   k = round(x / π),       r = x - kπ,          |r| <= π/2,
    cos x = (-1)^k sin r,   k = round(x/π + 1/2),   r = x - kπ + π/2,    |r| <= π/2,

π in three parts, so that r is good to rounding (Cody, Waite 1980); sin r by its Taylor polynomial
of degree 21, whose remainder is below 3e-18 there. The absolute error stays below 4e-16 for
|x| <= 1e5, and below eps |x|, which rounding x makes as well, beyond: no network at work asks for
that, and a branch for it would be computed always under vmap. The derivatives are those of sin and
cos, also in the forward Laplacian of folx.
"""

from __future__ import annotations

import math
from typing import Any, cast

import folx
import jax
import jax.numpy as jnp
from folx.wrapped_functions import wrap_forward_laplacian
from jaxtyping import Array, Float

# π to 159 bits: the first two parts have 33 bits each, so that k times them is exact to k < 2^20.
PI_1, PI_2, PI_3 = 3.1415926534682512, 1.2154201013012733e-10, 1.0706503157017747e-20
# (-1)^n / (2n + 1)!, n = 1..10.
TAYLOR = tuple((-1.0) ** n / math.factorial(2 * n + 1) for n in range(1, 11))


def _reduced(x: Array, shift: float) -> tuple[Array, Array]:
    """(r, (-1)^k) with r = x - (k - shift) π, k the nearest whole number."""
    k = jnp.round(x * (1.0 / math.pi) + shift)
    m = k - shift
    r = ((x - m * PI_1) - m * PI_2) - m * PI_3
    r = jnp.clip(r, -0.5 * math.pi, 0.5 * math.pi)  # at |x| = 1/eps nothing of x's phase is left
    return r, 1.0 - 2.0 * (k - 2.0 * jnp.floor(0.5 * k))


def _polynomial(r: Array) -> Array:
    """sin r for |r| <= π/2."""
    z, p = r * r, jnp.full_like(r, TAYLOR[-1])
    for coefficient in TAYLOR[-2::-1]:
        p = p * z + coefficient
    return r + r * (z * p)


@jax.custom_jvp
def _sine(x):
    r, sign = _reduced(x, 0.0)
    return sign * _polynomial(r)


@jax.custom_jvp
def _cosine(x):
    r, sign = _reduced(x, 0.5)  # cos x = sin(x + π/2) = (-1)^k sin(x - (k - 1/2) π)
    return sign * _polynomial(r)


# folx knows a jitted function by its name: these are ours alone.
@jax.jit
def distgram_sine(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """sin x, float64."""
    return _sine(x)


@jax.jit
def distgram_cosine(x: Float[Array, "*n"]) -> Float[Array, "*n"]:
    """cos x, float64."""
    return _cosine(x)


sine, cosine = distgram_sine, distgram_cosine
_sine.defjvp(lambda x, t: (sine(x[0]), cosine(x[0]) * t[0]))
_cosine.defjvp(lambda x, t: (cosine(x[0]), -sine(x[0]) * t[0]))
for _function in (sine, cosine):
    folx.register_function(
        cast(Any, _function).__name__, wrap_forward_laplacian(_function, in_axes=())
    )
