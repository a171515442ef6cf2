"""What is solved: a list of weighted residual terms, and what is known of the solution.

A term asks for  D[u](x) = f(x)  on a region; its residual is  D[u](x) - f(x).  A problem
carries its exact solution, or a reference table, so that every run can state an error that
does not depend on its own residual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.errors import ProblemError
from distgram.geometry.regions import Box, Region, Sites

Field = Callable[[Float[Array, " d"]], Float[Array, " m"]]
Operator = Callable[[Field], Field]


@dataclass(frozen=True, eq=False)
class Vector:
    """A function of x with its scalar values as vectors of one component."""

    function: Field

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " m"]:
        return jnp.atleast_1d(self.function(x))


@dataclass(frozen=True, eq=False)
class Constant:
    """The field of one constant value, () or (m,)."""

    value: np.ndarray

    def __call__(self, x: Float[Array, " d"]) -> Array:
        return jnp.asarray(self.value)


def is_constant(target: Field) -> bool:
    """Whether a target is a plain number, which holds for every equation of a term."""
    return isinstance(target, Constant)


@dataclass(frozen=True)
class Term:
    """One equation of a problem:  D[u](x) = f(x)  for x in a region.

    Args:
        operator: D, a function of a field that gives a field, (d,) -> (m,), or () for one equation.
        target: f, a number, or a function of x (d,) that gives () or as many components as D[u].
        region: where the equation holds.
        weight: factor of the term's mean square in the loss, dimensionless, > 0.
        kind: what the condition is called, 'equation' where it has no other name.
        name: given by the problem; `points` refer to it.
    """

    operator: Operator
    target: Any  # a number or a function as given, a function from then on
    region: Region
    weight: float = 1.0
    kind: str = "equation"
    name: str = ""

    def __post_init__(self):
        for key in ("operator", "target"):
            given = getattr(self, key)
            if key == "target" and isinstance(given, int | float | np.ndarray | jax.Array):
                object.__setattr__(self, key, Constant(np.asarray(given, np.float64)))
            elif not callable(given):
                what = (
                    "a function of a field" if key == "operator" else "a number or a function of x"
                )
                raise ProblemError(f"Term({key}={given!r}): expected {what}.")
        if not isinstance(self.region, Region):
            raise ProblemError(
                f"Term(region={self.region!r}): expected a Region: a Box, faces of one as in "
                "box.boundary, or Sites."
            )
        if not (np.isfinite(self.weight) and self.weight > 0):
            raise ProblemError(
                f"Term {self.name!r}: weight={self.weight!r}: expected a finite number > 0."
            )

    def residual(self, u: Field) -> Field:
        """D[u] - f  as a field of m components, one an equation; a constant f holds for each."""
        return lambda x: jnp.atleast_1d(self.operator(u)(x)) - self.target(x)


@dataclass(frozen=True)
class HardConstraint:
    """An output transform  u(x) = g(x) + l(x) n(x)  that satisfies some terms exactly.

    Args:
        lift: g, equal to the prescribed values where l vanishes, (d,) -> (m,).
        distance: l, (d,) -> (m,) or (1,), zero on the constrained set; elsewhere at most where
            every solution has the values of g, by a symmetry say.
        satisfies: names of the terms that hold for every n, which then need no points.

    Source: Lagaris, Likas, Fotiadis, IEEE Trans. Neural Networks 9 (1998) 987.
    """

    lift: Field
    distance: Field
    satisfies: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """Trusted values of the solution: u at x, of shapes (n, m) and (n, d).

    `grid` holds the axes when x is their tensor product in 'ij' order (for pictures), else ().
    """

    x: np.ndarray
    u: np.ndarray
    grid: tuple[np.ndarray, ...] = ()


@dataclass(frozen=True)
class Problem:
    """A partial differential equation with its conditions, and its known solution if there is one.

    Args:
        domain: the box that contains all regions, d inputs in the order of `inputs`.
        terms: the equations by name; their weighted mean squares add up to the loss. Afterwards a
            tuple of terms, each with its name.
        name: the registered name, for what is printed.
        exact: the exact solution as a field, if known.
        reference: a function that gives a reference table, where no closed form exists.
        outputs: m, the number of components of u.
        inputs: names of the coordinates, for figures.
        constraint: the output transform used when a config asks for hard constraints.
        periods: the period of the solution along each coordinate, None where it has none.
        time: the coordinate that is time, None where there is none; `[time]` in a config cuts it.
    """

    domain: Box
    terms: Any  # Mapping[str, Term] as given, tuple[Term, ...] from then on
    name: str = field(default="problem", kw_only=True)
    exact: Field | None = None
    reference: Callable[[], Reference] | None = None
    outputs: int = 1
    inputs: tuple[str, ...] = ()
    constraint: HardConstraint | None = None
    periods: tuple[float | None, ...] | None = None
    time: int | None = None

    def __post_init__(self):
        object.__setattr__(self, "terms", self._named(self.terms))
        if self.exact is not None and not isinstance(self.exact, Vector):
            object.__setattr__(self, "exact", Vector(self.exact))
        names = [t.name for t in self.terms]
        if not isinstance(self.domain, Box):
            raise ProblemError(f"Problem(domain={self.domain!r}): expected a Box.")
        if not names:
            raise ProblemError(f"Problem {self.name!r}: expected at least one term.")
        if len(set(names)) < len(names):
            raise ProblemError(f"Problem {self.name!r}: term names {names} are not all different.")
        for t in self.terms:
            if t.region.dim != self.dim and not isinstance(t.region, Sites):
                raise ProblemError(
                    f"Problem {self.name!r}, term {t.name!r}: its region has dimension "
                    f"{t.region.dim}, expected {self.dim}, the dimension of the domain."
                )
        if self.constraint is not None:
            for name in self.constraint.satisfies:
                if name not in names:
                    raise ProblemError(
                        f"Problem {self.name!r}: constraint.satisfies names {name!r}; "
                        f"the terms are {names}."
                    )
        for key in ("inputs", "periods"):
            value = getattr(self, key)
            if value and len(value) != self.dim:
                raise ProblemError(
                    f"Problem {self.name!r}: {key}={value!r}: expected {self.dim} entries."
                )
        if self.time is not None and not 0 <= self.time < self.dim:
            raise ProblemError(
                f"Problem {self.name!r}: time={self.time!r}: expected None or a coordinate, "
                f"0 <= time < {self.dim}."
            )

    def _named(self, terms: Mapping[str, Term] | Iterable[Term]) -> tuple[Term, ...]:
        """The terms as a tuple, each with its name."""
        if isinstance(terms, Mapping):
            for name, term in terms.items():
                if not isinstance(term, Term):
                    raise ProblemError(
                        f"Problem {self.name!r}, terms[{name!r}] = {term!r}: expected a Term, as "
                        "Term(operator, target, region) or Dirichlet(value, region) give."
                    )
            return tuple(replace(term, name=str(name)) for name, term in terms.items())
        terms = tuple(terms)
        if not all(isinstance(term, Term) and term.name for term in terms):
            raise ProblemError(
                f"Problem {self.name!r}: terms = {terms!r}: expected a mapping of names to Terms, "
                'as in {"interior": Term(operator, target, region)}.'
            )
        return terms

    @property
    def dim(self) -> int:
        """d, the number of coordinates."""
        return self.domain.dim

    @property
    def input_names(self) -> tuple[str, ...]:
        """The names of the coordinates, x1 ... xd where the problem states none."""
        return self.inputs or tuple(f"x{i + 1}" for i in range(self.dim))

    @property
    def output_names(self) -> tuple[str, ...]:
        """The names of the components of the solution: u, or u1 ... um."""
        return ("u",) if self.outputs == 1 else tuple(f"u{i + 1}" for i in range(self.outputs))

    def known(self, per_axis: int = 101) -> Reference | None:
        """The evaluation set: the reference table, or the exact solution sampled on the domain.

        Up to two dimensions a grid of `per_axis` nodes an axis, beyond that 10 000 Sobol points
        (scrambled, seed 0). None where no solution is known.
        """
        if self.reference is not None:
            return self.reference()
        if self.exact is None:
            return None
        grid = self.domain.axes(per_axis) if self.dim <= 2 else ()
        if grid:
            x = np.stack([g.ravel() for g in np.meshgrid(*grid, indexing="ij")], axis=-1)
        else:
            x = self.domain.sobol(10_000, seed=0)
        u = np.asarray(jax.vmap(self.exact)(jnp.asarray(x)))
        return Reference(x, u.reshape(len(x), self.outputs), grid)
