"""The rank that held-out rows ask for, against the dense search over all ranks."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import matrices as M
import numpy as np
import pytest
from linear_problem import by_hand, linear
from matrices import EPS, everything, linear_system
from stages import stage

from distgram.errors import RegionError, RuleError
from distgram.linalg.held_out import reconstruction_errors
from distgram.linalg.mesh import make_mesh
from distgram.linalg.tsqr import TSQR
from distgram.net.mlp import MLP
from distgram.points.draw import Draw, Focus
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM
from distgram.rules.anagram import ANaGRAM
from distgram.rules.extrapolation import Extrapolation
from distgram.run.setup import Memory
from distgram.run.solve import natural_gradient_step
from distgram.run.state import start

N, NZ, P, CONDITION = 60, 43, 8, 1e4


def noisy():
    """A linear model whose coefficients decay as its singular values do, seen through noise: the
    small singular values fit the noise, and rows held out say where that begins."""
    rng = np.random.default_rng(2)
    both = M.prescribed(N + NZ, M.geometric(P, CONDITION))
    _, s, vt = np.linalg.svd(both, full_matrices=False)
    b = both @ (vt.T @ (s**0.5 * rng.standard_normal(P))) + 3e-3 * rng.standard_normal(N + NZ)
    return both[:N], b[:N], both[N:], b[N:]


def brute(a, b, a_z, b_z):
    """‖b_Z - A_Z d_k‖ for every rank k, d_k by a dense SVD."""
    u, s, vt = np.linalg.svd(a, full_matrices=False)
    d = [vt[:k].T @ ((u.T @ b)[:k] / s[:k]) for k in range(len(s) + 1)]
    return np.array([np.linalg.norm(b_z - a_z @ x) for x in d])


@pytest.mark.parametrize("devices, blocks", [(1, 1), (8, 3)])
def test_errors_and_rank_are_those_of_the_dense_search(devices, blocks):
    a, b, a_z, b_z = noisy()
    mesh = make_mesh(devices)
    residual, points = linear_system(a, b, mesh, blocks)
    _, held_out = linear_system(a_z, b_z, mesh, blocks)
    theta = jnp.zeros(P)

    def look(theta, points, held_out):
        spectrum, _ = TSQR()(residual.rows(theta, points), everything, ())
        errors = reconstruction_errors(residual.rows(theta, held_out), spectrum)
        return spectrum._replace(validation_errors=errors)

    spectrum = jax.jit(look)(theta, points, held_out)
    expected = brute(a, b, a_z, b_z)
    best = 1 + int(np.argmin(expected[1:]))
    assert 1 < best < P  # noise makes all of the spectrum a bad choice
    assert np.sort(expected)[1] > 1.01 * expected[best]  # no tie that rounding could break
    # Roundings of the least-squares solutions: eps condition², as both have a part outside.
    assert np.allclose(spectrum.validation_errors, expected, rtol=100 * EPS * CONDITION**2, atol=0)
    assert int(spectrum.k_opt()) == best
    shards = [np.asarray(x.data) for x in spectrum.validation_errors.addressable_shards]
    assert all(x.tobytes() == shards[0].tobytes() for x in shards)

    def losses_at(thetas):
        return jnp.sum((thetas @ a.T + b) ** 2, axis=1)

    moved, _, info = Extrapolation().step(spectrum, losses_at, theta, ())
    assert int(info.rank) == best and float(info.step_size) == 1.0
    assert np.linalg.norm(a_z @ np.asarray(moved) + b_z) == pytest.approx(expected[best], rel=1e-6)


@pytest.mark.parametrize("held_out, best", [([1, 3, 2, 4, 5], 2), ([9, np.nan, np.inf, 3, 3], 3)])
def test_a_cap_bounds_the_rank_of_every_rule(held_out, best):
    """The smallest best rank, at least 1, and never one that is not finite."""
    spectrum = by_hand((4.0, 2.0, 1.0, 0.5), (1e-3, 1e-3, 1e-3, 1e-3))
    capped = spectrum._replace(validation_errors=jnp.asarray(held_out, float))
    assert int(capped.k_opt()) == best and int(spectrum.k_opt()) == 4

    def losses_at(thetas):
        return jnp.sum((spectrum.c + spectrum.s * thetas) ** 2, axis=1)

    rules = (
        ANaGRAM(cutoff=0.1, validation=8),
        AMStramGRAM(validation=8),
        AdaptiveRatio(validation=8),
    )
    for rule in rules:
        theta, _, info = rule.step(capped, losses_at, jnp.zeros(4), rule.init(4))
        assert np.asarray(theta[:best]).all() and not np.asarray(theta[best:]).any()
        assert int(info.rank) <= best
        loss = float(losses_at(theta[None])[0])
        assert float(info.loss) == pytest.approx(loss, rel=10 * EPS)


def test_a_capped_model_predicts_what_the_capped_step_does():
    """On a linear problem the ratio is 1 for the capped filters too: the smallest λ is taken."""
    spectrum, losses_at = linear(jnp.zeros(10))
    spectrum = spectrum._replace(validation_errors=jnp.asarray([9.0, 8, 7, 6, 5, 6, 7, 8, 9, 9, 9]))
    rule = AdaptiveRatio(ratio=1 - 1e-9, trials=7, validation=8)
    _, _, info = rule.step(spectrum, losses_at, jnp.zeros(10), rule.init(10))
    assert float(info.regularization) == pytest.approx(1 / 20.0, rel=1e-14)
    assert int(info.rank) <= 4 and bool(info.accepted)


FOCUS = Focus(axis=0, center=0.5, width=0.1, fraction=0.5)
SETUP = {
    "network": MLP([6]),
    "points": {"interior": Draw(36, "grid", focus=FOCUS), "boundary": 20},
    "rule": Extrapolation(validation=53),
    "memory": Memory(row_block=5),
}


def test_a_step_draws_points_of_its_own_and_takes_their_rank():
    run = stage(devices=2, **SETUP)
    state, held_out = start(run), run.validation(53)
    assert [float(np.sum(np.square(z.sqrt_weight))) for z in held_out] == pytest.approx([1.0, 1.0])
    assert [int(np.count_nonzero(z.sqrt_weight)) for z in held_out] == [53, 53]
    assert not {tuple(x) for x in np.asarray(held_out[0].x)} & {
        tuple(x) for x in np.asarray(state.points[0].x)
    }
    step = jax.jit(natural_gradient_step(run))
    *_, info, _ = step(run.residual, state.theta, state.method, state.points)
    every = jax.jit(run.residual.block)
    rows, rows_z = (np.asarray(every(state.theta, p)) for p in (state.points, held_out))
    expected = brute(rows[:, :-1], rows[:, -1], rows_z[:, :-1], rows_z[:, -1])
    assert int(info.rank) == 1 + int(np.argmin(expected[1:])) < run.model.p


def test_sharded_right_vectors_are_refused():
    wide = SETUP | {"network": MLP([40]), "memory": Memory()}
    assert stage(devices=1, **wide).plan.name == "dual"
    with pytest.raises(RuleError, match=r"^rule\.validation = 53: "):
        stage(devices=2, **wide)


def test_points_that_cannot_be_drawn_name_the_key():
    """The boundary has four faces, and each of them needs a point."""
    with pytest.raises(RegionError, match=r"^rule\.validation = 3: points\.boundary: "):
        stage(**SETUP).validation(3)
