"""Matrices with prescribed spectra, the classical hard ones, and dense oracles in 80-bit precision.

A matrix reaches the real factorization as the Jacobian of a linear residual: the collocation point
of a row is the row [a | b] itself, and its residual at θ is  a θ + b.
"""

from __future__ import annotations

from dataclasses import dataclass

import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distgram.geometry.regions import Sites
from distgram.linalg.rows import Points, Residual, lay_out
from distgram.linalg.spectrum import Determined
from distgram.pde.problem import Term

Long = np.longdouble
EPS = float(np.finfo(np.float64).eps)
assert np.finfo(Long).eps < 1e-18, "the oracles need a long double of 80 bits or more"


@dataclass(frozen=True)
class LinearModel:
    """A 'network' whose field at the point [a | b] is  a θ + b, for `equations` rows per point."""

    p: int
    equations: int = 1

    def field(self, theta):
        return lambda x: x.reshape(self.equations, -1) @ jnp.append(theta, 1.0)


def linear_system(
    a: np.ndarray, b: np.ndarray, mesh: Mesh, blocks: int = 1, equations: int = 1
) -> tuple[Residual, tuple[Points, ...]]:
    """A residual system with Jacobian a (n, p) and residual  a θ + b, and its points.

    The weight n makes the square root of every point's weight exactly 1.
    """
    x = np.column_stack([a, b]).reshape(len(a) // equations, -1)
    model = LinearModel(a.shape[1], equations)

    def zero(x):
        return jnp.zeros(equations)

    term = Term(lambda u: u, zero, Sites(x), weight=float(len(x)), name="rows")
    residual = Residual((term,), model, mesh, blocks=blocks)  # type: ignore[arg-type]
    return residual, (lay_out(mesh, term, x, None, blocks),)


def everything(spectrum):
    """The needs of a rule that takes all triplets."""
    return Determined(spectrum.left_out == 0, jnp.asarray(spectrum.s.shape[0]), 1e-9)


def householder(a: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Thin QR with diag(R) >= 0 in long double: (Q (n, k), R (k, p)), k = min(n, p)."""
    r = np.array(a, Long)
    n, p = r.shape
    k = min(n, p)
    reflectors = []
    for j in range(k):
        v = r[j:, j].copy()
        v[0] += np.copysign(np.sqrt(v @ v), v[0])
        scale = v @ v
        if scale > 0:
            v /= np.sqrt(scale)
            r[j:] -= 2 * np.outer(v, v @ r[j:])
        reflectors.append(v)
    q = np.eye(n, k, dtype=Long)
    for j in reversed(range(k)):
        v = reflectors[j]
        q[j:] -= 2 * np.outer(v, v @ q[j:])
    sign = np.where(np.diag(r) < 0, Long(-1), Long(1))
    return q * sign, np.triu(r[:k]) * sign[:, None]


def svd(a: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Thin SVD in long double by one-sided Jacobi on the triangle: (U (n, p), s, V^T), n >= p.

    Source: Demmel, Veselic, SIAM J. Matrix Anal. Appl. 13 (1992) 1204.
    """
    q, r = householder(a)
    w, p = r.T.copy(), r.shape[0]  # columns of R^T, rotated until they are orthogonal
    left = np.eye(p, dtype=Long)
    eps = np.finfo(Long).eps
    none = eps**2 * np.sum(w**2)  # products this small are rounding of a column that should vanish
    for _ in range(60):
        largest = Long(0)
        for i in range(p - 1):
            for j in range(i + 1, p):
                x, y, z = w[:, i] @ w[:, i], w[:, j] @ w[:, j], w[:, i] @ w[:, j]
                if abs(z) <= eps * np.sqrt(x * y) + none:
                    continue
                largest = max(largest, abs(z) / np.sqrt(x * y))
                zeta = (y - x) / (2 * z)
                t = np.copysign(1 / (abs(zeta) + np.hypot(Long(1), zeta)), zeta)
                c = 1 / np.hypot(Long(1), t)
                turn = np.array([[c, t * c], [-t * c, c]], Long)
                w[:, [i, j]] = w[:, [i, j]] @ turn
                left[:, [i, j]] = left[:, [i, j]] @ turn
        if largest == 0:
            break
    else:
        raise AssertionError("Jacobi did not converge")
    s = np.sqrt(np.sum(w**2, axis=0))
    order = np.argsort(-s)
    s, w, left = s[order], w[:, order], left[:, order]
    return q @ left, s, (w / np.where(s > 0, s, 1)).T


def orthonormal(n: int, p: int, rng: np.random.Generator) -> np.ndarray:
    """Orthonormal columns drawn from the Haar measure, long double."""
    return householder(rng.standard_normal((n, p)))[0]


def prescribed(n: int, s: np.ndarray, seed: int = 0) -> np.ndarray:
    """A float64 matrix (n, k) with singular values s (k,), to rounding of its entries."""
    rng, p = np.random.default_rng(seed), len(s)
    k = min(n, p)
    a = (orthonormal(n, k, rng) * np.asarray(s, Long)[:k]) @ orthonormal(p, k, rng).T
    return a.astype(np.float64)


def geometric(p: int, condition: float) -> np.ndarray:
    """Singular values from 1 down to 1/condition, equally spaced in the logarithm."""
    return np.logspace(0.0, -np.log10(condition), p)


def rank_deficient(n: int, p: int, rank: int, seed: int = 0) -> np.ndarray:
    """Rank `rank` exactly: the columns beyond it are copies of the first ones, then shuffled."""
    rng = np.random.default_rng(seed)
    a = rng.standard_normal((n, rank))
    return np.take(a, rng.permutation(np.arange(p) % rank), axis=1)


def graded_columns(n: int, p: int, condition: float, seed: int = 0) -> np.ndarray:
    """Gaussian columns scaled from 1 down to 1/condition."""
    return np.random.default_rng(seed).standard_normal((n, p)) * geometric(p, condition)


def graded_rows(n: int, p: int, condition: float, seed: int = 0) -> np.ndarray:
    """Gaussian rows scaled from 1/condition up to 1: the heavy rows come last."""
    scale = geometric(n, condition)[::-1, None]
    return np.random.default_rng(seed).standard_normal((n, p)) * scale


def lauchli(p: int, mu: float) -> np.ndarray:
    """[1 ... 1; μI] (p + 1, p): singular values √(p + μ²), and μ p - 1 times.

    Source: Läuchli, Numer. Math. 3 (1961) 226. Its Gram matrix is singular for μ < √eps.
    """
    return np.concatenate([np.ones((1, p)), mu * np.eye(p)])


def kahan(p: int, angle: float) -> np.ndarray:
    """Kahan's triangle  diag(1, s, s², ...) (I - c N), N strictly upper ones: its diagonal hides
    how small the last singular value is.

    Source: Kahan, Canad. Math. Bull. 9 (1966) 757.
    """
    s, c = np.sin(angle), np.cos(angle)
    return s ** np.arange(p)[:, None] * (np.eye(p) - c * np.triu(np.ones((p, p)), 1))
