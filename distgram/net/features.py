"""Input features of a network: the functions of a point that its first layer takes."""

from __future__ import annotations

import math
from dataclasses import dataclass

import jax.numpy as jnp
from jaxtyping import Array, Float

from distgram.errors import ModelError, require
from distgram.net.sine import cosine, sine

FEATURES = ("none", "normalize", "periodic", "fourier")


@dataclass(frozen=True)
class Stretch:
    """One more feature, in which a thin layer at a known place is about as wide as the domain:

        asinh((q(x) - q(c)) / (q(c + w) - q(c))),    mapped to [-1, 1] over the domain,

    q(x) = x_axis - m, m the middle of the domain; its square where the network is even in this
    coordinate. Of a periodic one, x - m is first replaced by a sine of the same period, in which
    the layer is seen at half a period from c as well; where even, of twice the period.

    Args:
        axis: the coordinate. center: c, in its units. width: w > 0, in its units.

    Source: the sinh maps of spectral methods for thin layers (Tee, Trefethen, SIAM J. Sci. Comput.
    28 (2006) 1798), here as an input in place of a change of variables.
    """

    axis: int
    center: float
    width: float

    def __post_init__(self):
        require(0 < self.width < math.inf, self, "width", "a finite number > 0", ModelError)


@dataclass(frozen=True)
class Features:
    """Input features  φ(x),  the first layer's input.

    - none: x itself;
    - normalize: every coordinate mapped to [-1, 1] over the domain;
    - periodic: as normalize, but a coordinate of period p becomes cos, sin (2πjx/p), j = 1..modes;
    - fourier: cos, sin (2πBx) with `modes` rows B ~ N(0, scale²), kept fixed; after normalising.

    A coordinate named in `even` enters by its square (from the middle of the domain), a periodic
    one by its cosines, so that the network is even in it. Each of `stretches` adds one feature.
    Both go with 'normalize' and 'periodic' only.

    Source: Dong, Ni, J. Comput. Phys. 435 (2021) 110242 (periodic); Tancik et al. 2020 (fourier).
    """

    kind: str
    lower: tuple[float, ...]
    upper: tuple[float, ...]
    periods: tuple[float | None, ...]
    modes: int = 1
    scale: float = 1.0
    even: tuple[int, ...] = ()
    stretches: tuple[Stretch, ...] = ()

    def check(self) -> None:
        """Raise a ModelError where the parts do not fit each other or the problem."""
        if self.kind == "periodic" and not any(self.periods):
            raise ModelError(
                "model.features = 'periodic': the problem states no period for any coordinate; "
                "use 'none', 'normalize' or 'fourier'."
            )
        dim = len(self.lower)
        for key, axes in (("even", self.even), ("stretch", [s.axis for s in self.stretches])):
            if axes and self.kind not in ("normalize", "periodic"):
                raise ModelError(
                    f"model.{key} goes with features = 'normalize' or 'periodic', "
                    f"not {self.kind!r}."
                )
            for axis in axes:
                if not 0 <= axis < dim:
                    raise ModelError(f"model.{key}: axis {axis}: expected 0 <= axis < {dim}.")
        if len(set(self.even)) < len(self.even):
            raise ModelError(f"model.even = {list(self.even)}: an axis is named twice.")
        for s in self.stretches:
            low, high = self.lower[s.axis], self.upper[s.axis]
            if not (low <= s.center <= high and s.width < high - low):
                raise ModelError(
                    f"model.stretch: center = {s.center}, width = {s.width} on axis {s.axis}: "
                    f"expected {low} <= center <= {high} and a width below {high - low}."
                )
            if s.axis in self.even and s.center < 0.5 * (low + high):
                raise ModelError(
                    f"model.stretch: center = {s.center} on axis {s.axis}, in which the network is "
                    f"even about {0.5 * (low + high)}: give the center above it."
                )

    def __call__(self, x: Float[Array, " d"], matrix: Float[Array, "b d"]) -> Float[Array, " q"]:
        """φ(x). `matrix` is B of 'fourier' features, and has no rows for the others."""
        if self.kind == "none":
            return x
        lower, upper = jnp.asarray(self.lower), jnp.asarray(self.upper)
        z = (2.0 * x - lower - upper) / (upper - lower)
        if self.kind == "fourier":
            phase = 2.0 * jnp.pi * (matrix @ z)
            return jnp.concatenate([cosine(phase), sine(phase)])
        parts = []
        for i in range(len(self.lower)):
            even, period = i in self.even, self._period(i)
            if period is None:
                parts.append(2.0 * z[i : i + 1] ** 2 - 1.0 if even else z[i : i + 1])
            else:
                phase = 2.0 * jnp.pi * jnp.arange(1, self.modes + 1) / period * x[i]
                parts += [cosine(phase)] if even else [cosine(phase), sine(phase)]
        return jnp.concatenate(
            parts + [self._stretched(s, x[s.axis])[None] for s in self.stretches]
        )

    def _period(self, axis: int) -> float | None:
        return self.periods[axis] if self.kind == "periodic" else None

    def _stretched(self, s: Stretch, x: Float[Array, ""]) -> Float[Array, ""]:
        """The feature of a stretch at x_axis = x."""
        low, high = self.lower[s.axis], self.upper[s.axis]
        middle, period, even = 0.5 * (low + high), self._period(s.axis), s.axis in self.even
        ends = [low - middle, high - middle]
        wave = None if period is None else (2 if even else 1) * period / (2.0 * math.pi)
        if wave is not None:
            ends = [-wave, wave]
        if even:
            ends = [0.0, ends[1] ** 2]

        def q(x):
            y = x - middle if wave is None else wave * sine((x - middle) / wave)
            return y**2 if even else y

        center = q(s.center)
        scale = q(s.center + s.width) - center

        def stretched(q):
            return jnp.arcsinh((q - center) / scale)

        first, last = (stretched(end) for end in ends)
        return (2.0 * stretched(q(x)) - first - last) / (last - first)

    @property
    def width(self) -> int:
        """Number of features."""
        if self.kind == "fourier":
            return 2 * self.modes
        sizes = (
            1 if self._period(i) is None else self.modes * (1 if i in self.even else 2)
            for i in range(len(self.lower))
        )
        return sum(sizes) + len(self.stretches)
