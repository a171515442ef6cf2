"""Problems for a complex field: written in complex numbers, solved as two real outputs."""

from __future__ import annotations

from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np

from distgram.errors import ProblemError
from distgram.geometry.regions import Sites
from distgram.pde.field import Constant, Field
from distgram.pde.problem import HardConstraint, Problem, Reference, Term


def complex_field(problem: Problem) -> Problem:
    """A problem whose solution h, operators, targets and values may be complex, as one for the real
    field (Re h, Im h): outputs u_1 ... u_m are the real parts, u_(m+1) ... u_2m the imaginary ones;
    of each complex equation the real and the imaginary part are asked for.

        # i h_t + h_xx / 2 + |h|² h = 0
        schroedinger = lambda h: lambda x: (
            1j * dg.partial(h, 0)(x) + dg.partial(h, 1, 2)(x) / 2 + abs(h(x)) ** 2 * h(x)
        )
        problem = dg.complex_field(dg.Problem(box, {"interior": dg.Term(schroedinger, 0.0, box),
            "start": dg.Initial(soliton, box), ...}, exact=soliton))
        u = dg.solve(problem)
        h = u(x)[:, 0] + 1j * u(x)[:, 1]

    Raises: ProblemError for what is no Problem, or measured data, which are real.
    """
    if not isinstance(problem, Problem):
        raise ProblemError(f"complex_field({problem!r}): expected a Problem.")
    m, reference = problem.outputs, problem.reference
    return replace(
        problem,
        terms=tuple(_real(term, m) for term in problem.terms),
        outputs=2 * m,
        exact=None if problem.exact is None else parts(problem.exact),
        reference=None if reference is None else lambda: _split(reference()),
        constraint=None if problem.constraint is None else _hard(problem.constraint),
    )


def joined(u: Field, m: int) -> Field:
    """The complex field of m components that (Re h, Im h) is."""

    def h(x):
        values = u(x)
        return values[:m] + 1j * values[m:]

    return h


def parts(h: Field) -> Field:
    """The real and the imaginary parts of a field, one after the other."""

    def both(x):
        values = jnp.atleast_1d(h(x))
        return jnp.concatenate([jnp.real(values), jnp.imag(values)])

    return both


def _real(term: Term, m: int) -> Term:
    if term.kind == "data" and isinstance(term.region, Sites):
        raise ProblemError(
            f"complex_field, term {term.name!r}: measured values are real: expected a Term on "
            "Sites, or measurements of the two outputs added after complex_field."
        )
    operator, target = term.operator, term.target

    def real_target(x):
        if isinstance(target, Constant) and target.value.ndim == 0:  # it stands for all equations
            zero = joined(lambda y: jnp.zeros(2 * m), m)
            return parts(lambda y: jnp.full(jax.eval_shape(operator(zero), y).shape, target.value))(
                x
            )
        return parts(target)(x)

    given = {key: term.given[key] for key in ("time", "component") if key in term.given}
    real = replace(term, operator=lambda u: parts(operator(joined(u, m))), target=real_target)
    return replace(real, given=given)


def _split(known: Reference) -> Reference:
    u = np.asarray(known.u)
    return Reference(known.x, np.concatenate([np.real(u), np.imag(u)], axis=1), known.grid)


def _hard(constraint: HardConstraint) -> HardConstraint:
    distance = constraint.distance

    def twice(x):
        value = jnp.atleast_1d(distance(x))
        return value if value.shape == (1,) else jnp.concatenate([value, value])

    return replace(constraint, lift=parts(constraint.lift), distance=twice)
