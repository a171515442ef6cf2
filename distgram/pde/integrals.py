"""Conditions on integrals of the solution: a mean that is given, a norm, a balance."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Inexact

from distgram.errors import ProblemError, RegionError
from distgram.geometry.quadrature import integral_rule
from distgram.geometry.region import Region
from distgram.geometry.regions import Sites
from distgram.pde.field import Field, Values, as_field
from distgram.pde.operators import as_operator
from distgram.pde.operators import value as identity
from distgram.pde.problem import Term

SOBOL = 2**12  # points in place of nodes where a region has none


def Integral(
    value: Values,
    over: Region,
    of: Callable[[Any], Any] = identity,
    nodes: int | None = None,
    at: Region | None = None,
    axes: Sequence[int] | None = None,
    *,
    weight: float = 1.0,
) -> Term:
    """An integral of the solution is given:  ∫ D[u] dx = value  over a region.

        "norm": dg.Integral(1.0, line, of=lambda u: lambda x: u(x) ** 2)
        "mass": dg.Integral(mass, dg.Interval(0, 1), at=box.face(1, 0), axes=(1,))    # at all times

    Args:
        value: a number, or a function of x at the points of `at`.
        over: the region: a boundary as well, for a flux through it.
        of: D, an operator.
        nodes: of the quadrature (Gauss-Legendre) along an axis; by default 64 in one dimension, 24
            in two, 12 beyond. A region without nodes, as a | b, has SOBOL points instead: the
            integral is then good to about 1e-3 of its size, and no better.
        at: where the integral is given, as at times: each of its points x has the coordinates
            `axes` replaced by those of `over`. None: once.

    Raises: ProblemError for axes that do not fit. RegionError for a region that cannot be sampled.
    """
    what = as_operator(of)
    x, w = _rule(over, nodes)
    rest = None if axes is None else np.asarray(axes, int)
    fits = at is None or (rest is not None and rest.shape == (over.dim,))
    if not fits or (at is None and axes is not None):
        raise ProblemError(
            f"Integral: axes={axes!r}: expected at=region and {over.dim} coordinates of it, those "
            "of `over`; or neither of both."
        )
    places, weights = jnp.asarray(x), jnp.asarray(w)

    def operator(u: Field) -> Field:
        field = what(u)

        def integral(here: Float[Array, " d"]) -> Inexact[Array, " m"]:
            def value_at(y):
                return field(y if rest is None else here.at[rest].set(y))

            return weights @ jax.vmap(value_at)(places)

        return integral

    region = Sites(x.mean(axis=0)[None]) if at is None else at
    return Term(operator, as_field(value, "Integral: value"), region, weight, kind="integral")


def Mean(value: Values, over: Region, nodes: int | None = None, *, weight: float = 1.0) -> Term:
    """The mean of the solution over a region is given, as the gauge of what is determined up to a
    constant:  (1/|Ω|) ∫ u dx = value.

        "gauge": dg.Mean(0.0, square)

    One point fixes the constant as well: `Dirichlet(0.0, Sites([[0.0, 0.0]]))`.

    Args: as of `Integral`.
    """
    volume = over.measure()
    return Integral(value, over, lambda u: lambda x: u(x) / volume, nodes, weight=weight)


def _rule(over: Region, nodes: int | None) -> tuple[np.ndarray, np.ndarray]:
    if nodes is not None and (isinstance(nodes, bool) or not isinstance(nodes, int) or nodes < 1):
        raise ProblemError(f"Integral: nodes={nodes!r}: expected an integer >= 1.")
    try:
        charts = over.charts()
    except RegionError:
        x = over.sample(SOBOL, 0, "sobol")
        return x, np.full(SOBOL, over.measure() / SOBOL)
    c = len(charts[0].periodic)
    return integral_rule(over, nodes or {0: 1, 1: 64, 2: 24}.get(c, 12))
