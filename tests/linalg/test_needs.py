"""What a rule says of leading triplets must hold whatever the rest is, within the bound on it."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from linear_problem import THETA, by_hand

from distgram.rules.adaptive_ratio import NEGLECTED, AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM
from distgram.rules.anagram import ANaGRAM

P = len(THETA)
S = 10.0 ** -np.arange(P, dtype=float)  # 1, 0.1, ..., 1e-9
FULL = by_hand(S, np.full(P, 3e-5), 1e-6)  # RCE_n is 1e-5 to 1e-4: it crosses s after four or five


def leading(w: int):
    """The first w triplets; the bound is the exact one, the next singular value."""
    outside = FULL.rce()[w]
    left_out = jnp.asarray(S[w] if w < P else 0.0)
    return by_hand(S[:w], FULL.c[:w], outside)._replace(vt=jnp.eye(P)[:w], left_out=left_out)


def losses_at(thetas):
    return jnp.sum((FULL.c + FULL.s * thetas) ** 2, axis=1)


def second_half(rule):
    """The state of AMStramGRAM after its first step, which needs the whole spectrum."""
    _, state, _ = rule.step(FULL, losses_at, THETA, rule.init(P))
    return state


HARD = [
    (ANaGRAM(cutoff=5e-4), lambda rule: (), 4),
    (ANaGRAM(relative_cutoff=5e-7), lambda rule: (), 7),
    (AMStramGRAM(epsilon=1e-12), second_half, 5),
]


@pytest.mark.parametrize("rule, state_of, rank", HARD)
def test_what_is_enough_gives_the_step_of_the_whole_spectrum(rule, state_of, rank):
    state, needs = state_of(rule), jax.jit(rule.needs)
    step = jax.jit(lambda spectrum, state: rule.step(spectrum, losses_at, THETA, state))
    theta, _, info = step(FULL, state)
    assert int(info.rank) == rank
    enough = []
    for w in (1, rank - 1, rank, rank + 1, P):
        said = needs(leading(w), THETA, state)
        if bool(said.enough):
            enough.append(w)
            assert int(said.rank) == rank
            part, _, _ = step(leading(w), state)
            assert np.array_equal(part, theta)
    # Not before the cutoff lies inside, and then soon: the bound is √2 times the next value.
    assert rank <= min(enough) <= rank + 1 and enough[-1] == P


def test_the_first_step_of_amstramgram_needs_the_whole_spectrum():
    rule = AMStramGRAM(epsilon=1e-12)
    said = [bool(rule.needs(leading(w), THETA, rule.init(P)).enough) for w in (1, P - 1, P)]
    assert said == [False, False, True]


@pytest.mark.parametrize("lam", [1e-4, 1e-8])
def test_adaptive_ratio_leaves_out_what_its_least_filter_would_not_keep(lam):
    rule = AdaptiveRatio()
    state = rule.init(P)._replace(lam=jnp.asarray(lam))
    least = lam / rule.window
    for w in range(1, P + 1):
        said = rule.needs(leading(w), THETA, state)
        beyond = S[w] ** 2 / (S[w] ** 2 + least) if w < P else 0.0
        assert bool(said.enough) == (beyond <= NEGLECTED / (1 + NEGLECTED))
        assert int(said.rank) == min(w, int(np.sum(S**2 >= least)))


def test_an_excursion_needs_directions_far_below_the_present_ones():
    rule = AdaptiveRatio(patience=1)
    state = rule.init(P)._replace(lam=jnp.asarray(1e-2), first=jnp.asarray(1.0))
    calm = state._replace(reference=jnp.asarray(1e-9), waited=jnp.asarray(0))
    stuck = calm._replace(waited=jnp.asarray(1))
    assert bool(rule.needs(leading(4), THETA, calm).enough)
    assert not bool(rule.needs(leading(4), THETA, stuck).enough)
