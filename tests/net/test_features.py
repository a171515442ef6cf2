"""Input features: symmetry, period, and how far a stretch resolves a layer."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from distgram.config.schema import PointsConfig, check
from distgram.errors import ModelError, ProblemError
from distgram.geometry.regions import Box, Faces
from distgram.net.features import Features, Stretch
from distgram.pde.problem import Term
from distgram.points.draw import weighted

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
    values = np.asarray([at(f, x)[-1] for x in np.linspace(-1, 1, 4001)])
    assert values.min() >= -1 - 1e-12 and values.max() <= 1 + 1e-12
    assert np.ptp(values) > 1.9
    slope = jax.grad(lambda x: f(jnp.asarray([0.3, 0.0]).at[1].set(x), NONE)[-1])
    assert float(slope(center)) > 5 * abs(float(slope(center + 0.3)))


@pytest.mark.parametrize(
    "wrong, words",
    [
        ({"features": "fourier", "even": [1]}, "even goes with"),
        ({"features": "normalize", "even": [2]}, "axis 2: expected 0 <= axis < 2"),
        ({"features": "normalize", "even": [1, 1]}, "named twice"),
        (
            {"features": "normalize", "stretch": [{"axis": 1, "center": 3.0, "width": 0.1}]},
            "center",
        ),
        (
            {
                "features": "normalize",
                "even": [1],
                "stretch": [{"axis": 1, "center": 0.2, "width": 0.1}],
            },
            "give the center above it",
        ),
    ],
)
def test_features_that_do_not_fit_are_refused_by_key(wrong, words):
    config = check(
        {"problem": {"name": "heat"}, "model": wrong, "points": {"interior": {"count": 4}}}
    )
    with pytest.raises(ModelError, match=words):
        build_model(config, build_problem(config))


def test_a_decay_multiplies_operator_and_target():
    config = check(
        {
            "problem": {"name": "heat"},
            "model": {"features": "normalize", "hard_constraint": True},
            "points": {"interior": {"count": 4, "decay": {"axis": 0, "rate": 3.0}}},
        }
    )
    problem = build_problem(config)
    (term,) = open_terms(config, problem)
    (plain,) = (t for t in problem.terms if t.name == "interior")
    field = build_model(config, problem).field(build_model(config, problem).theta0)
    x = jnp.asarray([0.4, 0.7])
    expected = np.exp(-1.2) * (plain.operator(field)(x) - plain.target(x))
    np.testing.assert_allclose(term.operator(field)(x) - term.target(x), expected, rtol=1e-12)


def test_a_decay_needs_a_box_and_a_coordinate_of_it():
    box = Box(*BOX)
    zero = lambda x: jnp.zeros(1)  # noqa: E731
    wanted = PointsConfig.model_validate({"count": 4, "decay": {"axis": 2, "rate": 1.0}})
    with pytest.raises(ProblemError, match="points.a.decay: axis = 2"):
        weighted(Term(lambda u: u, zero, box, name="a"), wanted)
    with pytest.raises(ProblemError, match="region is a Faces"):
        weighted(Term(lambda u: u, zero, Faces(box), name="a"), wanted)
