"""One step of a method, as one function to be jitted: the only place where rules meet residuals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.sharding import NamedSharding
from jaxtyping import Array, Float

from distgram.linalg.gram import normal_equations
from distgram.linalg.mesh import REPLICATED, SHARDED
from distgram.linalg.rows import TRIALS, Points, Residual
from distgram.points.validation import reconstruction_errors, validation_points
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.rule import Rule, StepInfo
from distgram.run.assemble import Assembled


class Seen(NamedTuple):
    """What a step saw of the spectrum: singular values, RCE, the precision floor of the mean
    square residual, and the bound on what was left out. All empty or nan for a baseline."""

    singular_values: Float[Array, " k"]
    rce: Float[Array, " k+1"]
    floor: Float[Array, ""]
    left_out: Float[Array | np.ndarray, ""]


Step = Callable[
    [Float[Array, " p"], Any, tuple[Points, ...]],
    tuple[Float[Array, " p"], Any, StepInfo, Seen],
]


@dataclass(frozen=True)
class PointsObjective:
    """The mean square residual on given points, as the baselines see it."""

    residual: Residual
    points: tuple[Points, ...]

    def __call__(self, theta: Float[Array, " p"]) -> Float[Array, ""]:
        """L(θ)."""
        return jnp.sum(self.residual.term_losses(theta, self.points))

    def batch(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """L at t parameter vectors."""
        return self.residual.losses(thetas, self.points)

    def gram(self, theta: Float[Array, " p"]) -> tuple[Float[Array, "p p"], Float[Array, " p"]]:
        """(JᵀJ, Jᵀr), summed over the devices."""
        return normal_equations(self.residual, theta, self.points)


@dataclass(frozen=True)
class PointsTrials:
    """The residual at trial parameters, as the rules see it: θ is where the step begins."""

    residual: Residual
    theta: Float[Array, " p"]
    points: tuple[Points, ...]

    def __call__(self, thetas: Float[Array, "t p"]) -> Float[Array, " t"]:
        """L at t parameter vectors."""
        return self.residual.losses(thetas, self.points)

    def pulled_back(self, thetas: Float[Array, "t p"]) -> Float[Array, "t p"]:
        """J(θ)ᵀ r(θ_t): the residuals, sharded like the points, meet the rows in row blocks."""
        residual = self.residual

        def local(thetas, points):
            def rows(block):
                def at(theta):
                    terms = zip(residual.terms, block, strict=True)
                    return jnp.concatenate(
                        [residual.weighted(t, theta, p).ravel() for t, p in terms]
                    )

                return lax.map(at, thetas, batch_size=TRIALS).T

            return residual.by_block(rows, points)

        u = residual.on_devices(local, SHARDED)(thetas, self.points)
        return residual.multiply_transposed(self.theta, self.points, u).T


def make_step(run: Assembled) -> Step:
    """The step of a run's method: (θ, state, points) -> (θ, state, what it did, what it saw)."""
    method, residual = run.method, run.residual
    if isinstance(method, Rule):
        whole = NamedSharding(residual.mesh, REPLICATED)
        held_out = validation_points(run, method.validation) if method.validation else None

        def replicated(tree):
            return lax.with_sharding_constraint(tree, whole)

        def step(theta, state, points):
            rule_state, warm = state
            spectrum, warm = run.factorization(
                residual, theta, points, lambda at: method.needs(at, theta, rule_state), warm
            )
            if held_out is not None:
                errors = reconstruction_errors(residual, theta, held_out, spectrum)
                spectrum = spectrum._replace(held_out=errors)
            seen = Seen(spectrum.s, spectrum.rce(), spectrum.floor(theta), spectrum.left_out)
            trials = PointsTrials(residual, theta, points)
            theta, rule_state, info = method.step(spectrum, trials, theta, rule_state)
            return replicated((theta, (rule_state, warm), info, seen))

        return step

    def baseline_step(theta, state, points):
        theta, state, info = method.step(PointsObjective(residual, points), theta, state)
        nan = jnp.asarray(jnp.nan)
        return theta, state, info, Seen(jnp.zeros(0), jnp.zeros(0), nan, nan)

    return baseline_step


def initial_state(run: Assembled, theta: Float[Array, " p"], points: tuple[Points, ...]) -> Any:
    """What one step hands to the next, before the first: for a rule its own state and that of the
    factorization."""
    method: Rule | Baseline = run.method
    if isinstance(method, Rule):
        return method.init(run.model.p), run.factorization.init(run.residual, theta, points)
    return jax.jit(lambda t, p: method.init(PointsObjective(run.residual, p), t))(theta, points)


def step_values(info: StepInfo | None) -> dict[str, Any]:
    """The part of a metrics row that says what the last step did."""
    if info is None:
        return {"rank": None, "regularization": None, "step_size": None, "accepted": None}
    return {
        "rank": int(info.rank) if int(info.rank) >= 0 else None,
        "regularization": float(info.regularization),
        "step_size": float(info.step_size),
        "accepted": bool(info.accepted),
    }
