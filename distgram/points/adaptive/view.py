"""A View of one term, computed on all devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import Mesh, NamedSharding
from jaxtyping import Array, Float, Int

from distgram.linalg.mesh import REPLICATED, SHARDED, pad, shard
from distgram.linalg.rows import Points, Residual, Rows
from distgram.linalg.spectrum import Spectrum
from distgram.pde.problem import Term
from distgram.points.adaptive.greedy import choose
from distgram.points.adaptive.placement import Placed, View

# Singular vectors below this share of s₁ have errors above √eps, and are left out.
LEAST = 1e-8


class Whitening(NamedTuple):
    """v_k / s_k as columns (p, k), and the coefficients c_k: both zero beyond the rank."""

    columns: Float[Array, "p k"]
    c: Float[Array, " k"]


def whitening(spectrum: Spectrum, rank: Int[Array, ""]) -> Whitening:
    """The coordinates in which the tangent space is orthonormal, up to a rank."""
    s = spectrum.s
    kept = (jnp.arange(s.shape[0]) < rank) & (s > LEAST * s[0])
    inverse = jnp.where(kept, 1.0 / jnp.where(kept, s, 1.0), 0.0)
    return Whitening(spectrum.vt.T * inverse, jnp.where(kept, spectrum.c, 0.0))


class Sight:
    """The compiled functions of one term: points are sharded, what is seen of them is replicated.

    They take the residual system of the term as their first argument.

    Args:
        block: rows of the Jacobian made at once on a device.
    """

    def __init__(self, mesh: Mesh, term: Term, block: int):
        self.term, self.block, self.mesh = term, block, mesh
        whole = NamedSharding(mesh, REPLICATED)
        self.residual = jax.jit(self._residual, out_shardings=whole)
        self.leverage = jax.jit(self._leverage, out_shardings=whole, static_argnums=1)
        self.greedy = jax.jit(self._greedy, out_shardings=whole, static_argnums=(1, 2, 3))

    def laid(self, x: Float[np.ndarray, "n d"]) -> tuple[int, Points]:
        """(row blocks per device, the sharded points), each point with the weight of the term."""
        blocks = -(-len(x) // (self.mesh.size * self.block))
        weight = np.full(len(x), np.sqrt(self.term.weight))
        x, weight = pad(x, weight, self.mesh.size * blocks)
        return blocks, Points(shard(self.mesh, x), shard(self.mesh, weight))

    def _residual(self, system, theta, points):
        def local(mine):
            at, (term,) = mine.residual.at, mine.residual.terms
            values = mine.residual.map(lambda x: at(term, mine.theta, x), mine.points[0].x)
            return jnp.sqrt(jnp.sum(values**2, axis=1))

        return system.rows(theta, (points,)).on_devices(local, SHARDED)()

    def _per_point(self, blocks: int, reduce: Callable, mine: Rows):
        """reduce(rows of one block, points first) over the row blocks of one device."""

        def of_block(block):
            rows = mine.residual.block(mine.theta, (block,))
            return reduce(rows.reshape(len(block.x), -1, rows.shape[1]))

        (points,) = mine.points
        split = jax.tree.map(lambda a: a.reshape(blocks, -1, *a.shape[1:]), points)
        found = lax.map(of_block, split)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), found)

    def _leverage(self, system, blocks, theta, points, whitening):
        def local(mine, whitening):
            def squares(rows):
                return jnp.sum((rows[..., :-1] @ whitening.columns) ** 2, axis=(1, 2))

            return self._per_point(blocks, squares, mine)

        rows = system.rows(theta, (points,))
        return rows.on_devices(local, SHARDED, REPLICATED)(whitening)

    def _greedy(self, system, blocks, count, by, theta, points, whitening):
        def local(mine, whitening):
            def coordinates(rows):
                w = rows[..., :-1] @ whitening.columns
                return w, rows[..., -1] - w @ whitening.c

            w, e = self._per_point(blocks, coordinates, mine)
            return choose(w, e, mine.points[0].sqrt_weight > 0, count, by)

        rows = system.rows(theta, (points,))
        return rows.on_devices(local, REPLICATED, REPLICATED)(whitening)


@dataclass(frozen=True)
class TermView(View):
    """What a placement sees of one term at θ. The whitening is found when first asked for.

    system: the residual system of the term alone. redraw: draws the points once more as the term
    asks for them.
    """

    sight: Sight
    system: Residual
    theta: Float[Array, " p"]
    whitening: Callable[[], Whitening]
    redraw: Callable[[], Placed]

    def residual(self, x):
        _, points = self.sight.laid(x)
        return np.asarray(self.sight.residual(self.system, self.theta, points))[: len(x)]

    def leverage(self, x):
        blocks, points = self.sight.laid(x)
        found = self.sight.leverage(self.system, blocks, self.theta, points, self.whitening())
        return np.asarray(found)[: len(x)]

    def anew(self):
        return self.redraw()

    def greedy(self, x, count, by):
        blocks, points = self.sight.laid(x)
        found = self.sight.greedy(
            self.system, blocks, count, by, self.theta, points, self.whitening()
        )
        return np.asarray(found)
