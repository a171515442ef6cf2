"""Whether a problem can be right: shapes and finite values of its terms, before any computing."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np

from distgram.collocation import probe
from distgram.models import FlatModel
from distgram.problem import Problem, ProblemError, Term


def check_term(problem: Problem, model: FlatModel, term: Term) -> int:
    """Check shapes and finiteness of one term; its number of equations m_t."""
    where = f"problem {problem.name!r}, term {term.name!r}"
    x = jnp.zeros(term.region.dim)
    try:
        left = jax.eval_shape(lambda x: term.operator(model.field(model.theta0))(x), x)
        right = jax.eval_shape(term.target, x)
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ProblemError(f"{where} cannot be traced: {type(error).__name__}: {line}") from error
    if left.ndim != 1 or left.shape != right.shape:
        raise ProblemError(
            f"{where}: the operator gives shape {left.shape} and the target {right.shape}: "
            "expected one shape (m,) for both, one entry an equation."
        )
    check_target(problem, term, probe(term, 64))
    return left.shape[0]


def check_target(problem: Problem, term: Term, x: np.ndarray) -> None:
    """Check that the target of a term is finite at points (n, d)."""
    finite = np.isfinite(np.asarray(jax.vmap(term.target)(jnp.asarray(x)))).all(axis=1)
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
