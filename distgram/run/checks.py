"""Whether a problem can be right: shapes and finite values of its terms, before any computing."""

from __future__ import annotations

import logging
import sysconfig
import traceback
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from itertools import pairwise
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jax.extend import core
from jaxtyping import Array

from distgram.errors import ModelError, PlanError, ProblemError, RegionError, UserError
from distgram.net.mlp import MLP
from distgram.net.network import FlatModel
from distgram.pde.field import Constant, Field
from distgram.pde.problem import Problem, Term
from distgram.points.draw import Draw, draw, draw_held_out, probe
from distgram.run.setup import Setup
from distgram.run.slabs import slab

log = logging.getLogger("distgram")

# Where files are that are none of the user's.
OURS = (str(Path(__file__).parents[1]), *map(sysconfig.get_path, ("stdlib", "purelib", "platlib")))

# The conditions that know of a constant: where one of them is there, the solution is determined.
FIXING = ("dirichlet", "robin", "initial", "data")

MOST_SLABS = 10_000  # each is checked before the first is solved


def check_sizes(setup: Setup, problem: Problem, devices: int) -> None:
    """Check that points and parameters alone fit into the memory budget, before any is made.

    Raises:
        PlanError: the key, its value, and the largest one that fits.
    """
    budget, d = setup.memory.budget_gib * 2**30, problem.dim
    most = budget * devices / (8 * (d + 1))  # x (d,) and a weight, in float64
    counts = {"run.held_out": setup.schedule.held_out}
    for name, asked in (setup.points or {}).items():
        counts[f"points.{name}.count"] = asked.count if isinstance(asked, Draw) else asked
    if setup.rule.validation is not None:
        counts["rule.validation"] = setup.rule.validation
    for key, count in counts.items():
        if count > most:
            raise PlanError(
                f"{key} = {count}: points of {d} coordinates alone take {count * 8 * (d + 1)} "
                f"bytes, and memory.budget_gib = {setup.memory.budget_gib:g} on {devices} "
                f"device(s): expected at most {most:.3g}, or a larger budget."
            )
    if setup.slabs is not None and setup.slabs.count > MOST_SLABS:
        raise PlanError(f"time.slabs = {setup.slabs.count}: expected at most {MOST_SLABS}.")
    if isinstance(setup.network, MLP):
        widths = (d, *setup.network.hidden, problem.outputs)
        parameters = sum((n + 1) * m for n, m in pairwise(widths))
        if parameters * 8 > budget:
            raise PlanError(
                f"model.hidden = {list(setup.network.hidden)}: {parameters} parameters take "
                f"{parameters * 8} bytes, and memory.budget_gib = {setup.memory.budget_gib:g}: "
                "expected fewer or narrower layers, or a larger budget."
            )


def check_model(problem: Problem, model: FlatModel) -> None:
    """Check that the network maps a point of the problem to its outputs.

    Raises:
        ModelError: it cannot be called with a point (d,), or gives another shape.
    """
    d, m = problem.dim, problem.outputs
    try:
        given = jax.eval_shape(lambda x: model.field(model.theta0)(x), jnp.zeros(d))
        found = f"{given.dtype} of shape {given.shape}"
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ModelError(
            f"network: it cannot be called with a point of shape ({d},): "
            f"{type(error).__name__}: {line}"
        ) from error
    if (given.shape, given.dtype) != ((m,), jnp.float64):
        raise ModelError(
            f"network: it gives {found} at a point of shape ({d},): expected float64 of shape "
            f"({m},), one entry per component of u of problem {problem.name!r}."
        )


def check_term(problem: Problem, model: FlatModel, term: Term) -> int:
    """Check shapes and finiteness of one term; its number of equations m_t."""
    where = f"problem {problem.name!r}, term {term.name!r}"
    x, u = jnp.zeros(term.region.dim), model.field(model.theta0)
    left = _traced(where, "operator", lambda x: jnp.atleast_1d(term.operator(u)(x)), x, u)
    right = _traced(where, "target", term.target, x)
    if left.ndim != 1 or right.shape not in (left.shape, _broadcast(term.target)):
        raise ProblemError(
            f"{where}: the operator gives shape {left.shape} and the target {right.shape}: "
            "expected one shape (m,) for both, one entry per equation."
        )
    check_target(problem, term, probe(term, 64))
    return left.shape[0]


def _broadcast(target: Field) -> tuple[int, ...] | None:
    """The shape of a target that is one number, which stands for all equations alike; else None."""
    return (1,) if isinstance(target, Constant) and target.value.ndim == 0 else None


def check_target(problem: Problem, term: Term, x: np.ndarray) -> None:
    """Check that the target of a term is finite at points (n, d)."""
    values = np.asarray(jax.vmap(term.target)(jnp.asarray(x)))
    finite = np.isfinite(values.reshape(len(x), -1)).all(axis=1)
    if not finite.all():
        raise ProblemError(
            f"problem {problem.name!r}, term {term.name!r}: the target is not finite at "
            f"x = {x[np.argmin(finite)].tolist()}."
        )


def check_exact(problem: Problem) -> None:
    """Check the shape of the exact solution, where there is one, and that something is known.

    Raises:
        ProblemError: an exact solution or a reference that is finite nowhere.
    """
    if problem.exact is not None:
        x = jnp.asarray(problem.domain.lower, jnp.float64)
        where = f"problem {problem.name!r}"
        shape = _traced(where, "exact solution", problem.exact, x).shape
        if shape != (problem.outputs,):
            raise ProblemError(
                f"problem {problem.name!r}: the exact solution has shape {shape}: expected "
                f"({problem.outputs},), one entry per component of u."
            )
    known = problem.known()
    if known is None:
        return
    where = f"problem {problem.name!r}: the "
    where += "exact solution" if problem.reference is None else "reference"
    finite, within = np.isfinite(known.u), problem.inside(np.asarray(known.x, np.float64))
    if not within.any():
        raise ProblemError(f"{where} has no point in the domain: expected some to compare at.")
    missing = within & ~finite.all(axis=1)
    if not missing.any():
        return
    first = known.x[np.argmax(missing)].tolist()
    if not finite.any(axis=0).all():
        raise ProblemError(
            f"{where} is not finite at x = {first}, nor elsewhere: expected a number at some "
            "points for each output; leave it out, or give a reference where it is known."
        )
    _say_once(
        f"{where} is not finite at {missing.sum()} of {within.sum()} points, first at x = {first}: "
        "these are not compared."
    )


@cache
def _say_once(line: str) -> None:
    log.warning(line)


def free_constants(problem: Problem, model: FlatModel) -> tuple[int, ...]:
    """The outputs to which a constant can be added without any term noticing it, as where all
    conditions are of Neumann: such a solution is determined up to a constant.

    By trial: D[u + 1] = D[u] at points of every term, for u the network at its first parameters.
    """
    if any(t.kind in FIXING and t.given.get("component") is None for t in problem.terms):
        return ()
    u, eye = model.field(model.theta0), np.eye(problem.outputs)

    def unmoved(term: Term, i: int) -> bool:
        x = jnp.asarray(probe(term, 16)[:16])
        change = jax.vmap(lambda x: term.operator(lambda y: u(y) + eye[i])(x))(x)
        same = jax.vmap(term.operator(u))(x)
        return bool(jnp.all(jnp.abs(change - same) <= 1e-9 * (1.0 + jnp.abs(same))))

    return tuple(i for i in range(problem.outputs) if all(unmoved(t, i) for t in problem.terms))


def _traced(
    where: str, what: str, function: Field, x: Array, u: Field | None = None
) -> jax.ShapeDtypeStruct:
    """The shape of a user's function at a point, whose values and steps have to be of float64.

    Args:
        where, what: of the function, for an error. u: the network that it is a function of.

    Raises:
        ProblemError: it fails, is complex, or computes in a lower precision.
    """
    try:
        program = jax.make_jaxpr(function)(x)
        lower = _lower(program.jaxpr)
        if u is not None and lower:
            lower -= _lower(jax.make_jaxpr(u)(x).jaxpr)
    except KeyboardInterrupt:
        raise
    except BaseException as error:  # one that is no Exception must not end the program either
        _check_float64(where, what)
        raise ProblemError(
            f"{where}: the {what} cannot be traced: {error_in_words(error)}"
        ) from error
    _check_float64(where, what)
    (found,) = program.out_avals
    if jnp.issubdtype(found.dtype, jnp.complexfloating):
        raise ProblemError(
            f"{where}: the {what} is complex: expected two real outputs, the real and the "
            "imaginary part, and as many equations; distgram.complex_field(problem) makes them."
        )
    if lower:
        raise ProblemError(
            f"{where}: the {what} computes in {', '.join(sorted(lower))}: expected float64 from "
            "end to end: make its constants and arrays float64, and leave casts out."
        )
    return jax.ShapeDtypeStruct(found.shape, found.dtype)


def _check_float64(where: str, what: str) -> None:
    if not jax.config.jax_enable_x64:  # type: ignore[attr-defined]
        jax.config.update("jax_enable_x64", True)
        raise ProblemError(
            f"{where}: the {what} has turned jax_enable_x64 off: expected all in float64."
        )


def _lower(program: core.Jaxpr) -> set[str]:
    """The floating types below float64 that a program of jax computes in."""
    found: set[str] = set()
    for equation in program.eqns:
        types = (getattr(out.aval, "dtype", None) for out in equation.outvars)
        found |= {t.name for t in types if t is not None and jnp.issubdtype(t, jnp.floating)}
        for inner in core.jaxprs_in_params(equation.params):
            found |= _lower(inner)
    return found - {"float64"}


def error_in_words(error: BaseException) -> str:
    """An error of a user's function in words: what it is, the line, and what often helps."""
    line = (str(error).strip().splitlines() or [""])[0].rstrip(".")
    frames = [f for f, _ in traceback.walk_tb(error.__traceback__)]
    theirs = [f for f in frames if not f.f_code.co_filename.startswith((*OURS, "<"))]
    where = f" (line {theirs[-1].f_lineno} of {theirs[-1].f_code.co_filename})" if theirs else ""
    remedy = ""
    if isinstance(error, jax.errors.TracerBoolConversionError):
        remedy = ": write jnp.where(condition, a, b) in place of a Python choice by a traced value"
    elif isinstance(
        error, jax.errors.TracerArrayConversionError | jax.errors.ConcretizationTypeError
    ):
        remedy = ": use jax.numpy, as in jnp.sin, in place of numpy, math and float()"
    kind = "" if isinstance(error, UserError) else f"{type(error).__name__}: "
    return f"{kind}{line}{where}{remedy}."


def check_points(terms: Sequence[Term], wanted: Mapping[str, Draw], held_out: int) -> None:
    """Check that every term gets its points, those held out as well.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a focus on no Domain.
    """
    for term in terms:
        draw(term, wanted[term.name], [0])
        draw_held_out(term, held_out, [0])


def check_slabs(whole: Problem, edges: Sequence[float], check: Callable[[Problem], None]) -> None:
    """Check every time slab of a problem.

    Args:
        check: raises a ProblemError or RegionError where a slab is not right.

    Raises:
        ProblemError, RegionError: of the first slab that is not right, with its place.
    """
    for k in range(len(edges) - 1):
        part = slab(whole, edges[k], edges[k + 1], None)
        try:
            check(part)
        except (ProblemError, RegionError) as error:
            where = f"slab {k + 1} of {len(edges) - 1}, from {edges[k]:g} to {edges[k + 1]:g}"
            raise type(error)(f"{where}: {error}") from error
