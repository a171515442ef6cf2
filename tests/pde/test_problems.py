"""The problems: exact solutions leave no residual, constraints hold, references solve the PDE."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distgram.errors import ProblemError
from distgram.geometry.regions import Box
from distgram.pde.problem import Problem
from distgram.pde.problems import burgers as burgers_module
from distgram.pde.registry import get, names

EVERY = ["allen_cahn", "burgers", "heat", "laplace2d", "laplace5d", "poisson_nonlinear"]
EXACT = [
    ("heat", {}),
    ("heat", {"frequency": 6}),
    ("laplace2d", {}),
    ("laplace5d", {}),
    ("poisson_nonlinear", {}),
    ("poisson_nonlinear", {"k": 2}),
    ("poisson_nonlinear", {"k": 4}),
]


def residual(problem: Problem, name: str, u, n: int = 300) -> np.ndarray:
    term = next(t for t in problem.terms if t.name == name)
    x = jnp.asarray(term.region.sample(n, 7))
    out = jax.jit(jax.vmap(lambda x: term.operator(u)(x) - term.target(x)))(x)
    assert out.shape == (n, problem.outputs)
    return np.asarray(out)


def random_network(d: int):
    keys = jax.random.split(jax.random.key(3), 3)
    w, b, a = (jax.random.normal(k, s) for k, s in zip(keys, ((d, 9), (9,), (9, 1)), strict=True))
    return lambda x: jnp.tanh(x @ w + b) @ a


def test_every_problem_is_registered():
    assert set(EVERY) <= set(names())


@pytest.mark.parametrize(("name", "parameters"), EXACT)
def test_exact_solutions_leave_no_residual(name, parameters):
    problem = get(name, parameters)
    assert problem.exact is not None
    for term in problem.terms:
        r = residual(problem, term.name, problem.exact)
        # second derivatives up to 2 (k pi)^2 ~ 316, and exp(u) up to e^2: some tens of eps of them
        assert abs(r).max() < 2e-13 * parameters.get("k", 1) ** 2, term.name


@pytest.mark.parametrize("name", EVERY)
def test_a_wrong_solution_leaves_a_residual(name):
    """Every term sees a change of u: none is satisfied by anything."""
    problem = get(name)
    for term in problem.terms:
        assert abs(residual(problem, term.name, random_network(problem.dim))).max() > 0.1, term.name


@pytest.mark.parametrize("name", EVERY)
def test_hard_constraints_hold_for_any_network(name):
    problem = get(name)
    constraint = problem.constraint
    if name == "laplace5d":
        assert constraint is None
        return
    assert constraint is not None
    n = random_network(problem.dim)

    def u(x):
        return constraint.lift(x) + constraint.distance(x) * n(x)

    rest = {t.name for t in problem.terms} - set(constraint.satisfies)
    assert rest == {"interior"}
    for term in constraint.satisfies:
        assert abs(residual(problem, term, u)).max() < 1e-15, term  # eps times |u| <= 2
    # the distance has size 1, and where it vanishes, to the rounding of pi, u is the lift: there
    # and nowhere else nothing is left to the network
    distance, lift = jax.vmap(constraint.distance), jax.vmap(constraint.lift)
    size = abs(jax.jit(distance)(jnp.asarray(problem.domain.sample(2000, 0))))
    assert 0 < size.min() and 0.9 < size.max() <= 1
    known = problem.known()
    x = jnp.asarray(known.x)
    zero = (abs(distance(x)) < 1e-15)[:, 0]
    assert zero.sum() > 100 and abs(lift(x) - known.u)[zero].max() < 1e-15
    assert abs(residual(problem, "interior", u)).max() > 0.1


@pytest.mark.parametrize("name", EVERY)
def test_the_known_solution_is_a_table_on_the_domain(name):
    problem = get(name)
    known = problem.known()
    assert known is not None
    n = 101 * 201 if problem.reference else 101**2 if problem.dim == 2 else 10_000
    assert known.x.shape == (n, problem.dim) and known.u.shape == (n, 1)
    assert (known.x >= problem.domain.lower).all() and (known.x <= problem.domain.upper).all()
    assert np.isfinite(known.u).all()
    assert len(problem.inputs) == problem.dim


@pytest.mark.parametrize("name", ["allen_cahn", "burgers", "heat"])
def test_known_solutions_satisfy_the_initial_and_boundary_values(name):
    problem = get(name)
    known = problem.known()
    assert known is not None
    t, x = known.grid
    u = known.u.reshape(len(t), len(x))
    at_start = jax.vmap(problem.terms[1].target)(jnp.asarray(known.x[: len(x)]))
    np.testing.assert_allclose(u[0], np.asarray(at_start)[:, 0], rtol=0, atol=1e-15)
    ends = -1.0 if name == "allen_cahn" else 0.0
    np.testing.assert_allclose(u[:, [0, -1]], ends, rtol=0, atol=1e-14)


@pytest.mark.parametrize("name", ["allen_cahn", "burgers", "heat"])
def test_the_operator_is_the_equation(name):
    """The interior residual of a polynomial, against its derivatives by hand.

    u = t^2 + t x^3 - x:  u_t = 2 t + x^3,  u_x = 3 t x^2 - 1,  u_xx = 6 t x.
    """
    t, x = 0.3, -0.6
    u, ut, ux, uxx = t**2 + t * x**3 - x, 2 * t + x**3, 3 * t * x**2 - 1, 6 * t * x
    expected = {
        "allen_cahn": ut - 1e-3 * uxx - 5 * (u - u**3),
        "burgers": ut + u * ux - 0.01 / np.pi * uxx,
        "heat": ut - 0.25 * uxx,
    }[name]
    term = get(name).terms[0]
    got = term.operator(lambda p: p[:1] ** 2 + p[:1] * p[1:] ** 3 - p[1:])(jnp.array([t, x]))
    np.testing.assert_allclose(got, [expected], rtol=1e-14)


@pytest.mark.parametrize("viscosity", [0.001, 0.01 / np.pi, 0.1, 1.0])
def test_burgers_reference_does_not_depend_on_the_nodes(viscosity):
    t, x = np.linspace(0, 1, 9), np.linspace(-1, 1, 41)
    u = burgers_module.cole_hopf(t, x, viscosity)
    finer = burgers_module.cole_hopf(t, x, viscosity, spacing=0.012)
    np.testing.assert_allclose(u, finer, rtol=0, atol=5e-15)  # rounding of the exponent and sums
    np.testing.assert_array_equal(u[0], -np.sin(np.pi * x))
    np.testing.assert_allclose(u, -u[:, ::-1], rtol=0, atol=5e-15)  # odd
    assert abs(u).max() <= 1 + 1e-15  # maximum principle


def test_burgers_reference_satisfies_the_equation():
    """Fourth-order differences at nu = 0.05; the error falls by 2^4 as their step is halved."""
    nu, t, x = 0.05, 0.4, np.array([-0.8, -0.3, 0.1, 0.5])

    def residual(h):
        def u(dt, dx):
            return burgers_module.cole_hopf(np.array([t + dt]), x + dx, nu)[0]

        def first(f):
            return (8 * (f(h) - f(-h)) - (f(2 * h) - f(-2 * h))) / (12 * h)

        mid = u(0, 0)
        second = (16 * (u(0, h) + u(0, -h)) - (u(0, 2 * h) + u(0, -2 * h)) - 30 * mid) / (12 * h**2)
        return abs(first(lambda s: u(s, 0)) + mid * first(lambda s: u(0, s)) - nu * second).max()

    coarse, fine = residual(8e-3), residual(4e-3)
    assert coarse < 1e-3
    assert 12 < coarse / fine < 20


@pytest.mark.parametrize("viscosity", [0.0, -1.0, np.nan, np.inf, "thin", True])
def test_burgers_refuses_a_bad_viscosity(viscosity):
    with pytest.raises(ProblemError, match="viscosity=.*expected"):
        get("burgers", {"viscosity": viscosity})


@pytest.mark.parametrize("k", [0, 1.5, -2, True])
def test_poisson_nonlinear_refuses_a_bad_wave_number(k):
    with pytest.raises(ProblemError, match="k=.*expected a whole number >= 1"):
        get("poisson_nonlinear", {"k": k})


def _generator():
    import distgram.pde.problems

    path = Path(distgram.pde.problems.__path__[0]) / "data" / "generate_allen_cahn.py"
    spec = importlib.util.spec_from_file_location("generate_allen_cahn", path)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _table() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    known = get("allen_cahn").known()
    assert known is not None
    t, x = known.grid
    return t, x, known.u.reshape(len(t), len(x))


@pytest.mark.slow
def test_the_allen_cahn_table_can_be_made_again():
    t, x, table = _table()
    u = _generator().solve(t, x)
    difference = abs(u - table).max()
    print(f"allen_cahn: largest difference from the table {difference:.1e}")
    assert difference < 1e-9


def test_allen_cahn_generator_converges():
    """The difference from the table falls with the number of modes, faster than any power."""
    t, x, table = _table()
    solve = _generator().solve
    coarse = abs(solve(t, x, modes=100, steps_between=10) - table).max()
    fine = abs(solve(t, x, modes=200, steps_between=10) - table).max()
    assert fine < 1e-6 and fine < coarse / 2**10


def test_allen_cahn_generator_is_of_fourth_order_in_time():
    t, x = np.linspace(0.0, 0.4, 5), np.linspace(-1, 1, 21)
    solve = _generator().solve
    exact = solve(t, x, modes=120, steps_between=160)
    errors = [abs(solve(t, x, modes=120, steps_between=s) - exact).max() for s in (10, 20)]
    assert 11 < errors[0] / errors[1] < 24


def test_the_domain_of_a_time_problem_begins_with_time():
    for name in ("allen_cahn", "burgers", "heat"):
        problem = get(name)
        assert problem.inputs == ("t", "x") and isinstance(problem.domain, Box)
        assert [t.name for t in problem.terms] == ["interior", "initial", "boundary"]
