"""What is solved: weighted residual terms by name, and what is known of the solution.

A term asks for  D[u](x) = f(x)  on a region; its residual is  D[u](x) - f(x).  A problem
carries its exact solution, or a reference table, so that every run can state an error that
does not depend on its own residual.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Bool, Float

from distgram.errors import ProblemError, nearest
from distgram.geometry.boundary import Boundary, Oriented
from distgram.geometry.region import Domain, Region
from distgram.geometry.regions import Sites
from distgram.pde.field import Constant, Field, Operator, Values, as_field
from distgram.pde.operators import as_operator

KINDS = (
    *("equation", "dirichlet", "neumann", "robin", "periodic", "initial", "data"),
    *("interface", "integral"),
)


@dataclass(frozen=True, init=False)
class Term:
    """One equation of a problem:  D[u](x) = f(x)  for x in a region.

        Term(lambda u: lambda x: laplacian(u)(x) + u(x), 0.0, Box((0, 0), (1, 1)))

    Args:
        operator: D, a function of a field that gives a function of x, (d,) -> (m,) or ().
        target: f, a function of x with values of the shape of D[u](x); or m numbers, one per
            equation; or one number, which stands for all equations.
        region: where the equation holds.
        weight: factor of the term's mean square in the loss, dimensionless, > 0.
        name: the term's name, which the mapping of its Problem gives it.
        kind: one of KINDS: the condition that the term states, see `distgram.pde.conditions`.
        given: what the condition was made of, by the names of its arguments.

    Raises: ProblemError for a weight, operator or target that cannot be.
    """

    operator: Operator
    target: Field
    region: Region
    weight: float = 1.0
    name: str = ""
    kind: str = "equation"
    given: Mapping[str, Any] = field(default_factory=dict, compare=False, repr=False)

    def __init__(
        self,
        operator: Callable[[Any], Any],
        target: Values,
        region: Region,
        weight: float = 1.0,
        *,
        name: str = "",
        kind: str = "equation",
        given: Mapping[str, Any] | None = None,
    ):
        if not isinstance(region, Region):
            raise ProblemError(f"Term {name!r}: region = {region!r}: expected a Region, as a Box.")
        if not (np.isfinite(weight) and weight > 0):
            raise ProblemError(f"Term {name!r}: weight={weight!r}: expected a finite number > 0.")
        if kind not in KINDS:
            raise ProblemError(f"Term {name!r}: kind={kind!r} is not known: {nearest(kind, KINDS)}")
        fields = dict(operator=as_operator(operator), target=as_field(target, "target"))
        fields |= dict(region=region, weight=weight, name=name, kind=kind, given=dict(given or {}))
        for key, value in fields.items():
            object.__setattr__(self, key, value)

    def residual(self, u: Field) -> Field:
        """D[u] - f  as a function of x, whose value (m,) has one entry per equation."""
        return lambda x: self.operator(u)(x) - self.target(x)


@dataclass(frozen=True)
class HardConstraint:
    """An output transform  u(x) = g(x) + l(x) n(x)  that satisfies some terms exactly.

    Args:
        lift: g, equal to the prescribed values where l vanishes, (d,) -> (m,).
        distance: l, (d,) -> (m,) or (1,), zero on the constrained set. It may vanish at other
            points only if every solution equals g there, because of a symmetry for instance.
        satisfies: names of the terms that hold for every n, which then need no points.

    Source: Lagaris, Likas, Fotiadis, IEEE Trans. Neural Networks 9 (1998) 987.
    """

    lift: Field
    distance: Field
    satisfies: tuple[str, ...]


@dataclass(frozen=True)
class Reference:
    """Trusted values of the solution: u at x, of shapes (n, m) and (n, d).

    `grid` holds the axes when x is their tensor product in 'ij' order (for pictures), else (). What
    is not finite is not compared: nan where a point is outside, or an output has no meaning.
    """

    x: np.ndarray
    u: np.ndarray
    grid: tuple[np.ndarray, ...] = ()

    def where(self, inside: Bool[np.ndarray, " n"]) -> Reference:
        """The values inside; nan at the other points."""
        if inside.all():
            return self
        return replace(self, u=np.where(inside[:, None], self.u, np.nan))


@dataclass(frozen=True, init=False)
class Problem:
    """A partial differential equation with its conditions, and its known solution if there is one.

        square = Box((0, 0), (1, 1))
        Problem(square, {
            "interior": Term(laplacian, 1.0, square),
            "edge": Dirichlet(0.0, square.boundary),
        })

    Args:
        domain: where the solution is, a Box or another Domain with d inputs in the order of
            `inputs`. It may be a box around the regions of the equations: an error is then that
            where the equations hold.
        terms: the equations by name; their weighted mean squares add up to the loss. A sequence of
            Terms that have names, such as `problem.terms`, is accepted too.
        name: what reports call the problem.
        exact: the exact solution, if known: a function of x, (d,) -> (m,) or (), or a number.
        reference: a function that gives a reference table, where no closed form exists.
        outputs: m, the number of components of u.
        inputs: names of the coordinates, for figures.
        constraint: the output transform that `hard_constraint=True` applies to the network.
        periods: the period of the solution along each coordinate, None along a coordinate without.
        time: the index of the time coordinate, which time slabs cut; None for a steady problem.

    Raises:
        ProblemError: a domain, term or other argument that contradicts these shapes; it names the
        term.
    """

    domain: Domain
    terms: tuple[Term, ...]
    name: str = "problem"
    exact: Field | None = None
    reference: Callable[[], Reference] | None = None
    outputs: int = 1
    inputs: tuple[str, ...] = ()
    constraint: HardConstraint | None = None
    periods: tuple[float | None, ...] | None = None
    time: int | None = None

    def __init__(
        self,
        domain: Domain,
        terms: Mapping[str, Term] | Iterable[Term],
        *,
        name: str = "problem",
        exact: Values | None = None,
        reference: Callable[[], Reference] | None = None,
        outputs: int = 1,
        inputs: Sequence[str] = (),
        constraint: HardConstraint | None = None,
        periods: Sequence[float | None] | None = None,
        time: int | None = None,
    ):
        if not isinstance(domain, Domain):
            raise ProblemError(
                f"Problem {name!r}: domain = {domain!r}: expected a Box or another Domain."
            )
        if exact is not None:
            exact = as_field(exact, f"Problem {name!r}: exact")
            if isinstance(exact, Constant) and exact.value.ndim == 0:
                exact = Constant(np.broadcast_to(exact.value, (outputs,)))
        fields = dict(domain=domain, terms=_named(name, terms), name=name, exact=exact)
        fields |= dict(reference=reference, outputs=outputs, inputs=tuple(inputs), time=time)
        fields |= dict(constraint=constraint, periods=periods and tuple(periods))
        for key, value in fields.items():
            object.__setattr__(self, key, value)
        self._check()

    def _check(self) -> None:
        where = f"Problem {self.name!r}"
        names = [t.name for t in self.terms]
        for t in self.terms:
            # measured values, and normals, stand beside the coordinates of their points
            beside = isinstance(t.region, Sites | Oriented)
            if t.region.dim != self.dim and not beside:
                raise ProblemError(
                    f"{where}, term {t.name!r}: its region has dimension "
                    f"{t.region.dim}, expected {self.dim}, the dimension of the domain."
                )
        for name in self.constraint.satisfies if self.constraint is not None else ():
            if name not in names:
                raise ProblemError(
                    f"{where}: constraint.satisfies names {name!r}: {nearest(name, names)}"
                )
        for key in ("inputs", "periods"):
            value = getattr(self, key)
            if value and len(value) != self.dim:
                raise ProblemError(f"{where}: {key}={value!r}: expected {self.dim} entries.")
        if self.time is not None and not 0 <= self.time < self.dim:
            raise ProblemError(
                f"{where}: time={self.time!r}: expected None or a coordinate, "
                f"0 <= time < {self.dim}."
            )

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

    @property
    def _fields(self) -> list[Region]:
        """The regions with an inside in which equations hold, as far as that is known of them."""
        regions = [t.region for t in self.terms if t.kind == "equation"]
        return [r for r in regions if not isinstance(r, Boundary | Oriented | Sites)]

    @property
    def _own(self) -> Region | None:
        """A region of the user's own, of which only its points are known, where equations hold in
        such only."""
        fields = self._fields
        return fields[0] if fields and not any(isinstance(r, Domain) for r in fields) else None

    def inside(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """Whether points are in the domain, and where one of the equations holds."""
        held = [r.holds(x) for r in self._fields if isinstance(r, Domain)]
        return self.domain.holds(x) & (np.any(held, axis=0) if held else True)

    def places(self, n: int, seed: int) -> Float[np.ndarray, "_ d"]:
        """About n points of a scrambled Sobol sequence, evenly where the equations hold."""
        if self._own is not None:
            return self._own.sample(n, seed, "sobol")
        x = self.domain.sobol(n, seed)
        inside = self.inside(x)
        if inside.all() or not inside.any():
            return x
        more = self.domain.sobol(round(1.1 * n / inside.mean()) + 8, seed)
        return more[self.inside(more)][:n]

    def known(self, per_axis: int = 101) -> Reference | None:
        """The evaluation set: the reference table, nan at its points that are outside, or the
        exact solution sampled where the equations hold. An error is stated over its finite values.

        Up to two dimensions a grid of `per_axis` nodes per axis, nan outside; beyond that, and in a
        region of the user's own of which only points are known, 10 000 Sobol points (scrambled,
        seed 0). None where no solution is known.
        """
        if self.reference is not None:
            known = self.reference()
            return known.where(self.inside(np.asarray(known.x, np.float64)))
        if self.exact is None:
            return None
        gridded = self.dim <= 2 and self._own is None
        grid = self.domain.axes(per_axis) if gridded else ()
        if grid:
            x = np.stack([g.ravel() for g in np.meshgrid(*grid, indexing="ij")], axis=-1)
        else:
            x = self.places(10_000, seed=0)
        u = np.asarray(jax.vmap(self.exact)(jnp.asarray(x))).reshape(len(x), self.outputs)
        known = Reference(x, u, grid)
        return known.where(self.inside(x)) if grid else known


def _named(problem: str, terms: Mapping[str, Term] | Iterable[Term]) -> tuple[Term, ...]:
    """The terms with their names, which are all different.

    Raises: ProblemError for no terms, what is no Term, and a name that is missing or there twice.
    """
    where = f"Problem {problem!r}"
    if isinstance(terms, Mapping):
        pairs = list(terms.items())
    else:
        found = terms if isinstance(terms, Iterable) else (terms,)
        pairs = [(getattr(term, "name", ""), term) for term in found]
    if not pairs:
        raise ProblemError(f"{where}: expected at least one term.")
    names = [name for name, _ in pairs]
    for name, term in pairs:
        if not isinstance(term, Term):
            raise ProblemError(
                f"{where}, terms: got {type(term).__name__}: expected terms by name, each a Term "
                "or a condition: Dirichlet, Initial, Interface, Neumann, Periodic or Robin."
            )
        if not isinstance(name, str) or not name:
            raise ProblemError(
                f"{where}: a term is called {name!r}: expected a mapping {{'name': Term(...)}}."
            )
        if names.count(name) > 1:
            raise ProblemError(f"{where}: {names.count(name)} terms are called {name!r}.")
    return tuple(t if t.name == name else replace(t, name=name) for name, t in pairs)
