"""A step does not change the types of what it hands to the next: for every method of a config, and
every factorization, as jit sees them."""

from __future__ import annotations

import jax
import pytest
from stages import stage

from distgram.config.schema import FACTORIZATIONS, RULES
from distgram.net.mlp import MLP
from distgram.rules.anagram import ANaGRAM
from distgram.run.solve import natural_gradient_step, objective_step
from distgram.run.state import start

SMALL = {"network": MLP([5]), "points": {"interior": 30, "boundary": 12}}
# What a class does not choose by itself.
GIVEN = {"anagram": {"relative_cutoff": 1e-6}}


def types(tree):
    """Structure, shapes, dtypes and weak types: what decides whether jit compiles again."""
    leaves, structure = jax.tree.flatten(tree)
    return structure, [(x.shape, x.dtype, x.weak_type) for x in leaves]


def check(run):
    """(θ, state) -> (θ, state) keeps its types; what is said of a step is scalars of θ's dtype."""
    state = start(run)
    make = natural_gradient_step if run.setup.rule.uses_spectrum else objective_step
    after = jax.eval_shape(make(run), run.residual, state.theta, state.method, state.points)
    theta, method, info, _ = after
    assert types((theta, method)) == types((state.theta, state.method))
    assert {x.shape for x in jax.tree.leaves(info)} == {()}
    assert {info.loss.dtype, info.regularization.dtype, info.step_size.dtype} == {theta.dtype}
    assert (info.rank.dtype.kind, info.accepted.dtype.kind) == ("i", "b")


@pytest.mark.parametrize("name", RULES)
def test_every_method_keeps_the_types_of_its_state(name):
    check(stage(rule=RULES[name](**GIVEN.get(name, {})), **SMALL))


@pytest.mark.parametrize("name", FACTORIZATIONS)
def test_every_factorization_keeps_the_types_of_its_state(name):
    check(stage(rule=ANaGRAM(cutoff=1e-6), factorization=FACTORIZATIONS[name](), **SMALL))
