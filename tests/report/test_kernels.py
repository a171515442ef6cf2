"""NTK, NNTK and Green's function against closed forms: a model of sines, and -u'' on [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distgram.geometry.regions import Box
from distgram.linalg.mesh import make_mesh
from distgram.linalg.rows import Residual, lay_out
from distgram.net.mlp import Features, Perceptron
from distgram.net.network import flatten
from distgram.pde.operators import partial
from distgram.pde.problem import HardConstraint, Term
from distgram.report.kernels import Tangent, green, nntk, ntk, tangent

INTERVAL = Box((0.0,), (1.0,))
WEIGHT = 3.0
TERM = Term(
    lambda u: lambda x: -partial(u, 0, 2)(x),
    lambda x: jnp.ones(1),
    INTERVAL,
    weight=WEIGHT,
    name="interior",
)
N = 64
X = (np.arange(N)[:, None] + 0.5) / N  # the mean over them is exact for cos(jπx), j < 2N
J = np.arange(1, 11)


@dataclass(frozen=True)
class Sines:
    """u = Σ_j θ_j sin(jπx), j = 1..p: linear in θ, orthogonal in L²."""

    p: int = len(J)

    def field(self, theta):
        j = jnp.arange(1, self.p + 1)
        return lambda x: jnp.sum(theta * jnp.sin(j * jnp.pi * x[0]))[None]


def sines(devices: int, rcond: float = 1e-12, p: int = len(J)) -> Tangent:
    mesh = make_mesh(devices)
    residual = Residual((TERM,), Sines(p), mesh, 16, 1)
    points = (lay_out(mesh, TERM, X, None, 1),)
    return tangent(residual, jnp.linspace(-1.0, 1.0, p), points, rcond)


def matrix(kernel, at: Tangent) -> np.ndarray:
    """The kernel at all pairs of the nodes X."""
    return kernel(at, TERM, X, X)[:, 0, :, 0]


def test_the_nntk_of_a_linear_model_is_the_orthogonal_projector():
    """Symmetric, idempotent and of trace P in the L² of the loss; the identity on the range."""
    projector = WEIGHT / N * matrix(nntk, sines(8))
    # 1e-13: products of P numbers of size one, whose columns ∂D are of condition 100
    assert np.allclose(projector, projector.T, rtol=0, atol=1e-13)
    assert np.allclose(projector @ projector, projector, rtol=0, atol=1e-13)
    assert np.trace(projector) == pytest.approx(len(J), rel=1e-12)
    inside, outside = np.sin(3 * np.pi * X), np.sin(11 * np.pi * X)
    assert np.allclose(projector @ inside, inside, rtol=0, atol=1e-13)
    assert np.allclose(projector @ outside, 0.0, rtol=0, atol=1e-13)


@pytest.mark.parametrize("devices", [1, 8])
def test_closed_forms(devices):
    """∂_j D = (jπ)² sin(jπx), G = diag of w (jπ)⁴/2, and Green's function cut off at P sines."""
    at, y = sines(devices), np.array([[0.3]])
    both = np.sin(np.pi * J * X) * np.sin(np.pi * J * y)
    assert np.allclose(ntk(at, TERM, X, y)[:, 0, 0, 0], both @ (np.pi * J) ** 4, rtol=1e-12)
    assert np.allclose(nntk(at, TERM, X, y)[:, 0, 0, 0], both @ (2 / WEIGHT * J**0), atol=1e-12)
    assert np.allclose(green(at, TERM, X, y)[:, 0, 0, 0], both @ (2 / (np.pi * J) ** 2), atol=1e-14)


def test_the_regularization_leaves_small_singular_values_out():
    """α between the singular values of sines 4 and 5 (they grow as j²) leaves j >= 5."""
    at, y = sines(1, rcond=4.5**2 / 10**2), np.array([[0.3]])
    kept = J[J >= 5]
    both = np.sin(np.pi * kept * X) * np.sin(np.pi * kept * y)
    assert at.rank == len(kept)
    assert np.allclose(
        green(at, TERM, X, y)[:, 0, 0, 0], both @ (2 / (np.pi * kept) ** 2), atol=1e-14
    )


def test_more_parameters_than_points():
    """By the dual: the NNTK is then the identity on the points, N pairs of (x, y)."""
    projector = WEIGHT / N * matrix(nntk, sines(1, p=N + 8))
    assert np.allclose(projector, np.eye(N), rtol=0, atol=1e-10)  # condition of ∂D: N² = 4e3


def test_a_network_sees_the_exact_function():
    """-u'' = f, u = 0 at the ends: g = min(x, y)(1 - max(x, y)), for a network that vanishes there.

    No kernel of rank r is closer in L² than the sines: (Σ_{j>r} (jπ)⁻⁴)^½.
    """
    features = Features("normalize", (0.0,), (1.0,), (None,))
    network = Perceptron(features, [20], 1, key=jax.random.key(0), gain=4.0)
    constraint = HardConstraint(lambda x: jnp.zeros(1), lambda x: x * (1 - x), ())
    model, mesh = flatten(network, constraint), make_mesh(2)
    residual = Residual((TERM,), model, mesh)
    points = (lay_out(mesh, TERM, INTERVAL.sample(1000, 0, "grid"), None, 1),)
    at = tangent(residual, model.theta0, points, 1e-10)
    kernel = matrix(green, at)
    exact = np.minimum(X, X.T) * (1 - np.maximum(X, X.T))
    error = np.sqrt(np.mean((kernel - exact) ** 2))
    best = np.sqrt(np.sum((np.pi * np.arange(at.rank + 1, 10_000)) ** -4.0))
    assert best < error < 2 * best
