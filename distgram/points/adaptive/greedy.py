"""Greedy placement by the source's optimal criterion: the empirical tangent space comes nearer to
the functional gradient.

In the coordinates that the spectrum whitens, K(x, y) = Σ_{k<=r} w_k(x) w_k(y) with
w_k(x) = √w J(x)·v_k / s_k is the kernel of the tangent space in L², the natural tangent kernel; and
points (x_i) span the empirical tangent space  span K(x_i, ·).  Greedy points for

    min ‖Π ∇L - ∇L‖,      Π the projection onto that span,

are those of kernel interpolation: with the power function  P_n(x)² = K_n(x, x)  and the part
e_n of ∇L = r that is not yet explained, the choice y = argmax of

    f: |e_n|,     P: P_n,     fP: |e_n| P_n

deflates both as a pivoted Cholesky factorization does,

    v = K_n(·, y) / P_n(y),   K_{n+1}(x, z) = K_n(x, z) - v(x) v(z),
    e_{n+1} = e_n - v e_n(y) / P_n(y).

Source: Schwencke, Furtlehner, arXiv 2412.10782 (empirical tangent space); Wenzel, Santin,
Haasdonk, Constr. Approx. 57 (2023) 45 (f-, P- and f·P-greedy).
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax import lax
from jaxtyping import Array, Float, Int

from distgram.errors import require
from distgram.linalg.mesh import POINTS
from distgram.points.adaptive.leverage import informative
from distgram.points.adaptive.placement import Placed, Placement

# The span of the chosen points is the whole tangent space once P² is below this share of its first
# maximum, far above the rounding eps of a deflation: the next point begins a second layer.
EXHAUSTED = 1e-8


def choose(
    w: Float[Array, "n m r"], e: Float[Array, "n m"], alive: Array, count: int, by: str
) -> Int[Array, " count"]:
    """The greedy choice of `count` of the points of all devices; called on each with its own.

    Args:
        w: whitened rows of m equations per point. e: the part of the gradient to be explained.
        alive: False for padding, shape (n,). by: 'f', 'P' or 'fP'.

    Returns: indices in the order of the points over the devices, replicated.
    """
    n, m, _ = w.shape
    me = lax.axis_index(POINTS)
    power0 = jnp.sum(w**2, axis=2)
    top = lax.pmax(jnp.max(jnp.where(alive, jnp.sum(power0, axis=1), 0.0)), POINTS)

    def score(e, power):
        each = {"f": lambda: e**2, "P": lambda: power, "fP": lambda: e**2 * power}[by]()
        return jnp.sum(each, axis=1)

    def add(j, carry):
        e, power, newton, alive, chosen = carry
        most = lax.pmax(jnp.max(jnp.where(alive, jnp.sum(power, axis=1), 0.0)), POINTS)
        spent = most <= EXHAUSTED * top
        power = jnp.where(spent, power0, power)
        newton = jnp.where(spent, 0.0, newton)

        scores = jnp.where(alive, score(e, power), -jnp.inf)
        local = jnp.argmax(scores)
        owner = jnp.argmax(lax.all_gather(scores[local], POINTS))

        def of_chosen(a):
            return lax.psum(jnp.where(me == owner, a[local], jnp.zeros_like(a[local])), POINTS)

        w_y = of_chosen(w)
        for b in range(m):  # the equations of the point, one after another
            newton_y, power_y, e_y = of_chosen(newton)[b], of_chosen(power)[b], of_chosen(e)[b]
            known = power_y > EXHAUSTED * top
            scale = jnp.where(known, jnp.sqrt(jnp.where(known, power_y, 1.0)), jnp.inf)
            v = (w @ w_y[b] - newton @ newton_y) / scale
            power = jnp.maximum(power - v**2, 0.0)
            e = e - v * (e_y / scale)
            newton = newton.at[:, :, j * m + b].set(v)
        alive = alive & ~((me == owner) & (jnp.arange(n) == local))
        index = owner * n + lax.psum(jnp.where(me == owner, local, 0), POINTS)
        return e, power, newton, alive, chosen.at[j].set(index)

    newton = jnp.zeros((n, m, count * m), w.dtype)
    carry = (e, power0, newton, alive, jnp.zeros(count, int))
    return lax.fori_loop(0, count, add, carry)[-1]


@dataclass(frozen=True)
class Greedy(Placement):
    """Drop the points of least leverage (`leverage.informative`); insert the greedy choice out of
    uniform candidates.

    Args:
        drop: share of the points that leaves, in (0, 1). by: 'f', 'P' or 'fP'.
        candidates: number of candidates per inserted point, >= 2.

    Source: that of the module.
    """

    name = "greedy"
    drop: float = 0.1
    by: str = "fP"
    candidates: int = 4
    needs_spectrum = True

    def __post_init__(self):
        super().__post_init__()
        require(0 < self.drop < 1, self, "drop", "a number in (0, 1)")
        require(self.by in ("f", "P", "fP"), self, "by", "'f', 'P' or 'fP'")
        require(self.candidates >= 2, self, "candidates", "at least 2")

    def __call__(self, here, size, draw, view, rng):
        kept = informative(here, self.drop, view)
        count = size - len(kept)
        x = draw(self.candidates * count)
        return Placed(np.concatenate([kept, x[view.greedy(x, count, self.by)]]))
