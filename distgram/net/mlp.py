"""The multilayer perceptron, which takes input features of x."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from distgram.errors import ModelError, nearest, require
from distgram.net.features import FEATURES, Features, Stretch
from distgram.net.network import FlatModel, Network
from distgram.net.sine import sine

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "sin": sine,
    "gelu": jax.nn.gelu,
    "silu": jax.nn.silu,
    "softplus": jax.nn.softplus,
}
INITIALIZATIONS = ("fan_in", "orthogonal", "glorot", "normal_0.1")


def _weight(key: PRNGKeyArray, kind: str, n_in: int, n_out: int, gain: float) -> Array:
    """W (n_out, n_in): N(0, gain²/n_in); gain times orthogonal or Glorot uniform; 0.1 N(0, 1)."""
    if kind == "orthogonal":
        return jax.nn.initializers.orthogonal(gain)(key, (n_out, n_in), jnp.float64)
    if kind == "glorot":
        limit = gain * math.sqrt(6.0 / (n_in + n_out))
        return jax.random.uniform(key, (n_out, n_in), jnp.float64, -limit, limit)
    spread = 0.1 if kind == "normal_0.1" else gain / math.sqrt(n_in)
    return spread * jax.random.normal(key, (n_out, n_in), jnp.float64)


class Perceptron(nnx.Module):
    """u = W_L h_{L-1} + b_L,  h_l = σ(a_l (W_l h_{l-1} + b_l)),  h_0 = φ(x).

    The scales a_l (one per hidden layer) are trained only if `activation_scale`; else they are 1.
    Biases start at zero, except for the 'normal_0.1' initialisation of the source, where they are
    0.1 N(0, 1) as well, and for 'fan_in' hidden layers, where they are N(0, 1/n_in).

    Args:
        hidden: widths of the hidden layers.
        outputs: m.
        gain: factor of the initial hidden weights, dimensionless (5/3 with 'orthogonal' and tanh).
    """

    def __init__(
        self,
        features: Features,
        hidden: Sequence[int],
        outputs: int,
        *,
        key: PRNGKeyArray,
        activation: str = "tanh",
        initialization: str = "fan_in",
        gain: float = 1.0,
        activation_scale: bool = False,
    ):
        self.features, self.activation = features, activation
        sizes = [features.width, *hidden, outputs]
        key, feature_key = jax.random.split(key)
        self.matrix = nnx.Variable(
            features.scale
            * jax.random.normal(feature_key, (features.modes, len(features.lower)), jnp.float64)
            if features.kind == "fourier"
            else jnp.zeros((0, 0))
        )
        weights, biases = [], []
        for layer, (n_in, n_out) in enumerate(zip(sizes[:-1], sizes[1:], strict=True)):
            last = layer == len(sizes) - 2
            w_key, b_key = jax.random.split(jax.random.fold_in(key, layer))
            weights.append(
                nnx.Param(_weight(w_key, initialization, n_in, n_out, 1.0 if last else gain))
            )
            spread = {"normal_0.1": 0.1, "fan_in": 0.0 if last else gain / math.sqrt(n_in)}
            bias = spread.get(initialization, 0.0) * jax.random.normal(b_key, (n_out,), jnp.float64)
            biases.append(nnx.Param(bias))
        self.weights, self.biases = nnx.List(weights), nnx.List(biases)
        self.scales = nnx.Param(jnp.ones(len(hidden))) if activation_scale else None

    def __call__(self, x: Float[Array, " d"]) -> Float[Array, " m"]:
        act = ACTIVATIONS[self.activation]
        h = self.features(x, self.matrix[...])
        last = len(self.weights) - 1
        for layer, (w, b) in enumerate(zip(self.weights, self.biases, strict=True)):
            h = w[...] @ h + b[...]
            if layer < last:
                h = act(h if self.scales is None else self.scales[...][layer] * h)
        return h


@dataclass(frozen=True)
class MLP(Network):
    """A multilayer perceptron behind input features: see `Perceptron` and `Features`.

    Args:
        hidden: widths of the hidden layers, >= 1.
        activation: one of ACTIVATIONS. initialization: one of INITIALIZATIONS.
        gain: factor of the initial hidden weights, dimensionless (5/3 with 'orthogonal' and tanh).
        activation_scale: whether each hidden layer has a trained scale in front of its activation.
        features, modes, feature_scale, even, stretch: of `Features`.
    """

    hidden: Sequence[int] = (32, 32)
    activation: str = "tanh"
    initialization: str = "fan_in"
    gain: float = 1.0
    activation_scale: bool = False
    features: str = "none"
    modes: int = 1
    feature_scale: float = 1.0
    even: tuple[int, ...] = ()
    stretch: tuple[Stretch, ...] = ()

    def __post_init__(self):
        for name in ("hidden", "even", "stretch"):
            given = getattr(self, name)
            if not isinstance(given, Iterable):
                require(False, self, name, "a list", ModelError)
            object.__setattr__(self, name, tuple(given))
        wide = bool(self.hidden) and all(isinstance(n, int) and n >= 1 for n in self.hidden)
        require(wide, self, "hidden", "at least one layer, each of an integer >= 1", ModelError)
        for name, choices in (
            ("activation", ACTIVATIONS),
            ("initialization", INITIALIZATIONS),
            ("features", FEATURES),
        ):
            if (value := getattr(self, name)) not in choices:
                hint = nearest(str(value), choices)
                raise ModelError(f"MLP.{name} = {value!r} is not known: {hint}")
        for name in ("gain", "feature_scale"):
            good = 0 < getattr(self, name) < math.inf
            require(good, self, name, "a finite number > 0", ModelError)
        require(self.modes >= 1, self, "modes", "at least 1", ModelError)

    def build(self, problem, key):
        features = Features(
            self.features,
            problem.domain.lower,
            problem.domain.upper,
            problem.periods or (None,) * problem.dim,
            self.modes,
            self.feature_scale,
            self.even,
            self.stretch,
        )
        features.check()
        return Perceptron(
            features,
            self.hidden,
            problem.outputs,
            key=key,
            activation=self.activation,
            initialization=self.initialization,
            gain=self.gain,
            activation_scale=self.activation_scale,
        )


def stretched(
    model: FlatModel, theta: Float[Array, " p"], axis: int, rate: float, shift: float
) -> Float[Array, " p"]:
    """The parameters of the perceptron  y -> u(.., rate y_axis + shift, ..; θ),  y the features of
    a coordinate that enters by itself; θ where the network is not such a perceptron.

        W' y + b' = W (rate y + shift) + b     in the first layer
    """
    perceptron = nnx.merge(model.graph, model.unravel(theta), model.rest)
    column = _column(perceptron, axis)
    if column is None:
        return theta
    w, b = perceptron.weights[0], perceptron.biases[0]
    old = w[...]
    b[...] = b[...] + shift * old[:, column]
    w[...] = old.at[:, column].multiply(rate)
    return ravel_pytree(nnx.state(perceptron, nnx.Param))[0]


def _column(network: nnx.Module, axis: int) -> int | None:
    """The feature that a normalised coordinate is, None where it is not one."""
    if not isinstance(network, Perceptron):
        return None
    features = network.features
    alone = features.kind == "normalize" or (
        features.kind == "periodic" and features.periods[axis] is None
    )
    if not alone or axis in features.even or features.stretches:
        return None
    widths = (
        (1 if i in features.even else 2) * features.modes
        if features.kind == "periodic" and features.periods[i] is not None
        else 1
        for i in range(axis)
    )
    return sum(widths)
