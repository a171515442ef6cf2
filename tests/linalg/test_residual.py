"""Weighted residuals and their Jacobian rows against the dense definition, on 1 to 8 devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import everything

from distgram.errors import ProblemError
from distgram.geometry.regions import Box, Faces
from distgram.linalg.mesh import make_mesh, pad
from distgram.linalg.rows import Residual, lay_out
from distgram.linalg.tsqr import TSQR
from distgram.net.mlp import Features, Perceptron
from distgram.net.network import flatten
from distgram.pde.operators import divergence, laplacian, value
from distgram.pde.problem import Term

EPS = float(np.finfo(np.float64).eps)
BOX = Box((0.0, -1.0), (2.0, 1.0))
# Sums of some thousand products of size one: their roundings, in the worst order.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def model(outputs):
    features = Features("normalize", BOX.lower, BOX.upper, (None, None))
    return flatten(Perceptron(features, [6, 5], outputs, key=jax.random.key(3)))


def curl(u):
    def at(x):
        j = jax.jacfwd(u)(x)
        return (j[1, 0] - j[0, 1])[None]

    return at


def cauchy_riemann(u):
    """Both equations as one operator of two components."""
    return lambda x: jnp.concatenate([divergence(u)(x), curl(u)(x)])


def zero(m):
    return lambda x: jnp.zeros(m)


SCALAR = (
    Term(laplacian, lambda x: jnp.sin(x[:1]), BOX, weight=2.5, name="interior"),
    Term(value, lambda x: x[:1] * x[1:], Faces(BOX), weight=0.3, name="boundary"),
)
# (u, v) = (Re, Im) of e^z is a solution; the boundary asks for both components.
SYSTEM = (
    Term(cauchy_riemann, zero(2), BOX, weight=4.0, name="equations"),
    Term(divergence, zero(1), BOX, name="divergence"),
    Term(
        value,
        lambda x: jnp.exp(x[0]) * jnp.stack([jnp.cos(x[1]), -jnp.sin(x[1])]),
        Faces(BOX),
        name="boundary",
    ),
)
CASES = {"scalar": (SCALAR, model(1), (37, 22)), "system": (SYSTEM, model(2), (37, 5, 22))}


def drawn(terms, counts):
    return [t.region.sample(n, i) for i, (t, n) in enumerate(zip(terms, counts, strict=True))]


def build(name, devices, blocks=1, chunk=1024):
    terms, network, counts = CASES[name]
    mesh = make_mesh(devices)
    points = tuple(
        lay_out(mesh, t, x, None, blocks) for t, x in zip(terms, drawn(terms, counts), strict=True)
    )
    return Residual(terms, network, mesh, chunk, blocks), points


def dense(name, theta):
    """All weighted residuals as one vector of θ: √(w/n) (D[u](xᵢ) - f(xᵢ)), term after term."""
    terms, network, counts = CASES[name]
    parts = []
    for t, x in zip(terms, drawn(terms, counts), strict=True):
        field = network.field(theta)
        r = jax.vmap(lambda y, t=t, field=field: t.operator(field)(y) - t.target(y))(x)
        parts.append((jnp.sqrt(t.weight / len(x)) * r).reshape(-1))
    return jnp.concatenate(parts)


def per_term(name, theta):
    """Weight times mean over the points of the sum over the equations of squares, of each term."""
    terms, network, counts = CASES[name]
    values = []
    for t, x in zip(terms, drawn(terms, counts), strict=True):
        d_u, f = jax.vmap(t.operator(network.field(theta)))(x), jax.vmap(t.target)(x)
        values.append(t.weight * np.mean(np.sum(np.square(d_u - f), axis=1)))
    return values


@pytest.fixture(scope="module")
def truth():
    """name -> (dense residual vector, its Jacobian by jax.jacrev)."""
    out = {}
    for name, (_, network, _) in CASES.items():
        f = jax.jit(lambda theta, name=name: dense(name, theta))
        out[name] = (np.asarray(f(network.theta0)), np.asarray(jax.jacrev(f)(network.theta0)))
    return out


@pytest.mark.parametrize("chunk", [1024, 8])
@pytest.mark.parametrize("name", CASES)
def test_rows_are_the_dense_jacobian(name, chunk, truth):
    residual, points = build(name, 1, 1, chunk)
    r, jacobian = truth[name]
    rows = np.asarray(jax.jit(residual.block)(CASES[name][1].theta0, points))
    assert rows.shape == (len(r), residual.model.p + 1)
    assert np.allclose(rows[:, :-1], jacobian, **CLOSE)
    assert np.allclose(rows[:, -1], r, **CLOSE)


@pytest.mark.slow
@pytest.mark.parametrize("devices, blocks", [(2, 3), (8, 1)])
@pytest.mark.parametrize("name", CASES)
def test_sharded_sums_do_not_know_the_layout_or_the_padding(name, devices, blocks, truth):
    residual, points = build(name, devices, blocks)
    theta = residual.model.theta0
    r, jacobian = truth[name]
    assert all(len(p.x) % (devices * blocks) == 0 for p in points)
    thetas = jnp.stack([theta, 0.5 * theta])
    terms, losses, gram, spectrum = jax.jit(
        lambda t, p: (
            residual.rows(t, p).term_losses(),
            residual.rows(t, p).losses(thetas),
            residual.rows(t, p).normal_equations(),
            TSQR()(residual.rows(t, p), everything, ())[0],
        )
    )(theta, points)
    assert np.allclose(terms, per_term(name, theta), rtol=1e-12, atol=0)
    assert float(losses[0]) == pytest.approx(float(np.sum(r**2)), rel=1e-12)
    assert float(losses[1]) == pytest.approx(float(jnp.sum(dense(name, thetas[1]) ** 2)), rel=1e-12)
    assert np.allclose(gram[0], jacobian.T @ jacobian, **CLOSE)
    assert np.allclose(gram[1], jacobian.T @ r, **CLOSE)
    s = np.linalg.svd(jacobian, compute_uv=False)
    s = np.append(s, np.zeros(residual.model.p - len(s)))  # fewer rows than parameters
    # Rows that differ by rounding (CLOSE) move a singular value by at most their Frobenius norm.
    assert np.max(np.abs(np.asarray(spectrum.s) - s)) < 1e-12 * s[0]
    assert float(spectrum.rce()[0]) == pytest.approx(float(np.linalg.norm(r)), rel=1e-12)


def test_replicated_results_are_the_same_bits_on_every_device():
    residual, points = build("system", 8)
    theta = residual.model.theta0
    losses = jax.jit(lambda t, p: residual.rows(t, p).losses(jnp.stack([t, 2 * t])))(theta, points)
    shards = [np.asarray(s.data) for s in losses.addressable_shards]
    assert len(shards) == 8 and all(s.tobytes() == shards[0].tobytes() for s in shards)


def test_exact_solution_has_no_residual():
    """The Cauchy-Riemann equations at (Re, -Im) of e^z, which has no divergence and no curl."""

    def exact(x):
        return jnp.exp(x[0]) * jnp.stack([jnp.cos(x[1]), -jnp.sin(x[1])])

    for term in SYSTEM:
        x = term.region.sample(12, 1)
        left = jax.vmap(term.operator(exact))(x) - jax.vmap(term.target)(x)
        assert np.max(np.abs(left)) < 1e-14  # values up to e²


def test_density_weights_make_the_mean_of_the_uniform_measure():
    """Points at density p over uniform, weighted by 1/p: Σ ωᵢ f(xᵢ), Σ ωᵢ = 1, times the weight."""
    rng = np.random.default_rng(0)
    x, density = BOX.sample(50, 0), rng.uniform(0.2, 5.0, 50)
    points = lay_out(make_mesh(8), SCALAR[0], x, density, 2)
    squares = np.asarray(points.sqrt_weight) ** 2
    assert squares.sum() == pytest.approx(2.5, rel=1e-14)
    assert np.allclose(squares[:50] * density, squares[0] * density[0], rtol=1e-13)
    assert len(points.x) == 64 and not squares[50:].any()
    assert np.array_equal(points.x[:50], x)


@pytest.mark.parametrize("n, multiple, after", [(1, 8, 8), (8, 8, 8), (9, 8, 16), (5, 1, 5)])
def test_padding_repeats_a_point_with_weight_zero(n, multiple, after):
    x, w = pad(np.arange(2.0 * n).reshape(n, 2), np.ones(n), multiple)
    assert len(x) == len(w) == after and w.sum() == n
    assert np.all(x[n:] == x[n - 1]) and not w[n:].any()


@pytest.mark.parametrize("shape", [(0, 2), (5, 3), (5,)])
def test_points_of_a_wrong_shape_are_named(shape):
    with pytest.raises(ProblemError, match=r"points\.interior: shape .*expected \(n, 2\)"):
        lay_out(make_mesh(1), SCALAR[0], np.zeros(shape), None, 1)


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_points_that_are_not_finite_are_refused(bad):
    with pytest.raises(ProblemError, match="not finite"):
        lay_out(make_mesh(1), SCALAR[0], np.array([[0.0, bad]]), None, 1)


@pytest.mark.parametrize("wanted", [0, 9, -1])
def test_more_devices_than_there_are(wanted):
    with pytest.raises(ValueError, match=f"devices={wanted}: expected 1 to 8"):
        make_mesh(wanted)
