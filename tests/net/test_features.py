"""Input features: symmetry, period, and how far a stretch resolves a layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from stages import stage

from distgram.errors import ModelError, ProblemError
from distgram.geometry.regions import Box, Faces
from distgram.net.features import Features, Stretch
from distgram.net.mlp import MLP
from distgram.pde.problem import Term
from distgram.pde.registry import get
from distgram.points.draw import Decay, Draw, weighted

NONE = jnp.zeros((0, 0))
BOX = ((0.0, -1.0), (1.0, 1.0))


def features(kind="normalize", period=None, even=(1,), stretches=()):
    return Features(kind, *BOX, (None, period), even=even, stretches=tuple(stretches))


def at(f: Features, x: float) -> np.ndarray:
    return np.asarray(f(jnp.asarray([0.3, x]), NONE))


@pytest.mark.parametrize("kind, period", [("normalize", None), ("periodic", 2.0)])
@pytest.mark.parametrize("center", [0.0, 0.5])
def test_an_even_network_sees_the_same_of_x_and_minus_x(kind, period, center):
    f = features(kind, period, stretches=[Stretch(1, center, 0.02)])
    for x in (0.013, 0.5, 0.97):
        np.testing.assert_array_equal(at(f, x), at(f, -x))
        if period is not None:
            np.testing.assert_allclose(at(f, x + period), at(f, x), atol=1e-13)
    assert len(at(f, 0.1)) == f.width


def test_without_even_the_sides_differ():
    f = features(even=(), stretches=[Stretch(1, 0.0, 0.02)])
    np.testing.assert_allclose(at(f, 0.2)[1:], -at(f, -0.2)[1:], atol=1e-15)
    assert at(f, 0.2)[2] > 0


@pytest.mark.parametrize(
    "f, center",
    [
        (features(even=(), stretches=[Stretch(1, 0.25, 0.01)]), 0.25),
        (features(stretches=[Stretch(1, 0.5, 0.01)]), 0.5),
        (features("periodic", 2.0, (), [Stretch(1, 0.0, 0.01)]), 0.0),
        (features("periodic", 2.0, (1,), [Stretch(1, 0.5, 0.01)]), 0.5),
    ],
)
def test_a_stretch_spans_the_domain_and_is_steep_at_its_center(f, center):
    """d/dx asinh((x - c)/w) is 1/w at c: in units of the range, some 1/(w log(1/w²))."""
    x = jnp.stack([jnp.full(4001, 0.3), jnp.linspace(-1, 1, 4001)], axis=1)
    values = np.asarray(jax.vmap(lambda x: f(x, NONE)[-1])(x))
    assert values.min() >= -1 - 1e-12 and values.max() <= 1 + 1e-12
    assert np.ptp(values) > 1.9
    slope = jax.grad(lambda x: f(jnp.asarray([0.3, 0.0]).at[1].set(x), NONE)[-1])
    assert float(slope(center)) > 5 * abs(float(slope(center + 0.3)))


@pytest.mark.parametrize(
    "wrong, key",
    [
        ({"features": "fourier", "even": [1]}, "even"),
        ({"features": "normalize", "even": [2]}, "even"),
        ({"features": "normalize", "even": [1, 1]}, r"even = \[1, 1\]"),
        ({"features": "none", "stretch": [Stretch(1, 0.5, 0.1)]}, "stretch"),
        ({"features": "normalize", "stretch": [Stretch(2, 0.5, 0.1)]}, "stretch"),
        ({"features": "normalize", "stretch": [Stretch(1, 3.0, 0.1)]}, "stretch: center = 3.0"),
        (
            {"features": "normalize", "even": [1], "stretch": [Stretch(1, 0.2, 0.1)]},
            "stretch: center = 0.2",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused_by_key(wrong, key):
    with pytest.raises(ModelError, match=rf"^model\.{key}"):
        MLP([4], **wrong).build(get("heat"), jax.random.key(0))


def test_a_decay_multiplies_operator_and_target():
    decay = Decay(axis=0, rate=3.0)
    run = stage(
        "heat",
        network=MLP([32, 32], features="normalize"),
        hard_constraint=True,
        points={"interior": Draw(4, decay=decay)},
    )
    (term,) = run.terms
    (plain,) = (t for t in run.problem.terms if t.name == "interior")
    field, x = run.model.field(run.model.theta0), jnp.asarray([0.4, 0.7])
    expected = np.exp(-1.2) * plain.residual(field)(x)
    np.testing.assert_allclose(term.residual(field)(x), expected, rtol=1e-12)


def test_a_decay_needs_a_box_and_a_coordinate_of_it():
    box, wanted = Box(*BOX), Draw(4, decay=Decay(axis=2, rate=1.0))
    for region in (box, Faces(box)):
        with pytest.raises(ProblemError, match=r"^points\.a\.decay: "):
            weighted(Term(lambda u: u, 0.0, region, name="a"), wanted)
