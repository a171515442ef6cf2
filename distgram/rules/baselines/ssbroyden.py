"""Self-scaled Broyden: a dense quasi-Newton method that chooses its member of the family itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple, cast

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Bool, Float

from distgram.errors import require
from distgram.rules.baselines.baseline import Baseline, decreased, first_order_info


class SSBroydenState(NamedTuple):
    """inverse_hessian: H. fresh: whether H is still the identity, up to its scale."""

    inverse_hessian: Float[Array, "p p"]
    fresh: Bool[Array, ""]


@dataclass(frozen=True)
class SSBroyden(Baseline):
    """Self-scaled Broyden:  θ ← θ - η H g,  η by the strong Wolfe conditions, H by `updated`.

    H starts as the identity over max(1, ‖g‖). Where -Hg does not descend, or the line search
    finds no decrease, H starts again. Memory and time of a step are O(p²).

    Args:
        line_search_steps: most evaluations of (L, ∇L) in one line search, >= 1.

    Raises:
        RuleError: a setting outside its range.

    Source: Urbán, Stefanou, Pons, J. Comput. Phys. 523 (2025) 113656, arXiv 2405.04230; line
    search: Nocedal, Wright (2006), algorithms 3.5 and 3.6, from optax.
    """

    name = "ssbroyden"
    line_search_steps: int = 30

    def __post_init__(self):
        require(self.line_search_steps >= 1, self, "line_search_steps", "at least 1")

    def init(self, objective, theta):
        return SSBroydenState(jnp.eye(theta.size, dtype=theta.dtype), jnp.asarray(True))

    def step(self, objective, theta, state):
        loss, g = jax.value_and_grad(objective)(theta)
        identity = jnp.eye(theta.size, dtype=theta.dtype)
        fresh = state.fresh | ~(g @ state.inverse_hessian @ g > 0)
        scale = jnp.maximum(1.0, jnp.linalg.norm(g))
        h = jnp.where(fresh, identity / scale, state.inverse_hessian)

        search = optax.scale_by_zoom_linesearch(
            self.line_search_steps, initial_guess_strategy="one"
        )
        update, after = search.update(
            -h @ g, search.init(theta), theta, value=loss, grad=g, value_fn=objective
        )
        s, found = jnp.asarray(update), cast(optax.ScaleByZoomLinesearchState, after)
        eta = jnp.asarray(found.learning_rate)
        good = decreased(loss, found)
        y = jnp.asarray(found.grad) - g
        # Rounding, not curvature, below eps; the scale of the loss must not matter.
        curved = s @ y > jnp.finfo(theta.dtype).eps * jnp.linalg.norm(s) * jnp.linalg.norm(y)
        new = updated(h, s, y, -eta * (s @ g), fresh)
        usable = curved & jnp.all(jnp.isfinite(new))
        state = SSBroydenState(
            jnp.where(good, jnp.where(usable, new, h), identity),
            jnp.where(good, fresh & ~usable, True),
        )
        info = first_order_info(jnp.where(good, found.value, loss), jnp.where(good, eta, 0.0), good)
        return jnp.where(good, theta + s, theta), state, info


def updated(
    h: Float[Array, "p p"],
    s: Float[Array, " p"],
    y: Float[Array, " p"],
    s_b_s: Float[Array, ""],
    first: Bool[Array, ""],
) -> Float[Array, "p p"]:
    """The next approximation of the inverse Hessian, with B = H⁻¹:

        H₊ = (H - Hy yᵀH / yᵀHy + φ yᵀHy v vᵀ) / τ + s sᵀ / yᵀs,
        v = s / yᵀs - Hy / yᵀHy,   φ = (1 - ϑ) / (1 + aϑ),
        h = yᵀHy / yᵀs,   b = sᵀBs / yᵀs,   a = hb - 1 >= 0 (Cauchy-Schwarz),
        ρ⁻ = min(1, h(1 - √(a / (1 + a)))),   ϑ = max((ρ⁻ - 1) / a, min(1 / ρ⁻, (1 - b) / b)),
        ρ⁺ = min(1, 1 / b),   σ = 1 + aϑ,   κ = σ^(-1 / (p - 1)),
        τ = min(ρ⁺κ, σ) where ϑ <= 0,   τ = ρ⁺ min(κ, 1 / ϑ) where ϑ > 0.

    ϑ = 0 is BFGS, ϑ = 1 is DFP. The first update takes τ = h / σ, the scale of the identity.

    Args:
        h: H, symmetric positive definite. s: step. y: change of the gradient, with yᵀs > 0.
        s_b_s: sᵀBs, which is -η sᵀg for s = -ηHg. first: whether H is a multiple of the identity.

    Source: arXiv 2405.04230, eqs. 10 and 13 to 23; Al-Baali, Comput. Optim. Appl. 9 (1998) 191.
    """
    p = s.shape[0]
    hy = h @ y
    y_s, y_h_y = y @ s, y @ hy
    ratio, b = y_h_y / y_s, s_b_s / y_s
    a = jnp.maximum(ratio * b - 1.0, 0.0)
    rho_minus = jnp.minimum(1.0, ratio * (1.0 - jnp.sqrt(a / (1.0 + a))))
    # At a = 0, v vanishes and every ϑ gives the same matrix.
    lowest = jnp.where(a > 0, (rho_minus - 1.0) / jnp.where(a > 0, a, 1.0), 0.0)
    family = jnp.maximum(lowest, jnp.minimum(1.0 / rho_minus, (1.0 - b) / b))
    sigma = 1.0 + a * family
    rho_plus = jnp.minimum(1.0, 1.0 / b)
    kappa = sigma ** (-1.0 / max(p - 1, 1))
    positive = family > 0
    tau = jnp.where(
        positive,
        rho_plus * jnp.minimum(kappa, 1.0 / jnp.where(positive, family, 1.0)),
        jnp.minimum(rho_plus * kappa, sigma),
    )
    tau = jnp.where(first, ratio / sigma, tau)
    v = s / y_s - hy / y_h_y
    phi = (1.0 - family) / sigma
    kept = h - jnp.outer(hy, hy) / y_h_y + phi * y_h_y * jnp.outer(v, v)
    return kept / tau + jnp.outer(s, s) / y_s
