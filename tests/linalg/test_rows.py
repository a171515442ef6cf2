"""Weighted residuals and their Jacobian rows against the dense definition, on 1 to 8 devices."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from matrices import EPS, everything
from residuals import BOX, CASES, CLOSE, SCALAR, SYSTEM, build, dense, drawn

from distgram.errors import ProblemError
from distgram.linalg.mesh import make_mesh, pad
from distgram.linalg.rows import lay_out
from distgram.linalg.tsqr import TSQR
from distgram.rules.anagram import ANaGRAM


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

    @jax.jit
    def sums(theta, points):
        rows = residual.rows(theta, points)
        gram, spectrum = rows.normal_equations(), TSQR()(rows, everything, ())[0]
        return rows.term_losses(), rows.losses(thetas), gram, spectrum

    terms, losses, gram, spectrum = sums(theta, points)
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


@pytest.mark.parametrize("devices, blocks", [(1, 1), (2, 3), (8, 1)])
def test_products_with_the_rows_are_those_of_the_dense_jacobian(devices, blocks, truth):
    """J V in its own order of rows, so that (J V)ᵀ(J V), and Jᵀ of it, are what can be compared."""
    residual, points = build("system", devices, blocks)
    theta, (r, jacobian) = residual.model.theta0, truth["system"]
    v = np.random.default_rng(0).standard_normal((residual.model.p, 3))

    @jax.jit
    def products(theta, points, v):
        rows = residual.rows(theta, points)
        jv, r = rows.multiply(v)
        return jv, r, rows.multiply_transposed(jnp.column_stack([jv, r]))

    jv, right, back = products(theta, points, v)
    expected = jacobian @ v
    assert np.allclose(jv.T @ jv, expected.T @ expected, **CLOSE)
    assert np.allclose(jv.T @ right, expected.T @ r, **CLOSE)
    assert np.allclose(back, jacobian.T @ np.column_stack([expected, r]), **CLOSE)
    assert len(jv.addressable_shards) == devices


@pytest.mark.slow
def test_one_step_is_the_same_on_1_2_and_8_devices():
    """A step of ANaGRAM through the rows: equal to 10 eps/rcond, rcond = g/s₁ over
    1 + RCE_k/(s_k ‖d‖), g the gap behind the kept singular values (see tests/run/test_step)."""
    rule, found = ANaGRAM(relative_cutoff=1e-5), {}
    for devices, blocks in ((1, 1), (2, 3), (8, 1)):
        residual, points = build("system", devices, blocks)

        @jax.jit
        def step(theta, points, residual=residual):
            rows = residual.rows(theta, points)
            spectrum, _ = TSQR()(rows, everything, ())
            theta, _, info = rule.step(spectrum, rows.trials, theta, ())
            return theta, info, spectrum.s, spectrum.rce()

        found[devices] = jax.tree.map(np.asarray, step(residual.model.theta0, points))
    start = CASES["system"][1].theta0
    theta, info, s, rce = found[1]
    k, moved = int(info.rank), np.linalg.norm(theta - start)
    assert bool(info.accepted) and 0 < k < len(s)
    kept = rce[k] / (s[k - 1] * moved / info.step_size)
    bound = 10 * EPS * s[0] / (s[k - 1] - s[k]) * (1 + kept)
    assert bound < 1e-7  # or this test would say nothing
    for devices in (2, 8):
        other, other_info, other_s, other_rce = found[devices]
        assert np.linalg.norm(other - theta) <= bound * moved + EPS * np.linalg.norm(start)
        assert (int(other_info.rank), float(other_info.step_size)) == (k, float(info.step_size))
        assert np.max(np.abs(other_s - s)) <= 10 * EPS * s[0]
        assert other_rce[0] == pytest.approx(rce[0], rel=1e-12)


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
