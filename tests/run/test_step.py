"""One step on 1, 2 and 8 devices: equal within the bound that rounding sets, and the same bits on
every device of one mesh."""

from __future__ import annotations

from functools import cache
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from library import stage_of, step_of

from distgram.config.schema import check
from distgram.linalg.mesh import make_mesh, replicate
from distgram.linalg.tsqr import completed
from distgram.run.state import first_method_state

EPS = float(np.finfo(np.float64).eps)

RULES = {
    "anagram": {"name": "anagram", "relative_cutoff": 1e-6},
    "amstramgram": {"name": "amstramgram", "epsilon": 1e-8},
    "adaptive_ratio": {"name": "adaptive_ratio"},
}
STAGES = (0, 1, 25)  # steps before the one that is compared


class Ready(NamedTuple):
    run: object
    points: tuple
    step: object


@cache
def ready(rule, devices) -> Ready:
    """A compiled step on a mesh: 260 rows, so that 8 devices pad, in row blocks of at most 50."""
    config = check(
        {
            "problem": {"name": "laplace2d"},
            "model": {"hidden": [10]},
            "points": {"interior": {"count": 203}, "boundary": {"count": 57}},
            "rule": RULES[rule],
            "memory": {"row_block": 50},
        }
    )
    run = stage_of(config, make_mesh(devices))
    points = run.points()
    theta = replicate(run.residual.mesh, run.model.theta0)
    state = replicate(run.residual.mesh, first_method_state(run, theta, points))
    step = jax.jit(step_of(run)).lower(theta, state, points).compile()
    return Ready(run, points, step)


@cache
def stage(rule, steps):
    """(θ, state) after some steps on one device, on the host."""
    run, points, step = ready(rule, 1)
    theta = replicate(run.residual.mesh, run.model.theta0)
    state = replicate(run.residual.mesh, first_method_state(run, theta, points))
    for _ in range(steps):
        theta, state, *_ = step(theta, state, points)
    return np.asarray(theta), jax.tree.map(np.asarray, state)


def after(rule, steps, devices):
    """What the next step gives on a mesh: (θ, state, info, seen)."""
    run, points, step = ready(rule, devices)
    theta, state = replicate(run.residual.mesh, stage(rule, steps))
    theta, state, info, seen = step(theta, state, points)
    if seen.triangle is not None:  # a rule that regularizes does without singular values
        s, rce = jax.jit(completed)(seen.triangle)
        seen = seen._replace(singular_values=s, rce=rce)
    return theta, state, info, seen


def sensitivity(rule, info, seen, length) -> float:
    """Relative change of the direction by a backward error of the rows, in units of it over s₁.

    For a hard cutoff of rank k, first order,

        s₁ (1/g) (1 + RCE_k / (s_k ‖d‖)),     g = s_k - s_{k+1},

    g for the turn of the kept space, the second term from the part of r that is left, as in any
    least-squares problem. Tikhonov's has √λ for both s_k and g, and at most ‖r‖ for what is left.

    Source: Hansen, BIT 27 (1987) 534 (truncated SVD); Björck 1996, theorem 1.4.6.
    """
    s, rce = np.asarray(seen.singular_values), np.asarray(seen.rce)
    if rule == "adaptive_ratio":
        scale = gap = float(np.sqrt(info.regularization))
        left = rce[0]
    else:
        k = int(info.rank)
        scale, gap = s[k - 1], s[k - 1] - (s[k] if k < len(s) else 0.0)
        left = rce[k]
    return s[0] / gap * (1 + left / (scale * length))


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("steps", STAGES)
@pytest.mark.parametrize("rule", RULES)
def test_one_step_on_another_mesh_is_equal_within_the_bound(rule, steps, devices):
    """The bound: 10 eps / rcond, relative to the step, 1/rcond = `sensitivity`: 2e-9 at 1e-6.

    Each of the two layouts has a backward error of a few eps (test_tsqr), 10 for both.
    """
    start, _ = stage(rule, steps)
    theta, state, info, seen = after(rule, steps, 1)
    other, other_state, other_info, other_seen = after(rule, steps, devices)
    moved = np.linalg.norm(np.asarray(theta) - start)
    length = moved / max(float(info.step_size), 1e-300)
    bound = 10 * EPS * sensitivity(rule, info, seen, length) if moved else 0.0
    assert bound < 1e-6  # or this test would say nothing
    difference = np.linalg.norm(np.asarray(other) - np.asarray(theta))
    # θ itself is rounded once more when the step is subtracted.
    assert difference <= bound * moved + EPS * np.linalg.norm(start)
    assert (int(other_info.rank), float(other_info.step_size), bool(other_info.accepted)) == (
        int(info.rank),
        float(info.step_size),
        bool(info.accepted),
    )
    s, other_s = np.asarray(seen.singular_values), np.asarray(other_seen.singular_values)
    assert np.max(np.abs(other_s - s)) <= 10 * EPS * s[0]
    assert jax.tree.structure(state) == jax.tree.structure(other_state)


@pytest.mark.slow
@pytest.mark.parametrize("devices", [2, 8])
@pytest.mark.parametrize("rule", RULES)
def test_every_device_takes_the_same_step_to_the_last_bit(rule, devices):
    for leaf in jax.tree.leaves(after(rule, 25, devices)):
        shards = [np.asarray(shard.data) for shard in leaf.addressable_shards]
        assert len(shards) == devices and leaf.sharding.is_fully_replicated
        assert all(shard.tobytes() == shards[0].tobytes() for shard in shards)


@pytest.mark.parametrize("rule", RULES)
def test_a_step_repeats_to_the_last_bit(rule):
    one, two = (jax.tree.leaves(after(rule, 1, 1)) for _ in range(2))
    assert all(
        np.asarray(a).tobytes() == np.asarray(b).tobytes() for a, b in zip(one, two, strict=True)
    )


@pytest.mark.parametrize("rule", RULES)
def test_what_a_step_sees_and_does_agree(rule):
    """RCE_0² is the loss before the step, and `info.loss` that after it, evaluated afresh."""
    run, points, _ = ready(rule, 1)
    before, _ = stage(rule, 25)
    theta, _, info, seen = after(rule, 25, 1)
    thetas = jnp.stack([jnp.asarray(before), jnp.asarray(np.asarray(theta))])
    losses = np.asarray(run.residual.rows(thetas[0], points).losses(thetas))
    # 260 squares of residuals that each lose some digits where they cancel.
    assert float(seen.rce[0]) ** 2 == pytest.approx(losses[0], rel=1e-9)
    assert float(info.loss) == pytest.approx(losses[1], rel=1e-9)
    assert seen.rce.shape == (run.model.p + 1,) and np.all(np.diff(seen.rce) <= 0)


@pytest.mark.parametrize("rule", RULES)
def test_only_a_rule_that_asks_for_singular_values_has_an_svd(rule):
    *_, step = ready(rule, 1)
    assert ("gesdd" in step.as_text()) == (rule != "adaptive_ratio")
