"""Weighted residuals at sharded points, and the rows of their Jacobian, block by block.

The weights are those of the loss  Σ_t w_t mean_i |D_t[u](x_i) - f_t(x_i)|²:  the row of point i of
term t is multiplied by √(w_t ω_i),  Σ_i ω_i = 1.  The sum of the squared rows is then the loss, and
a singular value of the Jacobian is one of θ -> D[u] in L².
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from distgram.mesh import POINTS, REPLICATED, SHARDED, pad, shard
from distgram.models import FlatModel
from distgram.problem import ProblemError, Term


class Points(NamedTuple):
    """Collocation points of one term, x (n, d), and the square roots of their weights (n,)."""

    x: Float[Array, "n d"]
    sqrt_weight: Float[Array, " n"]


Rows = Callable[[Float[Array, " p"], tuple[Points, ...]], Float[Array, "n p+1"]]


def make_points(
    mesh: Mesh, term: Term, x: np.ndarray, density: np.ndarray | None, blocks: int
) -> Points:
    """Weight, pad and shard the points of a term.

    Args:
        x: points (n, d). density: the sampling density over the uniform one (n,), or None: uniform.
        blocks: row blocks a device; the number of points is padded to a multiple of it and of the
            number of devices.

    Raises:
        ProblemError: no points, a wrong dimension, or a coordinate that is not finite.
    """
    if x.ndim != 2 or x.shape[0] == 0 or x.shape[1] != term.region.dim:
        raise ProblemError(
            f"points.{term.name}: shape {x.shape}: expected (n, {term.region.dim}) with n >= 1."
        )
    if not np.all(np.isfinite(x)):
        raise ProblemError(f"points.{term.name}: a coordinate is not finite.")
    omega = np.ones(len(x)) if density is None else 1.0 / density
    sqrt_weight = np.sqrt(term.weight * omega / omega.sum())
    x, sqrt_weight = pad(np.asarray(x, np.float64), sqrt_weight, mesh.size * blocks)
    return Points(shard(mesh, x), shard(mesh, sqrt_weight))


class Residual:
    """The residual system of a problem and a model on a mesh.

    Args:
        terms: the terms that are left to the loss (not those a hard constraint satisfies).
        chunk: points whose derivatives are taken at once; bounds the memory of a row block.
    """

    def __init__(self, terms: tuple[Term, ...], model: FlatModel, mesh: Mesh, chunk: int = 1024):
        self.terms, self.model, self.mesh, self.chunk = terms, model, mesh, chunk

    def at(self, term: Term, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Array:
        """D[u](x) - f(x) of one term at one point, shape (m_t,)."""
        return term.operator(self.model.field(theta))(x) - term.target(x)

    def map(self, function: Callable, xs) -> Array:
        """A function of one point at many, `chunk` at a time."""
        n = jax.tree.leaves(xs)[0].shape[0]
        if n <= self.chunk:
            return jax.vmap(function)(xs)
        return lax.map(function, xs, batch_size=self.chunk)

    def weighted(self, term: Term, theta: Float[Array, " p"], points: Points) -> Array:
        """Weighted residuals of one term on one device's points, shape (n, m_t)."""
        values = self.map(lambda x: self.at(term, theta, x), points.x)
        return points.sqrt_weight[:, None] * values

    def rows(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Array:
        """Rows [J | r] of one block of points, all terms, shape (rows, p + 1), on one device.

        By vmapped reverse mode over the forward operator: one backward pass an equation.
        """
        blocks = []
        for term, block in zip(self.terms, points, strict=True):

            def row(xw, term=term):
                x, w = xw

                def values(theta):
                    r = w * self.at(term, theta, x)
                    return r, r

                jacobian, r = jax.jacrev(values, has_aux=True)(theta)
                return jnp.concatenate([jacobian, r[:, None]], axis=1)

            rows = self.map(row, tuple(block))
            blocks.append(rows.reshape(-1, rows.shape[-1]))
        return jnp.concatenate(blocks)

    def term_losses(
        self, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Float[Array, " terms"]:
        """Weighted mean square residual of every term; their sum is the loss. Replicated."""
        return self._summed(lambda t, p: jnp.stack(self._squares(t, p)), theta, points)

    def losses(self, thetas: Float[Array, "t p"], points: tuple[Points, ...]) -> Float[Array, " t"]:
        """Mean square residuals at t trial parameter vectors: one collective for all of them."""

        def local(thetas, points):
            return lax.map(lambda theta: sum(self._squares(theta, points)), thetas)

        return self._summed(local, thetas, points)

    def gram(
        self, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
        """(JᵀJ, Jᵀr): the normal equations, which lose every singular value below √eps·s₁."""

        def local(theta, points):
            rows = self.rows(theta, points)
            return rows[:, :-1].T @ rows

        product = self._summed(local, theta, points)
        return product[:, :-1], product[:, -1]

    def _squares(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> list[Array]:
        """Sum of the squared weighted residuals of every term on one device's points."""
        return [
            jnp.sum(self.weighted(term, theta, block) ** 2)
            for term, block in zip(self.terms, points, strict=True)
        ]

    def _summed(self, local: Callable, theta: Array, points: tuple[Points, ...]) -> Array:
        """Σ over the devices of  local(θ, the points of the device).  Replicated."""

        @partial(
            jax.shard_map,
            mesh=self.mesh,
            in_specs=(REPLICATED, SHARDED),  # parameters whole, each device its own points
            out_specs=REPLICATED,  # summed over the devices
            check_vma=False,
        )
        def sums(theta, points):
            return lax.psum(local(theta, points), POINTS)

        return sums(theta, points)
