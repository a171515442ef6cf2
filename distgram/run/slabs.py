"""Causal slabs: a problem cut along time; each part begins with the end of the one before.

On [t_k, t_{k+1}] the equations and the conditions in space are those of the problem, restricted. A
term D[u] = f at the first instant becomes D[u] = D[v] at t_k, v the solution before, whatever D is:
u itself, or u_t for an equation of second order. A hard constraint  u = g + l n  becomes

    g_k(t, x) = v(t_k, x) + g(t, x) - g(t_k, x),     l_k(t, x) = l(t - t_k + t_0, x)

g_k is v at t_k, where l_k vanishes. At the border of space v(t_k, x) = g(t_k, x), so that g_k = g
there, and l_k vanishes as l does at an earlier time. v is the network before, frozen:

    v(t_k, x) = g(t_k, x) + sum_{j<k} l(t_{j+1} - t_j + t_0, x) n_j(t_{j+1}, x)

exact with all its derivatives, in any number of dimensions. A step evaluates this sum of k networks
and does not differentiate it by parameters: O(P) a point for each, beside O(P^2) a row for the
factorization. An interpolant would be cheaper only where v is smooth: at t = 0.5 of burgers, past
the shock, 3000 Chebyshev points give v to 2e-13 and v_xx to 1e-10 of its size.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, NamedTuple

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float

from distgram.errors import ProblemError
from distgram.geometry.region import Domain, Region
from distgram.net.network import FlatModel
from distgram.pde.conditions import continued
from distgram.pde.field import Field
from distgram.pde.operators import value
from distgram.pde.problem import HardConstraint, Problem, Reference, Term


def slab_edges(problem: Problem, cuts: int | Sequence[float]) -> tuple[float, ...]:
    """The instants t_0 < ... < t_K between which the K slabs of a problem lie.

    Args:
        cuts: K, for slabs of equal length; or the instants, ascending.

    Raises:
        ProblemError: the problem has no time, or the instants are not from its start to its end.
    """
    first, last = _interval(problem)
    if isinstance(cuts, int):
        return tuple(float(t) for t in np.linspace(first, last, cuts + 1))
    if (cuts[0], cuts[-1]) != (first, last):
        raise ProblemError(
            f"time.edges = {list(cuts)}: expected them to go from {first} to {last}, the time "
            f"interval of problem {problem.name!r}."
        )
    return tuple(float(t) for t in cuts)


def slab(problem: Problem, t0: float, t1: float, before: Field | None) -> Problem:
    """The problem on [t0, t1], beginning with the solution `before` at t0; None: as it is.

    What is known of the solution is what is known of it from t0 on and before t1 (and at t1 where
    that is the end of all time).

    Raises:
        ProblemError: it cannot be cut: a term that is neither at the first instant nor at all
            times, or a hard constraint of more than the initial values.
    """
    axis, terms = _axis(problem), []
    domain = problem.domain.during(axis, t0, t1)
    if not isinstance(domain, Domain):
        raise ProblemError(
            f"problem {problem.name!r}: [time] cannot cut its domain: expected a Box, or shape * "
            f"time with time the coordinate {axis}, got {type(problem.domain).__name__}."
        )
    for term in problem.terms:
        part = replace(term, region=_cut(problem, term, t0, t1))
        if before is not None and _is_initial(problem, term):
            part = continued(part, before)
        terms.append(part)
    known = problem.exact is not None or problem.reference is not None
    return replace(
        problem,
        domain=domain,
        terms=tuple(terms),
        reference=partial(known_during, problem, t0, t1) if known else None,
        constraint=_constraint(problem, t0, before),
    )


def known_during(problem: Problem, t0: float, t1: float) -> Reference:
    """What is known of the solution for t0 <= t < t1, and at t1 where that is the end of all."""
    axis, known = _axis(problem), problem.known()
    if known is None:
        raise ProblemError(f"problem {problem.name!r}: no solution is known.")
    end = problem.domain.upper[axis]

    def during(t: np.ndarray) -> np.ndarray:
        return (t >= t0) & ((t < t1) | (t1 == end))

    rows = during(known.x[:, axis])
    grid = tuple(a[during(a)] if i == axis else a for i, a in enumerate(known.grid))
    return Reference(known.x[rows], known.u[rows], grid)


class Part(NamedTuple):
    """The problem and the model of one slab, or of all there is where time is not cut."""

    problem: Problem
    model: FlatModel


def march(
    problem: Problem,
    edges: Sequence[float],
    base: Part,
    frozen: Sequence[np.ndarray],
    parts: Sequence[Part] = (),
) -> tuple[Part, ...]:
    """The slabs that are solved, and the one after them.

    Args:
        base: the slab that the network was made for. frozen: the parameters (p,) of the solved
            slabs. parts: those of them that are built.
    """
    axis, box, out = _axis(problem), base.problem.domain, list(parts)
    for k in range(len(out), len(frozen) + 1):
        before = out[-1].model.field(jnp.asarray(frozen[k - 1])) if k else None
        part = slab(problem, edges[k], edges[k + 1], before)
        hard = None if base.model.constraint is None else part.constraint
        model = placed(replace(base.model, constraint=hard), axis, box, edges[k], edges[k + 1])
        out.append(Part(part, model))
    return tuple(out)


def placed(model: FlatModel, axis: int, base: Domain, begin: Any, end: Any) -> FlatModel:
    """A model made for one slab in the slab from `begin` to `end`: it sees the time at which its
    own slab would be as far on."""
    rate = float(base.lengths[axis]) / (end - begin)
    return replace(
        model,
        scale=jnp.ones(base.dim).at[axis].set(rate),
        offset=jnp.zeros(base.dim).at[axis].set(base.lower[axis] - begin * rate),
    )


class Guess(NamedTuple):
    """The parameters of a time slab that was cut, and its interval: a first guess within it."""

    theta: np.ndarray
    begin: float
    end: float


class Before(NamedTuple):
    """The solution with which a slab begins: parameters and interval of the slab before. Of the
    first slab there is none; its own then stand here, so that all slabs are compiled once."""

    there: Bool[Array, ""]
    theta: Float[Array, " p"]
    begin: Float[Array, ""]
    end: Float[Array, ""]


class Held(NamedTuple):
    """What the residual system of a slab holds fixed: its interval, and what came before."""

    begin: Float[Array, ""]
    end: Float[Array, ""]
    before: Before


@dataclass(frozen=True, eq=False)
class Marching:
    """The residual system of any time slab as a function of what it holds fixed, so that all slabs
    are compiled once.

    Args:
        whole: the problem over all of time. base: the slab that the network was made for.
        terms: those that are left to the loss, weighted, on the regions of any slab.
    """

    whole: Problem
    base: Part
    terms: tuple[Term, ...]

    def __call__(self, held: Held) -> tuple[tuple[Term, ...], FlatModel]:
        """Terms and model of the slab."""
        model = self._placed(held.begin, held.end)
        there, theta, begin, end = held.before
        before = self._placed(begin, end).field(theta)

        def begun(term: Term) -> Term:
            if not _is_initial(self.whole, term):
                return term
            later = continued(term, before)

            def target(x: Float[Array, " d"]) -> Float[Array, " m"]:
                return jnp.where(there, later.target(x), term.target(x))

            return replace(later, target=target)

        return tuple(map(begun, self.terms)), model

    def _placed(self, begin: Any, end: Any) -> FlatModel:
        box = self.base.problem.domain
        return placed(self.base.model, _axis(self.whole), box, begin, end)


def held(edges: Sequence[float], frozen: Sequence[np.ndarray], theta0: Float[Array, " p"]) -> Held:
    """What the slab after those with parameters `frozen` holds fixed; θ₀ of the network."""
    k = len(frozen)
    at = [jnp.asarray(edge) for edge in edges[max(k - 1, 0) :][:3]]
    theta = jnp.asarray(frozen[-1]) if k else theta0
    before = Before(jnp.asarray(k > 0), theta, at[0], at[1])
    return Held(at[min(k, 1)], at[min(k, 1) + 1], before)


def halved(edges: Sequence[float], k: int) -> tuple[float, ...]:
    """The instants with slab k half as long, and those after it no longer than that."""
    first, last = edges[k], edges[-1]
    count = math.ceil((last - first) / (0.5 * (edges[k + 1] - first)) - 1e-9)
    return (*edges[:k], *(float(t) for t in np.linspace(first, last, count + 1)))


def until(whole: Problem, part: Problem) -> Problem:
    """The problem from the start of time to the end of one of its slabs."""
    axis = _axis(whole)
    return slab(whole, whole.domain.lower[axis], part.domain.upper[axis], None)


def by_slab(
    parts: Sequence[Part], x: np.ndarray, at: Callable[[int, np.ndarray], Any]
) -> Float[np.ndarray, "n m"]:
    """Values at points (n, d), each from the slab in which it lies: the later of two that share it.

    Args:
        at: slab k and points (n_k, d) to values (n_k, m).
    """
    which = np.zeros(len(x), int)
    if len(parts) > 1:
        axis = _axis(parts[0].problem)
        starts = [part.problem.domain.lower[axis] for part in parts[1:]]
        which = np.searchsorted(starts, x[:, axis], side="right")
    values = {k: np.asarray(at(int(k), x[which == k])) for k in np.unique(which)}
    out = np.empty((len(x), *next(iter(values.values())).shape[1:]))
    for k, there in values.items():
        out[which == k] = there
    return out


def _axis(problem: Problem) -> int:
    if problem.time is None:
        raise ProblemError(
            f"problem {problem.name!r} has no time to cut: leave [time] out, or give the problem "
            "`time`, the coordinate that is time."
        )
    return problem.time


def _interval(problem: Problem) -> tuple[float, float]:
    axis = _axis(problem)
    return problem.domain.lower[axis], problem.domain.upper[axis]


def _is_initial(problem: Problem, term: Term) -> bool:
    return term.region.begins(_axis(problem))


def _cut(problem: Problem, term: Term, t0: float, t1: float) -> Region:
    """The region of a term in a slab."""
    axis, region, span = _axis(problem), term.region, term.region.span
    whole = span is None or (span[0][axis], span[1][axis]) == _interval(problem)
    part = region.during(axis, t0, t1) if whole else None
    if part is None:
        raise ProblemError(
            f"problem {problem.name!r}, term {term.name!r}: [time] cannot cut it: expected a "
            "region at all times (a Box, Faces of its sides in space, or shape * time and its "
            f"walls) or at the first instant alone (its start), got {type(region).__name__}."
        )
    return part


def _constraint(problem: Problem, t0: float, before: Field | None) -> HardConstraint | None:
    """The hard constraint of a slab: the module's g_k and l_k."""
    constraint, axis = problem.constraint, _axis(problem)
    hard = constraint.satisfies if constraint is not None else ()
    initial = [t for t in problem.terms if t.name in hard and _is_initial(problem, t)]
    if any(t.operator is not value for t in initial):
        raise ProblemError(
            f"problem {problem.name!r}: its hard constraint satisfies {initial[-1].name!r}, which "
            "prescribes more than u: with [time] expected the values of u at the first instant "
            "only; set model.hard_constraint = false."
        )
    if constraint is None or before is None or not initial:
        return constraint
    lift, distance = constraint.lift, constraint.distance
    along = np.eye(problem.dim)[axis]
    shift = (problem.domain.lower[axis] - t0) * along

    def lift_k(x: Float[Array, " d"]) -> Float[Array, " m"]:
        start = (1 - along) * x + t0 * along  # (t0, x): linear, for forward derivatives
        return before(start) + (lift(x) - lift(start))

    def distance_k(x: Float[Array, " d"]) -> Float[Array, " m"]:
        return distance(x + jnp.asarray(shift))

    return HardConstraint(lift_k, distance_k, constraint.satisfies)
