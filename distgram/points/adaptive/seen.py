"""A View of one term, computed on all devices of a mesh."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float, Int

from distgram.linalg.mesh import REPLICATED, SHARDED, pad, shard
from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Spectrum
from distgram.pde.problem import Term
from distgram.points.adaptive.greedy import choose
from distgram.points.adaptive.placement import View

# Singular vectors below this share of s₁ are known to less than √eps: they count for nothing here.
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

    Args:
        block: rows of the Jacobian made at once on a device.
    """

    def __init__(self, residual: Residual, term: Term, block: int):
        self.term, self.block = term, block
        self.mesh = residual.mesh
        self._one = Residual((term,), residual.model, residual.mesh, residual.chunk)
        whole = NamedSharding(residual.mesh, REPLICATED)
        self.residual = jax.jit(self._residual, out_shardings=whole)
        self.leverage = jax.jit(self._leverage, out_shardings=whole, static_argnums=0)
        self.greedy = jax.jit(self._greedy, out_shardings=whole, static_argnums=(0, 1, 2))

    def laid(self, x: Float[np.ndarray, "n d"]) -> tuple[int, Points]:
        """(row blocks a device, the points sharded): each with the weight of the term."""
        blocks = -(-len(x) // (self.mesh.size * self.block))
        weight = np.full(len(x), np.sqrt(self.term.weight))
        x, weight = pad(x, weight, self.mesh.size * blocks)
        return blocks, Points(shard(self.mesh, x), shard(self.mesh, weight))

    def _residual(self, theta, points):
        def local(theta, points):
            values = self._one.map(lambda x: self._one.at(self.term, theta, x), points.x)
            return jnp.sqrt(jnp.sum(values**2, axis=1))

        return self._one.on_devices(local, SHARDED)(theta, points)

    def _per_point(self, blocks: int, reduce: Callable, theta, points: Points):
        """reduce(rows of one block, points first) over the row blocks of one device."""

        def of_block(block):
            rows = self._one.rows(theta, (block,))
            return reduce(rows.reshape(len(block.x), -1, rows.shape[1]))

        split = jax.tree.map(lambda a: a.reshape(blocks, -1, *a.shape[1:]), points)
        seen = lax.map(of_block, split)
        return jax.tree.map(lambda a: a.reshape(-1, *a.shape[2:]), seen)

    def _leverage(self, blocks, theta, points, whitening):
        def local(theta, points, whitening):
            def squares(rows):
                return jnp.sum((rows[..., :-1] @ whitening.columns) ** 2, axis=(1, 2))

            return self._per_point(blocks, squares, theta, points)

        return self._one.on_devices(local, SHARDED, REPLICATED)(theta, points, whitening)

    def _greedy(self, blocks, count, by, theta, points, whitening):
        def local(theta, points, whitening):
            def coordinates(rows):
                w = rows[..., :-1] @ whitening.columns
                return w, rows[..., -1] - w @ whitening.c

            w, e = self._per_point(blocks, coordinates, theta, points)
            return choose(w, e, points.sqrt_weight > 0, count, by)

        return self._one.on_devices(local, REPLICATED, REPLICATED)(theta, points, whitening)


@dataclass(frozen=True)
class Seen(View):
    """What is seen of one term at θ. The whitening is found when first asked for."""

    sight: Sight
    theta: Float[Array, " p"]
    whitening: Callable[[], Whitening]

    def residual(self, x):
        _, points = self.sight.laid(x)
        return np.asarray(self.sight.residual(self.theta, points))[: len(x)]

    def leverage(self, x):
        blocks, points = self.sight.laid(x)
        return np.asarray(self.sight.leverage(blocks, self.theta, points, self.whitening()))[
            : len(x)
        ]

    def greedy(self, x, count, by):
        blocks, points = self.sight.laid(x)
        found = self.sight.greedy(blocks, count, by, self.theta, points, self.whitening())
        return np.asarray(found)
