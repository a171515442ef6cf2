"""Networks against their formula, their initial statistics and their features."""

from __future__ import annotations

import math

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from flax import nnx

from distgram.errors import ModelError
from distgram.net.features import FEATURES, Features
from distgram.net.mlp import ACTIVATIONS, INITIALIZATIONS, MLP, Perceptron
from distgram.net.network import flatten
from distgram.pde.problem import HardConstraint
from distgram.pde.registry import get

EPS = float(np.finfo(np.float64).eps)
KEY = jax.random.key(0)
PLAIN = Features("none", (0.0, -1.0), (2.0, 1.0), (None, None))
X = np.random.default_rng(0).uniform((0, -1), (2, 1), (50, 2))


def features(kind, **extra) -> Features:
    return Features(kind, (0.0, -1.0), (2.0, 1.0), extra.pop("periods", (None, None)), **extra)


NUMPY = {
    "tanh": np.tanh,
    "sin": np.sin,
    "gelu": lambda z: 0.5 * z * (1 + np.tanh(math.sqrt(2 / math.pi) * (z + 0.044715 * z**3))),
    "silu": lambda z: z / (1 + np.exp(-z)),
    "softplus": lambda z: np.log1p(np.exp(z)),
}


@pytest.mark.parametrize("scaled", [False, True])
@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_network_is_its_formula(activation, scaled):
    """u = W₃ σ(a₂ (W₂ σ(a₁ (W₁ x + b₁)) + b₂)) + b₃, in numpy."""
    network = Perceptron(PLAIN, [7, 5], 3, key=KEY, activation=activation, activation_scale=scaled)
    scales = np.array([1.0, 1.0])
    if scaled:
        assert network.scales is not None and np.array_equal(network.scales[...], scales)
        scales = np.array([0.7, 1.9])
        network.scales[...] = jnp.asarray(scales)
    layers = zip(network.weights, network.biases, strict=True)
    weights = [(np.asarray(w[...]), np.asarray(b[...])) for w, b in layers]
    h = X
    for scale, (w, b) in zip(scales, weights[:-1], strict=True):
        h = NUMPY[activation](scale * (h @ w.T + b))
    expected = h @ weights[-1][0].T + weights[-1][1]
    assert np.allclose(jax.vmap(network)(jnp.asarray(X)), expected, rtol=0, atol=100 * EPS)


WIDE, IN = 150, 100


def layers(initialization, gain=1.0):
    box = Features("none", (0.0,) * IN, (1.0,) * IN, (None,) * IN)
    network = Perceptron(box, [WIDE, WIDE], 80, key=KEY, initialization=initialization, gain=gain)
    weights = [np.asarray(w[...]) for w in network.weights]
    return weights, [np.asarray(b[...]) for b in network.biases]


def assert_spread(values, sigma):
    """Standard deviation within 5 standard errors σ/√(2n), and mean within 5 σ/√n."""
    n = values.size
    assert np.std(values) == pytest.approx(sigma, rel=5 / math.sqrt(2 * n))
    assert abs(np.mean(values)) < 5 * sigma / math.sqrt(n)


@pytest.mark.parametrize("gain", [1.0, 5 / 3])
def test_fan_in_initialization(gain):
    weights, biases = layers("fan_in", gain)
    for w, b, n_in in zip(weights[:-1], biases[:-1], (IN, WIDE), strict=True):
        assert_spread(w, gain / math.sqrt(n_in))
        assert_spread(b, gain / math.sqrt(n_in))
    assert_spread(weights[-1], 1 / math.sqrt(WIDE))  # the gain is for hidden layers
    assert np.array_equal(biases[-1], np.zeros(80))


@pytest.mark.parametrize("gain", [1.0, 5 / 3])
def test_orthogonal_initialization(gain):
    weights, biases = layers("orthogonal", gain)
    for w, factor in zip(weights, (gain, gain, 1.0), strict=True):
        small = w if w.shape[0] <= w.shape[1] else w.T
        assert np.allclose(small @ small.T, factor**2 * np.eye(len(small)), atol=1e3 * EPS)
    assert all(not b.any() for b in biases)


def test_glorot_initialization():
    weights, biases = layers("glorot")
    for w in weights:
        limit = math.sqrt(6 / sum(w.shape))
        assert np.max(np.abs(w)) < limit and np.max(np.abs(w)) > 0.999 * limit
        assert_spread(w, limit / math.sqrt(3))
    assert all(not b.any() for b in biases)


def test_the_initialization_of_the_source():
    for w, b in zip(*layers("normal_0.1"), strict=True):
        assert_spread(w, 0.1)
        assert_spread(b, 0.1)


@pytest.mark.parametrize("initialization", INITIALIZATIONS)
def test_layers_and_keys_are_independent(initialization):
    weights, _ = layers(initialization)
    assert not np.allclose(weights[0][:, :IN], weights[1][:, :IN])
    other = Perceptron(PLAIN, [5], 1, key=jax.random.key(1), initialization=initialization)
    one = Perceptron(PLAIN, [5], 1, key=KEY, initialization=initialization)
    again = Perceptron(PLAIN, [5], 1, key=KEY, initialization=initialization)
    w, w_other, w_again = (np.asarray(n.weights[0][...]) for n in (one, other, again))
    assert np.array_equal(w, w_again) and not np.array_equal(w, w_other)


def test_normalize_maps_the_domain_to_the_unit_cube():
    f = features("normalize")
    corners = np.array([[0.0, -1.0], [2.0, 1.0], [1.0, 0.0]])
    assert np.array_equal([f(jnp.asarray(x), None) for x in corners], [[-1, -1], [1, 1], [0, 0]])
    assert f.width == 2


@pytest.mark.parametrize("modes", [1, 3])
def test_periodic_features_are_periodic(modes):
    period = 2.0
    f = features("periodic", periods=(None, period), modes=modes)
    network = Perceptron(f, [6], 1, key=KEY)
    here = jax.vmap(network)(jnp.asarray(X))
    there = jax.vmap(network)(jnp.asarray(X) + jnp.asarray([0.0, period]))
    # The phase, at most 2π modes, is rounded to eps of itself; the network passes it on.
    assert np.max(np.abs(here - there)) < 1e-15 * 10 * modes
    out = np.asarray(jax.vmap(lambda x: f(x, None))(jnp.asarray(X)))
    assert out.shape == (50, f.width) and f.width == 1 + 2 * modes
    expected = [X[:, 0] - 1.0]
    expected += [np.cos(np.pi * j * X[:, 1]) for j in range(1, modes + 1)]
    expected += [np.sin(np.pi * j * X[:, 1]) for j in range(1, modes + 1)]
    assert np.allclose(out, np.stack(expected, 1), rtol=0, atol=20 * EPS * modes)


def test_both_ends_of_a_period_are_the_same_point():
    f = features("periodic", periods=(None, 2.0))
    low, high = (np.asarray(f(jnp.asarray([0.3, x]), None)) for x in (-1.0, 1.0))
    assert np.max(np.abs(low - high)) <= 1e-15


def test_fourier_features_are_fixed_and_scaled():
    f = features("fourier", modes=500, scale=3.0)
    network = Perceptron(f, [4], 1, key=KEY)
    matrix = np.asarray(network.matrix[...])
    assert matrix.shape == (500, 2)
    assert_spread(matrix, 3.0)
    z = X - np.array([1.0, 0.0])
    phase = 2 * np.pi * z @ matrix.T
    out = np.asarray(jax.vmap(lambda x: f(x, network.matrix[...]))(jnp.asarray(X)))
    expected = np.concatenate([np.cos(phase), np.sin(phase)], axis=1)
    assert np.allclose(out, expected, atol=1e3 * EPS) and f.width == 1000  # phases up to 60
    assert flatten(network).p == 4 * 1000 + 4 + 4 + 1  # the matrix is not among the parameters


@pytest.mark.parametrize(
    "hidden, scaled, outputs", [([64], False, 1), ([20, 20, 20], True, 2), ([20, 20, 20], False, 1)]
)
@pytest.mark.parametrize("kind", FEATURES)
def test_number_of_parameters(kind, hidden, scaled, outputs):
    """P = Σ (n_in + 1) n_out, and one scale a hidden layer."""
    f = features(kind, periods=(None, 2.0), modes=4)
    model = flatten(Perceptron(f, hidden, outputs, key=KEY, activation_scale=scaled))
    width = {"none": 2, "normalize": 2, "periodic": 1 + 8, "fourier": 8}[kind]
    sizes = [width, *hidden, outputs]
    p = sum((a + 1) * b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    assert model.p == p + (len(hidden) if scaled else 0) == len(model.theta0)


def test_the_source_networks_have_their_sizes():
    """2-32-1, 2-64-1, 5-64-1, 2-20-20-20-1: P = 129, 257, 449, 921."""
    for d, hidden, p in ((2, [32], 129), (2, [64], 257), (5, [64], 449), (2, [20] * 3, 921)):
        box = Features("none", (0.0,) * d, (1.0,) * d, (None,) * d)
        assert flatten(Perceptron(box, hidden, 1, key=KEY)).p == p


def test_flatten_and_back():
    network = Perceptron(PLAIN, [7, 5], 2, key=KEY, activation_scale=True)
    model = flatten(network)
    assert model.theta0.dtype == jnp.float64
    for x in X[:5]:
        assert np.array_equal(model.field(model.theta0)(jnp.asarray(x)), network(jnp.asarray(x)))
    theta = jnp.asarray(np.random.default_rng(1).standard_normal(model.p))
    again = flatten(nnx.merge(model.graph, model.unravel(theta), model.rest))
    assert np.array_equal(again.theta0, theta)
    assert not np.array_equal(model.field(theta)(X[0]), network(jnp.asarray(X[0])))


def test_hard_constraint_is_the_output_transform():
    network = Perceptron(PLAIN, [5], 1, key=KEY)
    constraint = HardConstraint(
        lift=lambda x: x[:1] ** 2, distance=lambda x: x[1:] + 1.0, satisfies=("boundary",)
    )
    model = flatten(network, constraint)
    field = model.field(model.theta0)
    for x in jnp.asarray(X[:5]):
        expected = x[:1] ** 2 + (x[1:] + 1.0) * network(x)
        assert np.allclose(field(x), expected, rtol=4 * EPS)
    # Exactly the lift where the distance vanishes, whatever the parameters.
    assert np.array_equal(model.field(7.0 * model.theta0)(jnp.asarray([1.5, -1.0])), [2.25])


def test_the_description_builds_the_network_of_a_problem():
    """Inputs, outputs, domain and periods are those of the problem; the same key, the same θ."""
    problem = get("burgers")
    described = MLP([7, 5], activation="sin", features="periodic", modes=2)
    one, two, other = (flatten(described.build(problem, jax.random.key(k))) for k in (0, 0, 1))
    assert one.p == (1 + 4 + 1) * 7 + 8 * 5 + 6 * problem.outputs
    assert np.array_equal(one.theta0, two.theta0) and not np.array_equal(one.theta0, other.theta0)
    assert one.theta0.dtype == jnp.float64
    period = (problem.periods or (None, None))[1]
    here, there = (one.field(one.theta0)(jnp.asarray([0.3, x])) for x in (0.1, 0.1 + period))
    # The phase, at most 2π modes, is rounded to eps of itself; the network passes it on.
    assert here.shape == (problem.outputs,) and np.max(np.abs(here - there)) < 1e-15 * 20


@pytest.mark.parametrize(
    "name, value, near",
    [
        ("activation", "tahn", "tanh"),
        ("initialization", "fanin", "fan_in"),
        ("features", "normalise", "normalize"),
        ("features", "forier", "fourier"),
    ],
)
def test_unknown_names_are_answered_with_the_nearest(name, value, near):
    with pytest.raises(ModelError, match=rf"^MLP\.{name} = '{value}' .*'{near}'"):
        MLP([5], **{name: value})


@pytest.mark.parametrize(
    "name, values",
    [
        ("hidden", (20, (), (0,), (5, -1), (2.5,))),
        ("gain", (0.0, math.inf, math.nan)),
        ("feature_scale", (0.0, math.inf, math.nan)),
        ("modes", (0,)),
    ],
)
def test_a_setting_outside_its_range_is_named(name, values):
    for value in values:
        with pytest.raises(ModelError) as error:
            MLP(**{name: value})
        assert str(error.value).startswith(f"MLP.{name} = {value!r}: ")


def test_periodic_features_need_a_period():
    with pytest.raises(ModelError, match=r"^model\.features = 'periodic'"):
        MLP([5], features="periodic").build(get("laplace2d"), KEY)
