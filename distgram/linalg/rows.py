"""Weighted residuals at sharded points, and the rows of their Jacobian, block by block.

The weights are those of the loss  Σ_t w_t mean_i |D_t[u](x_i) - f_t(x_i)|²:  the row of point i of
term t is multiplied by √(w_t ω_i),  Σ_i ω_i = 1.  The sum of the squared rows is then the loss, and
a singular value of the Jacobian is one of θ -> D[u] in L².
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.linalg.mesh import POINTS, REPLICATED, SHARDED, pad, shard
from distgram.net.mlp import FlatModel
from distgram.pde.problem import Term


class Points(NamedTuple):
    """Collocation points of one term, x (n, d), and the square roots of their weights (n,)."""

    x: Float[Array, "n d"]
    sqrt_weight: Float[Array, " n"]


# Trial parameters whose losses are taken at once: memory is that of TRIALS chunks of points.
TRIALS = 8


def make_points(
    mesh: Mesh, term: Term, x: np.ndarray, density: np.ndarray | None, blocks: int, size: int = 0
) -> Points:
    """The points of a term, weighted, padded and sharded: see `weighted_points`."""
    x, sqrt_weight = weighted_points(mesh.size, term, x, density, blocks, size)
    return Points(shard(mesh, x), shard(mesh, sqrt_weight))


def weighted_points(
    devices: int, term: Term, x: np.ndarray, density: np.ndarray | None, blocks: int, size: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Weight and pad the points of a term: (x, √w), on the host.

    Args:
        x: points (n, d). density: the sampling density over the uniform one (n,), or None: uniform.
        blocks: row blocks a device; the number of points is padded to a multiple of it and of the
            number of devices. size: there is room for as many points, those to come of weight zero.

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
    return pad(np.asarray(x, np.float64), sqrt_weight, devices * blocks, size)


class Residual:
    """The residual system of a problem and a model on a mesh.

    Args:
        terms: the terms that are left to the loss (not those a hard constraint satisfies).
        chunk: points whose derivatives are taken at once; bounds the memory of a row block.
        blocks: row blocks in which a device goes through its points; the points must be padded to
            a multiple of it. One block of [J | r] is all that exists of it at a time.
    """

    def __init__(
        self,
        terms: tuple[Term, ...],
        model: FlatModel,
        mesh: Mesh,
        chunk: int = 1024,
        blocks: int = 1,
    ):
        self.terms, self.model, self.mesh = terms, model, mesh
        self.chunk, self.blocks = chunk, blocks

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

    def _split(self, tree: Any) -> Any:
        """What one device holds, in its row blocks: a new leading axis."""
        return jax.tree.map(lambda a: a.reshape(self.blocks, -1, *a.shape[1:]), tree)

    def by_block(self, function: Callable, points: tuple[Points, ...]) -> Array:
        """The rows that a function makes of each row block of one device, one after another."""
        y = lax.map(function, self._split(points))
        return y.reshape(-1, y.shape[-1])

    def fold(self, add: Callable, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Array:
        """add(... add(add(None, rows₁), rows₂) ..., rows_b)  over the row blocks of one device."""
        split = self._split(points)
        first = add(None, self.rows(theta, jax.tree.map(lambda a: a[0], split)))
        rest = jax.tree.map(lambda a: a[1:], split)
        out, _ = lax.scan(lambda out, block: (add(out, self.rows(theta, block)), None), first, rest)
        return out

    def multiply(
        self,
        theta: Float[Array, " p"],
        points: tuple[Points, ...],
        v: Float[Array, "p k"],
    ) -> tuple[Float[Array, "n k"], Float[Array, " n"]]:
        """(J V, r) in row blocks, both sharded over the points; V replicated. J is not stored."""

        def local(theta, points, v):
            both = jnp.pad(v, ((0, 1), (0, 1))).at[-1, -1].set(1.0)  # [J | r] is not taken apart
            y = self.by_block(lambda block: self.rows(theta, block) @ both, points)
            return y[:, :-1], y[:, -1]

        return self.on_devices(local, SHARDED, REPLICATED)(theta, points, v)

    def multiply_transposed(
        self,
        theta: Float[Array, " p"],
        points: tuple[Points, ...],
        u: Float[Array, "n k"],
    ) -> Float[Array, "p k"]:
        """Jᵀ U in row blocks, summed over the devices; U sharded as `multiply` leaves J V."""

        def local(theta, points, u):
            def add(sum, block):
                points, u = block
                return sum + self.rows(theta, points).T @ u, None

            zero = jnp.zeros((theta.shape[0] + 1, u.shape[1]), u.dtype)
            return lax.psum(lax.scan(add, zero, self._split((points, u)))[0], POINTS)[:-1]

        return self.on_devices(local, REPLICATED, SHARDED)(theta, points, u)

    def block_rows(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Array:
        """All rows [J | r] of one device, in the order of `multiply`, shape (rows, p + 1)."""
        return self.by_block(partial(self.rows, theta), points)

    def term_losses(
        self, theta: Float[Array, " p"], points: tuple[Points, ...]
    ) -> Float[Array, " terms"]:
        """Weighted mean square residual of every term; their sum is the loss. Replicated."""
        return self._summed(lambda t, p: jnp.stack(self._squares(t, p)), theta, points)

    def losses(self, thetas: Float[Array, "t p"], points: tuple[Points, ...]) -> Float[Array, " t"]:
        """Mean square residuals at t trial parameter vectors: a few trials at a time on every
        device, one collective for all of them."""

        count = thetas.shape[0]
        blocks = -(-count // TRIALS)
        padded = jnp.pad(thetas, ((0, -count % blocks), (0, 0)), mode="edge")

        def local(thetas, points):
            square = jax.vmap(lambda theta: sum(self._squares(theta, points)))
            return lax.map(square, thetas)

        split = padded.reshape(blocks, -1, thetas.shape[1])
        return self._summed(local, split, points).reshape(-1)[:count]

    def _squares(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> list[Array]:
        """Sum of the squared weighted residuals of every term on one device's points."""
        return [
            jnp.sum(self.weighted(term, theta, block) ** 2)
            for term, block in zip(self.terms, points, strict=True)
        ]

    def _summed(self, local: Callable, theta: Array, points: tuple[Points, ...]) -> Array:
        """Σ over the devices of  local(θ, the points of the device).  Replicated."""

        def sums(theta, points):
            return lax.psum(local(theta, points), POINTS)

        return self.on_devices(sums, REPLICATED)(theta, points)

    def on_rows(self, local: Callable) -> Callable:
        """local(its rows of one sharded matrix, the number of devices) -> (rows, replicated)."""
        return jax.shard_map(
            lambda a: local(a, self.mesh.size),
            mesh=self.mesh,
            in_specs=SHARDED,
            out_specs=(SHARDED, REPLICATED),
            check_vma=False,
        )

    def on_devices(self, local: Callable, out: Any, *more: Any) -> Callable:
        """local(θ, points, ...) on every device: θ whole, its own points, more arguments laid out
        as `more` says; what it gives is laid out as `out`."""
        return jax.shard_map(
            local,
            mesh=self.mesh,
            in_specs=(REPLICATED, SHARDED, *more),
            out_specs=out,
            check_vma=False,
        )
