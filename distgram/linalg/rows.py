"""Weighted residuals at sharded points, and the rows of their Jacobian, block by block.

The weights are those of the loss  Σ_t w_t mean_i |D_t[u](x_i) - f_t(x_i)|²:  the row of point i of
term t is multiplied by √(w_t ω_i),  Σ_i ω_i = 1.  The sum of the squared rows is then the loss, and
a singular value of the Jacobian is one of θ -> D[u] in L².
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.linalg.mesh import POINTS, REPLICATED, SHARDED, pad, shard
from distgram.net.network import FlatModel
from distgram.pde.problem import Term

# Trial parameters whose losses are taken at once: memory is that of TRIALS chunks of points.
TRIALS = 8

# From the arrays that a residual system holds fixed to its terms and its model.
SystemOf = Callable[[Any], tuple[tuple[Term, ...], FlatModel]]


class Points(NamedTuple):
    """Collocation points of one term, x (n, d), and the square roots of their weights (n,)."""

    x: Float[Array, "n d"]
    sqrt_weight: Float[Array, " n"]


def lay_out(
    mesh: Mesh, term: Term, x: np.ndarray, density: np.ndarray | None, blocks: int, size: int = 0
) -> Points:
    """Weigh, pad and shard points of a term: the one place where a run does so.

    Args:
        x: points (n, d). density: the sampling density over the uniform one (n,), or None: uniform.
        blocks: row blocks per device; the number of points is padded to a multiple of it and of the
            number of devices. size: the least number of points laid out; those beyond x have weight
            zero and make room for points that come later.

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
    x, sqrt_weight = pad(np.asarray(x, np.float64), sqrt_weight, mesh.size * blocks, size)
    return Points(shard(mesh, x), shard(mesh, sqrt_weight))


@jax.tree_util.register_pytree_node_class
class Residual:
    """The residual system of some terms and a model on a mesh.

    It is a pytree whose leaves are what the system holds fixed, such as the solution with which a
    time slab begins: a function that takes it as an argument is compiled once for all slabs.

    Args:
        terms: the terms of the loss: all but those that a hard constraint satisfies.
        chunk: points whose derivatives are taken at once; bounds the memory of a row block.
        blocks: row blocks in which a device goes through its points; the points must be padded to
            a multiple of it. Only one block of [J | r] exists at a time.
    """

    def __init__(
        self,
        terms: tuple[Term, ...],
        model: FlatModel,
        mesh: Mesh,
        chunk: int = 1024,
        blocks: int = 1,
    ):
        self.pose: SystemOf = lambda held: (terms, model)
        self.held: Any = ()
        self.mesh, self.chunk, self.blocks, self.index = mesh, chunk, blocks, None

    @classmethod
    def posed(
        cls,
        pose: SystemOf,
        held: Any,
        mesh: Mesh,
        chunk: int,
        blocks: int,
        index: int | None = None,
    ) -> Residual:
        """The system that `pose` gives for the arrays in `held`.

        Args: index: keeps only the term of this index; None: keeps all terms.
        """
        residual = object.__new__(cls)
        residual.pose, residual.held, residual.mesh = pose, held, mesh
        residual.chunk, residual.blocks, residual.index = chunk, blocks, index
        if all(isinstance(leaf, jax.Array) for leaf in jax.tree.leaves(held)):
            _ = residual._system  # here, and not at first use inside a function that jax traces
        return residual

    def only(self, index: int) -> Residual:
        """The system of one of the terms, in one row block."""
        return Residual.posed(self.pose, self.held, self.mesh, self.chunk, 1, index)

    def tree_flatten(self):
        return (self.held,), (self.pose, self.mesh, self.chunk, self.blocks, self.index)

    @classmethod
    def tree_unflatten(cls, aux, children):
        pose, *rest = aux
        return cls.posed(pose, children[0], *rest)

    @cached_property
    def _system(self) -> tuple[tuple[Term, ...], FlatModel]:
        terms, model = self.pose(self.held)
        return (terms if self.index is None else terms[self.index : self.index + 1]), model

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms."""
        return self._system[0]

    @property
    def model(self) -> FlatModel:
        """The model."""
        return self._system[1]

    def rows(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Rows:
        """The rows [J | r] at θ, as an object whose methods compute them."""
        return Rows(self, theta, points)

    def at(self, term: Term, theta: Float[Array, " p"], x: Float[Array, " d"]) -> Array:
        """D[u](x) - f(x) of one term at one point, shape (m_t,)."""
        return term.residual(self.model.field(theta))(x)

    def map(self, function: Callable, xs) -> Array:
        """The values of a function of one point at all points xs, `chunk` points at a time."""
        n = jax.tree.leaves(xs)[0].shape[0]
        if n <= self.chunk:
            return jax.vmap(function)(xs)
        return lax.map(function, xs, batch_size=self.chunk)

    def weighted(self, term: Term, theta: Float[Array, " p"], points: Points) -> Array:
        """Weighted residuals of one term on one device's points, shape (n, m_t)."""
        values = self.map(lambda x: self.at(term, theta, x), points.x)
        return points.sqrt_weight[:, None] * values

    def block(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Array:
        """Rows [J | r] of one block of points, all terms, shape (rows, p + 1), on one device.

        Reverse mode over the forward derivatives in x: one backward pass per equation.
        """
        blocks = []
        for term, of_term in zip(self.terms, points, strict=True):

            def row(xw, term=term):
                x, w = xw

                def values(theta):
                    r = w * self.at(term, theta, x)
                    return r, r

                jacobian, r = jax.jacrev(values, has_aux=True)(theta)
                return jnp.concatenate([jacobian, r[:, None]], axis=1)

            rows = self.map(row, tuple(of_term))
            blocks.append(rows.reshape(-1, rows.shape[-1]))
        return jnp.concatenate(blocks)

    def squares(self, theta: Float[Array, " p"], points: tuple[Points, ...]) -> list[Array]:
        """Sum of the squared weighted residuals of every term on one device's points."""
        return [
            jnp.sum(self.weighted(term, theta, of_term) ** 2)
            for term, of_term in zip(self.terms, points, strict=True)
        ]


@dataclass(frozen=True)
class Rows:
    """The weighted rows [J | r] of a residual system at θ and its points. They are made block by
    block where they are used, and never stored whole.

    On the mesh `points` are sharded and θ is replicated. `on_devices` gives every device a copy of
    this object that holds the points of the device only; `split`, `fold`, `by_block` and `whole`
    are called on such a copy.
    """

    residual: Residual
    theta: Float[Array, " p"]
    points: tuple[Points, ...]

    @property
    def p(self) -> int:
        """P, the number of parameters."""
        return self.theta.shape[0]

    @property
    def mesh(self) -> Mesh:
        """The devices over which the points are sharded."""
        return self.residual.mesh

    @property
    def trials(self) -> Trials:
        """What a rule may ask of the residual at other parameters."""
        return Trials(self)

    # -- on one device ---------------------------------------------------------------------------

    def split(self, tree: Any) -> Any:
        """The arrays of one device with a new leading axis, which counts its row blocks."""
        blocks = self.residual.blocks
        return jax.tree.map(lambda a: a.reshape(blocks, -1, *a.shape[1:]), tree)

    def by_block(self, function: Callable) -> Array:
        """The rows that a function makes of the points of each row block, one after another."""
        y = lax.map(function, self.split(self.points))
        return y.reshape(-1, y.shape[-1])

    def whole(self) -> Float[Array, "n p+1"]:
        """All rows [J | r] of one device, in the order of `multiply`."""
        return self.by_block(lambda points: self.residual.block(self.theta, points))

    def fold(self, add: Callable) -> Any:
        """add(... add(add(None, rows₁), rows₂) ..., rows_b)  over the row blocks."""
        split, block = self.split(self.points), self.residual.block
        first = add(None, block(self.theta, jax.tree.map(lambda a: a[0], split)))
        rest = jax.tree.map(lambda a: a[1:], split)
        out, _ = lax.scan(
            lambda out, points: (add(out, block(self.theta, points)), None), first, rest
        )
        return out

    # -- over all devices ------------------------------------------------------------------------

    def on_devices(self, local: Callable, out: Any, *more: Any) -> Callable:
        """The function (...) -> local(rows of the device, ...) that runs on every device.

        Args: out: the partition of what local gives. more: the partitions of its other arguments.
        """

        def with_own_points(residual, theta, points, *others):
            return local(replace(self, residual=residual, theta=theta, points=points), *others)

        mapped = jax.shard_map(
            with_own_points,
            mesh=self.mesh,
            in_specs=(REPLICATED, REPLICATED, SHARDED, *more),
            out_specs=out,
            check_vma=False,
        )
        return lambda *others: mapped(self.residual, self.theta, self.points, *others)

    def on_matrix(self, local: Callable) -> Callable:
        """local(its rows of one sharded matrix, the number of devices) -> (rows, replicated)."""
        return jax.shard_map(
            lambda a: local(a, self.mesh.size),
            mesh=self.mesh,
            in_specs=SHARDED,
            out_specs=(SHARDED, REPLICATED),
            check_vma=False,
        )

    def multiply(self, v: Float[Array, "p k"]) -> tuple[Float[Array, "n k"], Float[Array, " n"]]:
        """(J V, r) in row blocks, both sharded over the points; V replicated. J is not stored."""

        def local(rows, v):
            both = jnp.pad(v, ((0, 1), (0, 1))).at[-1, -1].set(1.0)  # [J | r] is not taken apart
            y = rows.by_block(lambda points: rows.residual.block(rows.theta, points) @ both)
            return y[:, :-1], y[:, -1]

        return self.on_devices(local, SHARDED, REPLICATED)(v)

    def multiply_transposed(self, u: Float[Array, "n k"]) -> Float[Array, "p k"]:
        """Jᵀ U in row blocks, summed over the devices; U sharded as `multiply` leaves J V."""

        def local(rows, u):
            def add(sum, block):
                points, u = block
                return sum + rows.residual.block(rows.theta, points).T @ u, None

            zero = jnp.zeros((rows.p + 1, u.shape[1]), u.dtype)
            return lax.psum(lax.scan(add, zero, rows.split((rows.points, u)))[0], POINTS)[:-1]

        return self.on_devices(local, REPLICATED, SHARDED)(u)

    def normal_equations(self) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
        """(JᵀJ, Jᵀr), summed over the devices. Each device holds all of its rows at once."""

        def local(rows):
            block = rows.residual.block(rows.theta, rows.points)
            return lax.psum(block[:, :-1].T @ block, POINTS)

        product = self.on_devices(local, REPLICATED)()
        return product[:, :-1], product[:, -1]

    def term_losses(self) -> Float[Array, " terms"]:
        """Weighted mean square residual of every term; their sum is the loss. Replicated."""

        def local(rows):
            return lax.psum(jnp.stack(rows.residual.squares(rows.theta, rows.points)), POINTS)

        return self.on_devices(local, REPLICATED)()

    def losses(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """Mean square residuals at t trial parameter vectors: a few trials at a time on every
        device, one collective for all of them."""
        count = thetas.shape[0]
        blocks = -(-count // TRIALS)
        padded = jnp.pad(thetas, ((0, -count % blocks), (0, 0)), mode="edge")

        def local(rows, thetas):
            square = jax.vmap(lambda theta: sum(rows.residual.squares(theta, rows.points)))
            return lax.psum(lax.map(square, thetas), POINTS)

        split = padded.reshape(blocks, -1, thetas.shape[1])
        return self.on_devices(local, REPLICATED, REPLICATED)(split).reshape(-1)[:count]


@dataclass(frozen=True)
class Trials:
    """The residual at trial parameters, as the rules see it; its rows are those at θ, where the
    step begins."""

    rows: Rows

    def __call__(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """The mean square residual at t parameter vectors."""
        return self.rows.losses(thetas)

    def pulled_back(self, thetas: Float[Array, "t p"]) -> Float[Array, "t p"]:
        """J(θ)ᵀ r(θ_t): the residuals, sharded like the points, meet the rows in row blocks."""

        def local(rows, thetas):
            residual = rows.residual

            def of_block(points):
                def at(theta):
                    terms = zip(residual.terms, points, strict=True)
                    return jnp.concatenate(
                        [residual.weighted(t, theta, p).ravel() for t, p in terms]
                    )

                return lax.map(at, thetas, batch_size=TRIALS).T

            return rows.by_block(of_block)

        u = self.rows.on_devices(local, SHARDED, REPLICATED)(thetas)
        return self.rows.multiply_transposed(u).T


@dataclass(frozen=True)
class Objective:
    """The mean square residual on given points, as the baselines see it."""

    residual: Residual
    points: tuple[Points, ...]

    def __call__(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """L(θ)."""
        return jnp.sum(self.residual.rows(theta, self.points).term_losses())

    def batch(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """L at t parameter vectors."""
        return self.residual.rows(thetas[0], self.points).losses(thetas)

    def gram(self, theta: Float[Array, " p"]) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
        """(JᵀJ, Jᵀr), summed over the devices."""
        return self.residual.rows(theta, self.points).normal_equations()
