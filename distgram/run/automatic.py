"""What is chosen where a user gives the problem alone: network, points, rule, time slabs, weights.

One policy for all equations. It knows the dimension, the domain, which coordinate is time, periods,
the terms and their kinds; never the solution. tests/bench/suite.py measures it.

- The network is small, and its points are few: many cheap steps of second order reach what few dear
  ones do not.
- Time is cut only where the whole of it does not converge: into halves, and these again. Each slab
  is solved to the end before the next begins, and all are compiled once.
- Each term's rows of the Jacobian get the same mean square at the start, see `balance`.
- Steps are corrected for the bend of the residual, and leave plateaus uphill (`AdaptiveRatio`).
"""

from __future__ import annotations

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from distgram.errors import ProblemError
from distgram.geometry.boundary import Boundary, Oriented
from distgram.geometry.regions import Faces
from distgram.linalg.rows import Points
from distgram.net.mlp import MLP
from distgram.pde.problem import Problem, Term
from distgram.points.adaptive.fresh import Fresh
from distgram.points.adaptive.placement import Growth
from distgram.points.draw import Draw, fixed_count
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.run.setup import Setup, Slabs
from distgram.run.slabs import slab, slab_edges

HIDDEN = (24, 24)
GAIN = 1.5
RULE = AdaptiveRatio(acceleration=0.75, depth=1e-5, patience=10, first_excursion=0.25)
SLABS = Slabs(slabs=1, halve_after=100, fall=1e-5)
# Equations a parameter: enough that few networks fit them all and are wrong between the points.
ROWS_PER_PARAMETER = 2.5
# The points stay, and become GROWTH times as many, MOST times at most, where the equation holds at
# them only: a move would disturb steps that converge.
GROWTH, MOST = 2.0, 8.0
NEVER = 10**9
# Points of a term of which traces are taken.
TRACED = 256


def choices(problem: Problem) -> dict[str, Any]:
    """The arguments of `distgram.solve` for a problem of which nothing else is said."""
    periodic = problem.periods is not None and any(problem.periods)
    slabs = SLABS if _can_be_cut(problem) else None
    points = _points(problem)
    moving = sum(points[t.name].count for t in problem.terms if fixed_count(t) is None)
    grow = Growth(round(MOST * moving), GROWTH)
    return {
        "network": MLP(HIDDEN, gain=GAIN, features="periodic" if periodic else "normalize"),
        "points": points,
        "rule": RULE,
        "placement": Fresh(every=NEVER, grow=grow) if moving else None,
        "slabs": slabs,
        "balance": True,
    }


def solved_with(setup: Setup) -> str:
    """What a run solves with, in one line: what a person did not choose is to be seen."""
    network, grow = setup.network, setup.placement and setup.placement.grow
    said = [type(network).__name__]
    if isinstance(network, MLP):
        widths = ", ".join(map(str, network.hidden))
        said = [f"MLP of {widths} {network.activation}, features {network.features}"]
    if setup.balance:
        said.append("terms balanced")
    if setup.slabs is not None:
        count, halved = setup.slabs.count, setup.slabs.halve_after is not None
        said.append("time whole" if count == 1 else f"time in {count} slabs")
        said[-1] += ", halved where it does not converge" * halved
    if grow is not None:
        said.append(f"points grow to {grow.budget} at most")
    return "; ".join(said)


def _points(problem: Problem) -> dict[str, Draw]:
    """Points by term: inside as many as ROWS_PER_PARAMETER asks for; on each face of a boundary in
    up to two dimensions 2.5 times the square root of that, on one in more dimensions half of it."""
    d, periods = problem.dim, problem.periods or (None,) * problem.dim
    sizes = [sum(2 if period else 1 for period in periods), *HIDDEN, problem.outputs]
    parameters = sum((a + 1) * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    inside = [t for t in problem.terms if fixed_count(t) is None and not _on_boundary(t)]
    count = round(ROWS_PER_PARAMETER * parameters / max(len(inside), 1))
    draws = {}
    for term in problem.terms:
        if (fixed := fixed_count(term)) is not None:
            draws[term.name] = Draw(fixed)
        elif isinstance(term.region, Boundary | Oriented):
            faces = _faces(problem, term.region)
            draws[term.name] = Draw(round(2.5 * count**0.5) * faces if d <= 2 else count // 2)
        else:
            draws[term.name] = Draw(count)
    return draws


def _faces(problem: Problem, boundary: Boundary | Oriented) -> int:
    """The number of faces of a boundary; of one that is not that of a box its length in sides of a
    square as large as the domain, and one for each of its pieces at least."""
    if isinstance(boundary, Faces):
        return len(boundary.faces)
    side = problem.domain.measure() ** (1 / problem.dim)
    return max(len(boundary.pieces), round(boundary.measure() / side ** (problem.dim - 1)))


def _on_boundary(term: Term) -> bool:
    return isinstance(term.region, Boundary | Oriented)


def _can_be_cut(problem: Problem) -> bool:
    """Whether time slabs can be made of a problem."""
    if problem.time is None or any(fixed_count(t) is not None for t in problem.terms):
        return False
    try:
        begin, end = slab_edges(problem, 2)[:2]
        slab(problem, begin, end, None)
    except ProblemError:
        return False
    return True


def balance(stage: Any) -> dict[str, float]:
    """Factors of the terms' weights with which every term's rows of the Jacobian at θ₀ have the
    same mean square: the trace of its part of the kernel JJᵀ. The least of them is 1.

    Where an operator is large, as of high derivatives, its rows would else outweigh those of the
    conditions by 10² to 10⁶: the network first solves the equation with the wrong data. Source:
    Wang, Yu, Perdikaris, J. Comput. Phys. 449 (2022) 110768, there by a moving average.
    """
    if len(stage.terms) < 2:
        return {}
    points = tuple(
        Points(p.x[:: max(1, len(p.x) // TRACED)], p.sqrt_weight[:: max(1, len(p.x) // TRACED)])
        for p in stage.points()
    )

    @jax.jit
    def traces(residual, theta, points):
        return jnp.stack(
            [
                jnp.sum(residual.only(i).block(theta, (p,))[:, :-1] ** 2)
                / jnp.sum(p.sqrt_weight**2)
                for i, p in enumerate(points)
            ]
        )

    found = np.asarray(traces(stage.residual, stage.model.theta0, points))
    weights = np.array([t.weight for t in stage.terms])
    found = np.where(np.isfinite(found) & (found > 0), found, 1.0) * weights
    factors = found.max() / found
    return {t.name: float(f) for t, f in zip(stage.terms, factors, strict=True)}
