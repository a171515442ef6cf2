"""The problems of the standard suite: exact solutions, operators by hand, references."""

from __future__ import annotations

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from numpy.polynomial import chebyshev

from distgram.errors import ProblemError
from distgram.geometry.regions import Sites
from distgram.pde import operators
from distgram.pde.problem import Problem, Term
from distgram.pde.problems import allen_cahn_periodic, burgers, kdv, ks, nls, van_der_pol
from distgram.pde.problems.cavity_flow import flow
from distgram.pde.problems.spectral import Fourier
from distgram.pde.registry import get, names

EXACT = [
    ("advection", {}),
    ("advection", {"speed": -3}),
    ("beltrami", {}),
    ("convection_diffusion", {}),
    ("helmholtz", {}),
    ("klein_gordon", {}),
    ("kovasznay", {}),
    ("poisson10d", {}),
    ("poisson5d", {}),
    ("reaction", {}),
    ("wave", {}),
]
REFERENCED = ["allen_cahn_periodic", "cavity", "kdv", "ks", "nls", "van_der_pol"]
EVERY = sorted({name for name, _ in EXACT} | set(REFERENCED))
PERIODIC = ["advection", "allen_cahn_periodic", "convection_diffusion", "kdv", "ks", "nls"]
UNIT_TIMES, PLACES = np.linspace(0.0, 1.0, 101), np.linspace(-1.0, 1.0, 201)


def residual(term: Term, u, n: int = 300) -> np.ndarray:
    n = len(term.region.x) if isinstance(term.region, Sites) else n
    return np.asarray(jax.jit(jax.vmap(term.residual(u)))(jnp.asarray(term.region.sample(n, 7))))


def random_network(problem: Problem, activation=jnp.tanh):
    shapes = ((problem.dim, 9), (9,), (9, problem.outputs))
    keys = jax.random.split(jax.random.key(3), 3)
    w, b, a = (jax.random.normal(k, s) for k, s in zip(keys, shapes, strict=True))
    return lambda x: activation(x @ w + b) @ a


def relative(u: np.ndarray, other: np.ndarray) -> float:
    return float(np.linalg.norm(u - other) / np.linalg.norm(other))


def table(name: str) -> np.ndarray:
    known = get(name).known()
    assert known is not None
    return known.u.reshape(*map(len, known.grid), -1)


def test_every_problem_is_registered():
    assert set(EVERY) <= set(names())


@pytest.mark.parametrize(("name", "parameters"), EXACT)
def test_exact_solutions_leave_no_residual(name, parameters):
    problem = get(name, parameters)
    assert problem.exact is not None
    for term in problem.terms:
        # second derivatives up to (16 + 4 * 16) pi^2 ~ 800 (wave): a few eps of them
        assert abs(residual(term, problem.exact)).max() < 4e-13, term.name


@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_solution_leaves_a_residual_in_every_equation(name):
    problem = get(name)
    for term in problem.terms:
        r = abs(residual(term, random_network(problem)))
        assert np.isfinite(r).all() and (r.max(axis=0) > 1e-2).all(), term.name


@pytest.mark.parametrize("name", EVERY)
def test_the_known_solution_is_a_table_on_the_domain(name):
    problem = get(name)
    known = problem.known()
    assert known is not None and np.isfinite(known.u).all()
    assert known.x.shape == (len(known.u), problem.dim)
    assert known.u.shape == (len(known.x), problem.outputs)
    assert (known.x >= problem.domain.lower).all() and (known.x <= problem.domain.upper).all()
    assert len(problem.inputs) == problem.dim
    if known.grid:
        assert len(known.x) == np.prod([len(axis) for axis in known.grid])


@pytest.mark.parametrize("name", REFERENCED)
def test_a_reference_is_computed_once(name):
    assert get(name).known() is get(name).known()


@pytest.mark.parametrize("name", EVERY)
def test_a_problem_knows_nothing_of_its_solution_but_its_terms(name):
    assert get(name).constraint is None


@pytest.mark.parametrize("name", PERIODIC)
def test_known_solutions_have_the_stated_period_and_no_other_condition(name):
    """No term joins the ends: the two ends of the table must agree without one."""
    problem = get(name)
    assert problem.periods is not None and problem.periods[1] == problem.domain.lengths[1]
    assert [term.kind for term in problem.terms] == ["equation", "initial"]
    u = table(name)
    np.testing.assert_allclose(u[:, 0], u[:, -1], rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "name", [n for n in EVERY if get(n).time == 0 and get(n).dim <= 2 and n != "van_der_pol"]
)
def test_known_solutions_begin_with_the_initial_values(name):
    problem, u = get(name), table(name)
    initial = next(term for term in problem.terms if term.kind == "initial")
    known = problem.known()
    assert known is not None
    wanted = jax.vmap(initial.given["value"])(jnp.asarray(known.x[: u.shape[1]]))
    np.testing.assert_allclose(u[0], wanted, rtol=0, atol=3e-15)  # sums of 4096 terms


def polynomial(x):
    """u = t^2 + t x^4 - x."""
    return x[:1] ** 2 + x[:1] * x[1:] ** 4 - x[1:]


def test_the_operators_are_the_equations():
    """The interior residuals of a polynomial, against its derivatives by hand."""
    t, x = 0.3, -0.6
    u, ut, utt = t**2 + t * x**4 - x, 2 * t + x**4, 2.0
    ux, uxx, uxxx, uxxxx = 4 * t * x**3 - 1, 12 * t * x**2, 24 * t * x, 24 * t
    a, b, c = 100 / 16, 100 / 16**2, 100 / 16**4
    expected = {
        "advection": ut + 30 * ux,
        "allen_cahn_periodic": ut - 1e-4 * uxx + 5 * u**3 - 5 * u,
        "convection_diffusion": ut + 30 * ux - uxx,
        "helmholtz": 2.0 + uxx + u,
        "kdv": ut + u * ux + 0.0025 * uxxx,
        "klein_gordon": utt - uxx + u**3,
        "ks": ut + a * u * ux + b * uxx + c * uxxxx,
        "reaction": ut - 5 * u * (1 - u),
        "wave": utt - 4 * uxx,
    }
    for name, value in expected.items():
        got = get(name).terms[0].operator(polynomial)(jnp.array([t, x]))
        np.testing.assert_allclose(got, [value], rtol=1e-14, err_msg=name)


def test_the_schroedinger_operator_is_the_equation():
    """The residuals of h = u + i w for two polynomials, against complex arithmetic by hand."""
    t, x = 0.3, -0.6
    h = t**2 + t * x**4 - x + 1j * (t * x**2 + 1)
    ht, hxx = 2 * t + x**4 + 1j * x**2, 12 * t * x**2 + 2j * t
    expected = 1j * ht + hxx / 2 + abs(h) ** 2 * h

    def field(x):
        return jnp.concatenate([polynomial(x), x[:1] * x[1:] ** 2 + 1])

    got = get("nls").terms[0].operator(field)(jnp.array([t, x]))
    np.testing.assert_allclose(got, [expected.real, expected.imag], rtol=1e-14)


def test_the_van_der_pol_operator_is_the_equation():
    t = 0.7
    got = get("van_der_pol").terms[0].operator(lambda x: x**3)(jnp.array([t]))
    np.testing.assert_allclose(got, [6 * t - (1 - t**6) * 3 * t**2 + t**3], rtol=1e-14)


@pytest.mark.parametrize("activation", [jnp.tanh, jnp.sin, jax.nn.softplus])
def test_ks_takes_its_derivatives_of_any_network(activation):
    """jax has no Taylor series of softplus: there the nested derivatives must take over."""
    problem = get("ks")
    u = random_network(problem, activation)
    x = jnp.array([0.2, 1.3])
    first, second, fourth = (operators.partial(u, 1, k)(x) for k in (1, 2, 4))
    expected = operators.partial(u, 0)(x) + 100 / 16 * u(x) * first
    expected += 100 / 16**2 * second + 100 / 16**4 * fourth
    at = jax.jit(jax.vmap(problem.terms[0].operator(u)))
    np.testing.assert_allclose(at(x[None])[0], expected, rtol=1e-12)


def test_fourier_series_solve_burgers_as_cole_and_hopf_do():
    """An equation with a closed form, by the same code: nonlinear, dissipative, real."""
    viscosity, t = 0.05, UNIT_TIMES[::10]
    grid = Fourier(-1.0, 2.0, 256)

    def force(c):
        return -grid.ik * grid.modes(grid.values(c) ** 2) / 2

    start = grid.modes(-np.sin(np.pi * grid.x))
    exact = burgers.cole_hopf(t, PLACES, viscosity)
    errors = []
    for steps in (50, 100, 200):
        c = grid.evolve(start, lambda ik: viscosity * np.real(ik**2), force, t, steps)
        errors.append(abs(grid.at(PLACES, np.array(list(c))) - exact).max())
    assert errors[-1] < 1e-10
    assert 12 < errors[0] / errors[1] < 20 and 12 < errors[1] / errors[2] < 20  # 2^4


def test_fourier_series_carry_a_plane_wave():
    """h = A exp(i (k x - w t)), w = k^2/2 - A^2, solves the Schroedinger equation: complex code."""
    grid, t = Fourier(-np.pi, 2 * np.pi, 32, real=False), np.linspace(0.0, 1.0, 3)
    x, height, k = np.linspace(-np.pi, np.pi, 7), 0.8, -3

    def force(c):
        h = grid.values(c)
        return 1j * grid.modes(abs(h) ** 2 * h)

    start = grid.modes(height * np.exp(1j * k * grid.x))
    c = np.array(list(grid.evolve(start, lambda ik: 0.5j * ik**2, force, t, 800)))
    exact = height * np.exp(1j * (k * x - (k**2 / 2 - height**2) * t[:, None]))
    np.testing.assert_allclose(grid.at(x, c), exact, rtol=0, atol=5e-13)  # 7e-14, order 4


def spacetime(t: np.ndarray, x: np.ndarray, u: np.ndarray):
    """Values u (t, x, m) on equidistant times and one period of x as a field: polynomial in t."""
    n, period = len(x), (x[1] - x[0]) * len(x)
    modes = jnp.asarray(np.fft.fft(u, axis=1) / n)
    k = jnp.asarray(2 * np.pi / period * np.fft.fftfreq(n, 1 / n))

    def field(point):
        factors = [
            jnp.prod((point[0] - np.delete(t, i)) / (t[i] - np.delete(t, i))) for i in range(len(t))
        ]
        at = jnp.einsum("t,tkm->km", jnp.stack(factors), modes)
        angle = k * (point[1] - x[0])
        return jnp.cos(angle) @ at.real - jnp.sin(angle) @ at.imag

    return field


@pytest.mark.parametrize(
    ("name", "solve", "until", "nodes", "bound"),
    [
        ("kdv", partial(kdv.solve, dispersion=0.0025, steps=8), 0.7, 256, 1e-6),
        ("ks", partial(ks.solve, steps=8), 0.3, 256, 1e-4),
        ("nls", partial(nls.solve, steps=8), 0.8, 512, 1e-3),
        ("allen_cahn_periodic", partial(allen_cahn_periodic.solve, steps=4), 0.5, 512, 1e-6),
    ],
)
def test_references_satisfy_the_equations_of_their_problems(name, solve, until, nodes, bound):
    """The problem's operator on an interpolant of its reference in space and time."""
    problem = get(name)
    low, length = problem.domain.lower[1], problem.domain.lengths[1]
    t, x = np.linspace(0.0, until, 701)[-9:], low + length * np.arange(nodes) / nodes
    u = solve(np.linspace(0.0, until, 701), x, nodes=nodes)[-9:]
    u = np.stack([u.real, u.imag], -1) if problem.outputs == 2 else u[..., None]
    points = np.column_stack([np.full(50, t[4]), low + length * np.linspace(0.1, 0.9, 50)])
    operator = problem.terms[0].operator(spacetime(t, x, u))
    r = np.asarray(jax.vmap(operator)(jnp.asarray(points)))
    assert abs(r).max() < bound


def test_the_van_der_pol_reference_satisfies_its_equation():
    """Its operator on an interpolant of the reference in 24 Chebyshev nodes of a short interval."""
    s = np.cos(np.pi * (np.arange(24) + 0.5) / 24)
    t = np.append(0.0, np.sort(4.0 + s / 2))
    c = jnp.asarray(chebyshev.chebfit(2 * (t[1:] - 4.0), van_der_pol.solve(t)[1:], 23))

    def field(x):
        return jnp.cos(jnp.arange(24) * jnp.arccos(2 * (x - 4.0))) @ c[:, None]

    at = jnp.linspace(3.6, 4.4, 9)[:, None]
    r = jax.vmap(get("van_der_pol").terms[0].operator(field))(at)
    assert abs(r).max() < 1e-9


def test_the_flow_in_the_cavity_satisfies_the_equations_and_keeps_to_its_walls():
    """The problem's operator on an interpolant of the reference off the corners, and its walls."""
    low, length, n = 0.15, 0.7, 22
    place = low + length * (1 + np.cos(np.pi * (np.arange(n) + 0.5) / n)) / 2
    values = flow(place, place, 100.0, 28)
    s = 2 * (place - low) / length - 1
    inverse = np.linalg.inv(chebyshev.chebvander(s, n - 1))
    c = jnp.asarray(np.einsum("ai,bj,ijm->abm", inverse, inverse, values))

    def field(x):
        s = 2 * (x - low) / length - 1
        x_part, y_part = jnp.cos(jnp.arange(n) * jnp.arccos(s)[:, None])
        return jnp.einsum("a,b,abm->m", x_part, y_part, c)

    at = jnp.stack(jnp.meshgrid(*[jnp.linspace(0.25, 0.75, 6)] * 2), -1).reshape(-1, 2)
    r = jax.vmap(get("cavity").terms[0].operator(field))(at)
    assert abs(r).max() < 1e-5

    inside, ends = np.linspace(0.05, 0.95, 19), np.array([0.0, 1.0])
    lid = flow(inside, ends, 100.0, 28)[..., :2]
    np.testing.assert_allclose(lid[:, 1, 0], 4 * inside * (1 - inside), rtol=0, atol=1e-6)
    np.testing.assert_allclose(lid[:, 0], 0, atol=1e-6)
    np.testing.assert_allclose(lid[:, 1, 1], 0, atol=1e-6)
    np.testing.assert_allclose(flow(ends, inside, 100.0, 28)[..., :2], 0, atol=1e-6)


@pytest.mark.parametrize(
    ("name", "parameters"),
    [
        ("advection", {"speed": 0}),
        ("advection", {"speed": True}),
        ("kdv", {"dispersion": 0.0}),
        ("kdv", {"dispersion": "small"}),
        ("ks", {"until": 2.0}),
        ("ks", {"until": 0}),
    ],
)
def test_a_parameter_out_of_its_range_is_refused(name, parameters):
    (key,) = parameters
    with pytest.raises(ProblemError, match=f"{name}: {key}="):
        get(name, parameters)
