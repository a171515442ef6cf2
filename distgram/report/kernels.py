"""NTK, NNTK and Green's function of a model, as functions of x at a few points y.

With the weighted rows  φ̂ = V̂ Δ̂ Ûᵀ  at collocation points, G = φ̂ᵀφ̂ is the Gram matrix of the
∂_p D[u] in the L² of the loss: mean over each term's region, times the term's weight. A section of
a kernel is the answer of an operator to one change b of the parameters:

    NTK      b = ∂D[u](y)                      k(x, y) = ∂D[u](x) · b
    NNTK     b = G† ∂D[u](y)                   k(x, y) = ∂D[u](x) · b
    Green    b = G† ∂D[u](y) w / |Ω|           g(x, y) = ∂u(x) · b

with G† = Û Δ̂⁻² Ûᵀ over Δ̂ᵢ >= α. Neither G nor its inverse is formed, and ∂(.) · b is one forward
derivative along b. The NNTK is the kernel of the orthogonal projector onto the tangent space
Span(∂_p D[u]) (where α is below all Δ̂ᵢ), for the measure of the loss. g answers a source f in the
region Ω of a term of weight w:  u(x) = ∫ g(x, y) f(y) dy,  with D[u] the projection of f.

Source: Schwencke, Furtlehner 2025 (arXiv 2412.10782) for the NNTK and for the natural gradient as a
generalized Green's function at regularization α.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.linalg.mesh import REPLICATED, SHARDED, pad, replicate, shard
from distgram.linalg.rows import Points, Residual
from distgram.linalg.spectrum import Spectrum
from distgram.linalg.tsqr import whole_spectrum
from distgram.pde.problem import Term


@dataclass(frozen=True)
class Tangent:
    """The tangent space of the residuals at θ, as the points see it.

    Args:
        alpha: regularization α > 0, in the units of the singular values: directions of smaller ones
            are left out of the pseudoinverse.
    """

    residual: Residual
    theta: Float[Array, " p"]
    spectrum: Spectrum
    alpha: float

    @property
    def rank(self) -> int:
        """The number of singular values >= α."""
        return int(np.sum(np.asarray(self.spectrum.s) >= self.alpha))

    def derivative(self, term: Term, y: Float[np.ndarray, "q d"]) -> Float[Array, "p q m"]:
        """∂_p (D[u] - f)  of a term at points y."""
        at = jax.jacrev(lambda theta, y: self.residual.at(term, theta, y))
        rows = jax.jit(jax.vmap(at, (None, 0)))(self.theta, jnp.asarray(y))
        return jnp.moveaxis(rows, -1, 0)

    def inverse_gram(self, b: Float[Array, "p q m"]) -> Float[Array, "p q m"]:
        """G† b = Û Δ̂⁻² Ûᵀ b  over Δ̂ᵢ >= α."""
        s, vt = self.spectrum.s, self.spectrum.vt
        kept = s >= self.alpha
        inverse = jnp.where(kept, 1.0 / jnp.where(kept, s, 1.0), 0.0)[:, None]
        columns = b.reshape(b.shape[0], -1)
        return (vt.T @ (inverse * (inverse * (vt @ columns)))).reshape(b.shape)

    def respond(
        self,
        values: Callable[[Float[Array, " p"], Float[Array, " d"]], Float[Array, " k"]],
        x: Float[np.ndarray, "n d"],
        b: Float[Array, "p q m"],
    ) -> Float[np.ndarray, "n k q m"]:
        """∂_θ values(θ, x) · b  at points that are sharded over the mesh, b replicated."""
        mesh = self.residual.mesh
        padded, _ = pad(x, np.ones(len(x)), mesh.size)

        def local(mine, b):
            def along(x):
                of_x = lambda theta: values(theta, x)  # noqa: E731
                return jax.vmap(lambda v: jax.jvp(of_x, (mine.theta,), (v,))[1], 1, -1)(b)

            return self.residual.map(along, mine.points)

        @jax.jit
        def respond(theta, x, b):
            return self.residual.rows(theta, x).on_devices(local, SHARDED, REPLICATED)(b)

        answer = respond(self.theta, shard(mesh, padded), b.reshape(b.shape[0], -1))[: len(x)]
        return np.asarray(answer).reshape(*answer.shape[:2], *b.shape[1:])


def tangent(
    residual: Residual,
    theta: Float[Array | np.ndarray, " p"],
    points: tuple[Points, ...],
    rcond: float,
) -> Tangent:
    """The tangent space at θ, with α = rcond times the largest singular value."""
    here = replicate(residual.mesh, theta)
    spectrum = jax.jit(lambda theta, points: whole_spectrum(residual.rows(theta, points)))(
        here, points
    )
    return Tangent(residual, here, spectrum, rcond * float(spectrum.s[0]))


def ntk(
    at: Tangent, term: Term, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "q d"]
) -> Float[np.ndarray, "n m q m"]:
    """NTK of the residual operator:  Σ_p ∂_p D[u](x) ∂_p D[u](y)ᵀ."""
    return _of_term(at, term, x, at.derivative(term, y))


def nntk(
    at: Tangent, term: Term, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "q d"]
) -> Float[np.ndarray, "n m q m"]:
    """NNTK:  Σ_pq ∂_p D[u](x) G†_pq ∂_q D[u](y)ᵀ,  the projector's kernel."""
    return _of_term(at, term, x, at.inverse_gram(at.derivative(term, y)))


def green(
    at: Tangent, term: Term, x: Float[np.ndarray, "n d"], y: Float[np.ndarray, "q d"]
) -> Float[np.ndarray, "n k q m"]:
    """Generalized Green's function:  w/|Ω| Σ_pq ∂_p u(x) G†_pq ∂_q D[u](y)ᵀ,  y in Ω."""
    scale = term.weight / term.region.measure()
    b = at.inverse_gram(at.derivative(term, y))
    return at.respond(lambda theta, x: at.residual.model.field(theta)(x), x, scale * b)


def _of_term(at: Tangent, term: Term, x: np.ndarray, b: Array) -> np.ndarray:
    return at.respond(lambda theta, x: at.residual.at(term, theta, x), x, b)


KERNELS = {"ntk": ntk, "nntk": nntk, "green": green}
