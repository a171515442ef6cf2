"""Whether a problem can be right: shapes and finite values of its terms, before any computing."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import jax
import jax.numpy as jnp
import numpy as np

from distgram.errors import ModelError, ProblemError, RegionError
from distgram.net.network import FlatModel
from distgram.pde.field import Constant, Field
from distgram.pde.problem import Problem, Term
from distgram.points.draw import Draw, draw, draw_held_out, probe
from distgram.run.slabs import slab


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
            f"({m},), one entry a component of u of problem {problem.name!r}."
        )


def check_term(problem: Problem, model: FlatModel, term: Term) -> int:
    """Check shapes and finiteness of one term; its number of equations m_t."""
    where = f"problem {problem.name!r}, term {term.name!r}"
    x = jnp.zeros(term.region.dim)
    try:
        u = model.field(model.theta0)
        left = jax.eval_shape(lambda x: jnp.atleast_1d(term.operator(u)(x)), x)
        right = jax.eval_shape(term.target, x)
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ProblemError(f"{where} cannot be traced: {type(error).__name__}: {line}") from error
    if left.ndim != 1 or right.shape not in (left.shape, _broadcast(term.target)):
        raise ProblemError(
            f"{where}: the operator gives shape {left.shape} and the target {right.shape}: "
            "expected one shape (m,) for both, one entry an equation."
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
    """Check the shape of the exact solution, where there is one."""
    if problem.exact is not None:
        x = jnp.asarray(problem.domain.lower, jnp.float64)
        shape = jax.eval_shape(problem.exact, x).shape
        if shape != (problem.outputs,):
            raise ProblemError(
                f"problem {problem.name!r}: the exact solution has shape {shape}: expected "
                f"({problem.outputs},), one entry a component of u."
            )


def check_points(terms: Sequence[Term], wanted: Mapping[str, Draw], held_out: int) -> None:
    """Check that every term gets its points, those held out as well.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a focus outside a Box.
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
