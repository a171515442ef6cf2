"""How fast one device of this process is, for the problem at hand: a few seconds of measuring."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from distgram.linalg.butterfly import triangle
from distgram.linalg.mesh import replicate
from distgram.linalg.rows import Points, lay_out
from distgram.linalg.spectrum import Spectrum
from distgram.linalg.tsqr import spectrum_of_triangle
from distgram.points.draw import probe
from distgram.rules.rule import Rule
from distgram.run.stage import Stage

SAMPLE_BYTES = 2**26  # of the rows [J | r] that are computed to see how long one takes
ORDER = 512  # of the squares that are factored: a cubic law leads from there to P
ENOUGH = 0.2  # seconds of repetitions, of which the least counts


class Work(NamedTuple):
    """What one row costs: flops, as the compiler counts them, and seconds measured."""

    flops: float
    seconds: float


class Rates(NamedTuple):
    """Of one device: a row of [J | r], a row of one trial loss; flops a second of a QR and of a
    matrix product; seconds of an SVD and of a symmetric eigenproblem over their order cubed."""

    row: Work
    loss: Work
    qr: float
    product: float
    svd: float
    eigh: float


def trials(rule: Rule, p: int) -> int:
    """Parameter vectors whose residual a step asks for; the least number where a search may end
    early.

    The rule is traced on abstract values, and what it asks is counted.
    """
    asked: list[int] = []

    class Trials:
        def __call__(self, thetas: Array) -> Array:
            asked.append(thetas.shape[0])
            return jnp.zeros(thetas.shape[0])

        def pulled_back(self, thetas: Array) -> Array:
            asked.append(thetas.shape[0])
            return jnp.zeros_like(thetas)

    spectrum = Spectrum(jnp.ones(1), jnp.ones((1, p)), jnp.ones(1), jnp.asarray(0.0))
    theta = jax.ShapeDtypeStruct((p,), jnp.float64)
    jax.eval_shape(lambda t, s: rule.step(spectrum, Trials(), t, s), theta, rule.init(p))
    return sum(asked)


def measure(run: Stage, trials: int) -> Rates:
    """The rates of the device of a run on one device."""
    theta, points = replicate(run.mesh, run.model.theta0), _sample(run)
    block = run.residual.block
    rows = jax.eval_shape(block, theta, points).shape[0]

    def term_losses(theta, points):
        return run.residual.rows(theta, points).term_losses()

    def losses(thetas, points):
        return run.residual.rows(thetas[0], points).losses(thetas)

    thetas = jnp.tile(theta, (trials, 1))
    rng = np.random.default_rng(0)
    square = jnp.asarray(rng.standard_normal((ORDER + 1, ORDER + 1)))
    tall = jnp.asarray(rng.standard_normal((8 * ORDER, ORDER)))
    return Rates(
        row=Work(
            _flops(block, theta, points) / rows,
            _seconds(block, theta, points) / rows,
        ),
        loss=Work(
            _flops(term_losses, theta, points) / rows,
            _seconds(losses, thetas, points) / (rows * trials),
        ),
        qr=qr_flops(*tall.shape) / _seconds(triangle, tall),
        product=2 * tall.size * ORDER / _seconds(lambda a: a.T @ a, tall),
        svd=_seconds(spectrum_of_triangle, square) / ORDER**3,
        eigh=_seconds(jnp.linalg.eigh, square + square.T) / ORDER**3,
    )


def qr_flops(m: int, n: int) -> float:
    """Flops of R in the QR of an (m, n) matrix by Householder reflections, 2 n² (m - n/3); rows of
    zeros are added up to m = n. Its Q costs as much again.

    Source: Golub, Van Loan, Matrix Computations, 4th ed., sec. 5.2.
    """
    return 2 * n**2 * (max(m, n) - n / 3)


def _sample(run: Stage) -> tuple[Points, ...]:
    """Uniform points, as many of each term as is its share."""
    room = SAMPLE_BYTES // (8 * (run.model.p + 1))
    count = min(run.setup.memory.chunk, run.size, max(room, 16))
    shares = [count * run.draws[t.name].count / run.size for t in run.terms]
    return tuple(
        lay_out(run.mesh, t, probe(t, max(1, round(share))), None, 1)
        for t, share in zip(run.terms, shares, strict=True)
    )


def _flops(function: Callable, *args) -> float:
    told = jax.jit(function).lower(*args).cost_analysis()
    return float((told or {}).get("flops", np.nan))


def _seconds(function: Callable, *args) -> float:
    """The least time of some calls, compiled before."""
    compiled = jax.jit(function).lower(*args).compile()
    jax.block_until_ready(compiled(*args))
    least, began = np.inf, time.perf_counter()
    while time.perf_counter() - began < ENOUGH:
        start = time.perf_counter()
        jax.block_until_ready(compiled(*args))
        least = min(least, time.perf_counter() - start)
    return least
