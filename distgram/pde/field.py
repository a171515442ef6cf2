"""Fields: functions of a point with vectors as values, and what a user may write for them.

A field maps a point x of shape (d,) to values of shape (m,); an operator maps a field to a field.
A user may also write a number for a field that is constant, and a function with scalar values ().
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, ArrayLike, Float, Inexact

from distgram.errors import ProblemError

Vector = Inexact[Array, " m"]  # complex in a problem for `complex_field` only
Field = Callable[[Float[Array, " d"]], Vector]
Operator = Callable[[Field], Field]

# What a user may write for a field.
Values = ArrayLike | Callable[[Any], Any]


@dataclass(frozen=True, eq=False)
class Constant:
    """The field of one value everywhere: a number, for all components alike, or a vector (m,)."""

    value: jax.Array | np.ndarray

    def __call__(self, x: Float[Array | np.ndarray, " d"]) -> Vector:
        kind = None if np.iscomplexobj(self.value) else x.dtype
        return jnp.atleast_1d(jnp.asarray(self.value, kind))


@dataclass(frozen=True)
class VectorField:
    """A function of x as a field: a scalar value () becomes a vector (1,)."""

    function: Callable[[Any], Any]

    def __call__(self, x: Float[Array | np.ndarray, " d"]) -> Array:
        values = jnp.asarray(self.function(x))
        return values[None] if values.ndim == 0 else values


def as_field(values: Values, what: str) -> Field:
    """A number, a vector of numbers or a function of x as a field; a field is given back.

    Args: what: the name of the values in an error.
    Raises: ProblemError for anything else.
    """
    if isinstance(values, Constant | VectorField):
        return values
    if callable(values):
        return VectorField(values)
    given = getattr(values, "dtype", None)
    full = (np.float64, np.complex128)
    if given is not None and jnp.issubdtype(given, jnp.inexact) and given not in full:
        raise ProblemError(
            f"{what} is of {given}: expected float64, as of numpy; jax makes such arrays where "
            "jax_enable_x64 is set, which distgram.solve does for all that comes after it."
        )
    try:  # in numpy: jax would round to float32 where float64 is not turned on yet
        kind = np.complex128 if np.iscomplexobj(values) else np.float64  # see complex_field
        numbers = values if isinstance(values, jax.Array) else np.asarray(values, kind)
    except (TypeError, ValueError):
        numbers = None
    if values is None:  # numpy's word for it is nan
        numbers = None
    if numbers is None or numbers.ndim > 1:
        raise ProblemError(
            f"{what} = {values!r}: expected a number, a vector of numbers or a function of x."
        )
    return Constant(numbers)
