"""The spectrum of the weighted residual Jacobian, and everything a rule needs to know of it.

With weighted rows  φ̂ (S, P)  and weighted residuals  r (S,)  such that  ‖r‖² is the mean square
residual, and  φ̂ = V̂ Δ̂ Ûᵀ:  the coefficients  c = V̂ᵀ r  and the norm of the part of r outside the
range of φ̂ give the direction of every spectral filter and the reconstruction error of every rank.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple, Protocol, TypeVar

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Bool, Float, Int

# A loss this close to what rounding the parameters makes is at the floor: the operator rounds too,
# and runs end at 10 to 40 times that in mean square.
FLOOR_FACTOR = 100.0
# The arrays of a spectrum: of jax while a step runs, of numpy as recorded.
Values = TypeVar("Values", Array, np.ndarray)


class Determined(NamedTuple):
    """What a rule says of leading triplets: whether they determine its step, how many of them the
    step uses, and the backward error that it allows them, over the least singular value in use."""

    enough: Bool[Array, ""]
    rank: Int[Array, ""]
    tolerance: float


class Regularized(NamedTuple):
    """The minimiser d of  ‖r - φ̂ d‖² + λ ‖d‖²  for one λ > 0.

    predicted: the decrease of the linear model, ‖r‖² - ‖r - φ̂ d‖². inverse: g -> (φ̂ᵀφ̂ + λ)⁻¹ g on
    the directions that are in use.
    """

    direction: Float[Array, " p"]
    predicted: Float[Array, ""]
    inverse: Callable[[Float[Array, " p"]], Float[Array, " p"]]


class LinearModel(Protocol):
    """The linear model  r - φ̂ d  of the residual at θ - d, as a rule sees it that regularizes."""

    def loss(self) -> Float[Array, ""]:
        """‖r‖², the mean square residual at θ."""
        ...

    def regularized(self, lam: Float[Array, ""]) -> Regularized:
        """The step of one λ > 0."""
        ...

    def rank(self, lam: Float[Array, ""]) -> Int[Array, ""]:
        """#{i : sᵢ² > λ}, -1 where the singular values are not known."""
        ...

    def floor(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """The mean square residual below which a loss is rounding, see `rounding_floor`."""
        ...

    def summary(self, theta: Float[Array, " p"]) -> SpectrumSummary:
        """What is kept of it, at the parameters θ."""
        ...


class Spectrum(NamedTuple):
    """Singular values s, right singular vectors vt (rows), coefficients c, residual outside.

    The rows carry the square roots of their quadrature weights, so that ‖r‖² is the sum over the
    terms of weight times mean square. s are then singular values of θ -> D[u] in L²(μ), which do
    not grow with S: with equal weights they are those of the unweighted Jacobian over √S.

    validation_errors are the reconstruction errors on validation rows Z, which the spectrum is not
    made of, for each rank k = 0..K; None where the rule asks for no validation:

        ‖r_Z - Φ_Z d_k‖,   d_k = Σ_{i<=k} (cᵢ / sᵢ) vᵢ.

    left_out bounds the norm of φ̂ - Σ sᵢ v̂ᵢ vᵢᵀ, the part of φ̂ that these triplets leave out: zero
    where all triplets are here. The i-th singular value of φ̂ is then at most √(sᵢ² + left_out²);
    `outside` includes the part of r that the missing triplets would explain.
    """

    s: Float[Array, " k"]
    vt: Float[Array, "k p"]
    c: Float[Array, " k"]
    outside: Float[Array, ""]
    left_out: Float[Array | np.ndarray, ""] = np.asarray(0.0)
    validation_errors: Float[Array, " k+1"] | None = None

    def rce(self) -> Float[Array, " k+1"]:
        """Reconstruction errors  RCE_n = ‖r - Σ_{i<=n} V̂ᵢV̂ᵢᵀr‖,  n = 0..k.

        RCE_n² = outside² + Σ_{i>n} cᵢ²,

        summed from the tail: the difference ‖r‖² - Σ cᵢ² would lose everything below √eps.
        RCE_0² is the mean square residual. Source: Schwencke et al. 2025 (AMStramGRAM).
        """
        tail = jnp.concatenate([jnp.atleast_1d(self.outside) ** 2, self.c[::-1] ** 2])
        return jnp.sqrt(jnp.cumsum(tail)[::-1])

    def crossing_rank(self) -> Int[Array, ""]:
        """r∩ of this spectrum, see the function `crossing_rank`."""
        return crossing_rank(self.s, self.rce())

    def direction(self, filter: Float[Array, "*t k"]) -> Float[Array, "*t p"]:
        """Filtered least-squares direction  d = Σᵢ fᵢ (cᵢ / sᵢ) vᵢ;  θ - d is the step.

        Args:
            filter: filter factors in [0, 1], shape (k,) or (t, k) for t directions at once.

        Source: ANaGRAM, arXiv 2412.10782 (hard cutoff); Hansen (1998), ch. 4 (filter factors).
        """
        return (filter * self.lengths()) @ self.vt

    def loss(self) -> Float[Array, ""]:
        """RCE_0², the mean square residual."""
        return self.rce()[0] ** 2

    def regularized(self, lam: Float[Array, ""]) -> Regularized:
        """Tikhonov's step, on the directions up to `k_opt`:

        d = Σ fᵢ cᵢ/sᵢ vᵢ,   fᵢ = sᵢ²/(sᵢ²+λ),   predicted  Σ cᵢ² fᵢ (2 - fᵢ).
        """
        kept = hard_cutoff(self, self.k_opt())
        f = tikhonov(self, lam) * kept

        def inverse(g):
            return (kept / (self.s**2 + lam) * (self.vt @ g)) @ self.vt

        return Regularized(self.direction(f), jnp.sum(self.c**2 * f * (2.0 - f)), inverse)

    def rank(self, lam: Float[Array, ""]) -> Int[Array, ""]:
        """#{i : sᵢ² > λ}, at most `k_opt`."""
        return jnp.minimum(jnp.sum(self.s**2 > lam), self.k_opt())

    def lengths(self) -> Float[Array, " k"]:
        """cᵢ / sᵢ, the least-squares step along each right vector; 0 where sᵢ is."""
        safe = jnp.where(self.s > 0, self.s, 1.0)
        return jnp.where(self.s > 0, self.c / safe, 0.0)

    def k_opt(self) -> Int[Array, ""]:
        """The rank that extrapolates best,

            k_opt = argmin_{1<=k<=K} ‖r_Z - Φ_Z d_k‖,

        the smallest of several; K where the rule asks for no validation.
        """
        if self.validation_errors is None:
            return jnp.asarray(self.s.shape[0])
        errors = self.validation_errors[1:]
        return 1 + jnp.argmin(jnp.where(jnp.isfinite(errors), errors, jnp.inf))

    def beyond(self, rank: Int[Array, ""]) -> Float[Array, ""]:
        """Upper bound of the singular value that follows the `rank` largest of φ̂:
        √(s²_{rank+1} + left_out²), with s_{k+1} = 0."""
        s = jnp.append(self.s, 0.0)
        return jnp.hypot(s[jnp.minimum(rank, self.s.shape[0])], self.left_out)

    def padded(self, k: int) -> Spectrum:
        """The spectrum with exactly k triplets: the first k, or filled up with zeros."""
        here = min(k, self.s.shape[0])
        s, c = (jnp.zeros(k, x.dtype).at[:here].set(x[:here]) for x in (self.s, self.c))
        vt = jnp.zeros((k, self.vt.shape[1]), self.vt.dtype).at[:here].set(self.vt[:here])
        return self._replace(s=s, vt=vt, c=c)

    def floor(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """The mean square residual below which a loss is rounding, see `rounding_floor`."""
        return rounding_floor(self.s[:, None] * self.vt, theta)

    def summary(self, theta: Float[Array, " p"]) -> SpectrumSummary:
        """What is kept of it, at the parameters θ."""
        return SpectrumSummary(self.s, self.rce(), self.floor(theta), self.left_out)


def rounding_floor(phi: Float[Array, "k p"], theta: Float[Array, " p"]) -> Float[Array, ""]:
    """The mean square residual below which a loss is rounding:  100 eps²/12 ‖φ̂ diag(θ)‖²_F.

    Each θⱼ is known to a relative error uniform in ±eps/2, so that rounding the parameters alone
    makes a hundredth of it; below that no step can be seen.

    Args: phi: φ̂, or Qᵀφ̂ for an orthogonal Q.
    """
    eps = jnp.finfo(theta.dtype).eps
    rounding = eps / jnp.sqrt(12.0) * jnp.linalg.norm(phi * theta)
    return FLOOR_FACTOR * rounding**2


class SpectrumSummary(NamedTuple):
    """What is kept of the spectrum of a step: singular values, RCE, the precision floor of the mean
    square residual, and the bound on what was left out. Empty or nan where there is no spectrum.

    triangle: of [φ̂ | r], where the step has found no singular values; `tsqr.completed` does.
    """

    singular_values: Float[Array, " k"]
    rce: Float[Array, " k+1"]
    floor: Float[Array, ""]
    left_out: Float[Array | np.ndarray, ""]
    triangle: Float[Array, "q q"] | None = None


def no_spectrum() -> SpectrumSummary:
    """The summary of a step that has made no spectrum."""
    nan = jnp.asarray(jnp.nan)
    return SpectrumSummary(jnp.zeros(0), jnp.zeros(0), nan, nan)


def crossing_rank(s: Values, rce: Values) -> Values:
    """r∩ = #{n : Δ̂_m > RCE_m for all m <= n}, n = 1..k: the index where the two curves cross.

    Args:
        s, rce: singular values (..., k) and reconstruction errors (..., k+1) of one spectrum or of
            several; nan, which fills up shorter recorded spectra, ends the count.

    Source: Schwencke, Rousselot, Shilova, Furtlehner 2025 (AMStramGRAM).
    """
    above: Any = s > rce[..., 1:]
    return above.cumprod(axis=-1).sum(axis=-1)


def hard_cutoff(spectrum: Spectrum, rank: Array) -> Float[Array, " k"]:
    """Filter factors of the truncated pseudoinverse: 1 for the `rank` largest values, else 0."""
    return (jnp.arange(spectrum.s.shape[0]) < rank).astype(spectrum.s.dtype)


def tikhonov(spectrum: Spectrum, lam: Float[Array, "*t"]) -> Float[Array, "*t k"]:
    """Filter factors  sᵢ² / (sᵢ² + λ),  for one λ > 0 or several."""
    square = spectrum.s**2
    return square / (square + jnp.asarray(lam)[..., None])
