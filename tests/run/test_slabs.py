"""Causal slabs: a problem cut along time."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from library import stage_of
from slab_runs import changed

from distgram.config.schema import check
from distgram.errors import ConfigError, ProblemError
from distgram.geometry.regions import Box, Faces
from distgram.linalg.mesh import make_mesh
from distgram.pde.operators import laplacian, partial, time_derivative, value
from distgram.pde.problem import HardConstraint, Problem, Term
from distgram.pde.registry import get
from distgram.run.checks import check_slabs
from distgram.run.slabs import slab, slab_edges

BOX = Box((1.0, -1.0), (3.0, 1.0))  # times from 1 to 3


def moving(x):
    """Boundary values that move:  u = t x  at x = -1 and x = 1."""
    return x[:1] * x[1:]


def distance(x):
    return (x[:1] - 1) * (1 - x[1:]) * (1 + x[1:])


def diffusion(initial=(value,), sides=((1, 0), (1, 1))) -> Problem:
    names = [f"initial{i}" for i in range(len(initial))]
    terms = [Term(d, d(moving), BOX.start(), name=n) for n, d in zip(names, initial, strict=True)]
    return Problem(
        BOX,
        (
            Term(
                lambda u: lambda x: partial(u, 0)(x) - laplacian(u, (1,))(x),
                moving,
                BOX,
                name="interior",
            ),
            *terms,
            Term(value, moving, Faces(BOX, sides), name="boundary"),
        ),
        name="diffusion",
        constraint=HardConstraint(moving, distance, (*names, "boundary")),
        time=0,
    )


def test_a_hard_constraint_goes_on_from_the_solution_before():
    """g_k = v at t_k to the last bit, and with l_k the moving boundary values at all times."""
    problem = diffusion()
    before = lambda x: moving(x) + distance(x) * jnp.sin(3 * x[1:] + x[:1])  # noqa: E731
    hard = slab(problem, 1.5, 2.25, before).constraint
    assert hard is not None
    x = np.linspace(-1.0, 1.0, 9)
    start = jnp.asarray(np.stack([np.full(9, 1.5), x], axis=1))
    assert np.array_equal(jax.vmap(hard.lift)(start), jax.vmap(before)(start))
    assert np.array_equal(jax.vmap(hard.distance)(start), np.zeros((9, 1)))
    for t in (1.5, 1.7, 2.25):
        for side in (-1.0, 1.0):
            at = jnp.array([t, side])
            assert abs(hard.lift(at) - moving(at)) < 1e-15 and hard.distance(at) == 0.0
    # what a step needs of it: derivatives of the network before, exact
    at, there = jnp.array([2.0, 0.3]), jnp.array([1.5, 0.3])
    curved = [float(laplacian(f, (1,))(p)[0]) for f, p in ((hard.lift, at), (before, there))]
    assert curved[0] == pytest.approx(curved[1], rel=1e-13)
    assert float(partial(hard.lift, 0)(at)[0]) == pytest.approx(0.3, rel=1e-13)


def test_initial_terms_take_their_operator_of_the_solution_before():
    """An equation of second order in time begins with u and u_t."""
    problem = replace(diffusion(initial=(value, time_derivative)), constraint=None)
    before = lambda x: jnp.sin(x[:1] * x[1:])  # noqa: E731
    part = slab(problem, 2.0, 3.0, before)
    x = jnp.array([2.0, 0.4])
    targets = {t.name: t.target(x) for t in part.terms}
    assert targets["initial0"] == jnp.sin(0.8)
    assert float(targets["initial1"][0]) == pytest.approx(0.4 * np.cos(0.8), rel=1e-14)
    assert targets["boundary"] == moving(x)
    latest = {t.name: t.region.sample(64, 0)[:, 0].max() for t in part.terms}
    assert latest["initial0"] == latest["initial1"] == 2.0 < latest["boundary"] <= 3.0
    assert all(t.region.sample(64, 0)[:, 0].min() >= 2.0 for t in part.terms)
    assert slab(problem, 1.0, 2.0, None).terms[1].target is problem.terms[1].target


def test_what_is_known_is_cut_without_overlap():
    whole = get("heat")
    edges = slab_edges(whole, [0.0, 0.35, 0.6, 1.0])
    parts = [slab(whole, a, b, None) for a, b in zip(edges[:-1], edges[1:], strict=True)]
    known, pieces = whole.known(), [part.known() for part in parts]
    assert np.array_equal(known.x, np.concatenate([p.x for p in pieces]))
    assert np.array_equal(known.u, np.concatenate([p.u for p in pieces]))
    assert [len(p.grid[0]) for p in pieces] == [35, 25, 41]


def test_equal_slabs_end_where_time_ends():
    assert slab_edges(diffusion(), 3) == (1.0, 1 + 2 / 3, 1 + 4 / 3, 3.0)


@pytest.mark.parametrize(
    "tables, error",
    [
        ({"time": {"slabs": None, "edges": [0.0, 0.4, 0.9]}}, r"time\.edges.*from 0\.0 to 1\.0"),
        ({"time": {"slabs": None, "edges": [0.0, 0.6, 0.4, 1.0]}}, r"time\.edges.*each.* larger"),
        ({"time": {"slabs": 2, "edges": [0.0, 1.0]}}, r"time\.slabs = 2: .*edges"),
        ({"time": {"slabs": 0}}, r"time\.slabs = 0"),
        ({"run": {"steps": 0}}, r"run\.steps = 0 with \[time\]"),
        ({"problem": {"name": "laplace5d"}}, "'laplace5d' has no time"),
        (
            {"points": {"interior": {"count": 100, "sampler": "grid"}, "initial": {"count": 9}}},
            "points.initial: the hard constraint",
        ),
        (
            {"points": {"interior": {"count": 101, "sampler": "grid"}}},
            r"slab 1 of 2, from 0 to 0\.5: points\.interior.*grid",
        ),
    ],
)
def test_what_cannot_be_cut_is_refused_before_any_solving(tables, error):
    with pytest.raises((ConfigError, ProblemError, ValueError), match=error):
        stage_of(check(changed(**tables)), make_mesh(1))


def test_a_problem_that_cannot_be_cut():
    whole = diffusion(sides=((1, 0), (1, 1), (0, 1)))
    with pytest.raises(ProblemError, match="'boundary'.*cannot cut it.*got Faces"):
        slab(whole, 1.0, 2.0, None)
    with pytest.raises(ProblemError, match="'initial1', which prescribes more than u"):
        slab(diffusion(initial=(value, time_derivative)), 1.0, 2.0, None)
    with pytest.raises(ProblemError, match="slab 2 of 2, from 2 to 3: never"):
        check_slabs(diffusion(), (1.0, 2.0, 3.0), _refuse_late)


def _refuse_late(part: Problem) -> None:
    if part.domain.lower[0] == 2.0:
        raise ProblemError("never")
