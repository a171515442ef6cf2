"""Networks u(x; θ) in flax.nnx, and their parameters as one flat vector θ.

A model maps one point (d,) to (m,) values: input features, a multilayer perceptron, and, where a
config asks for it, an output transform that satisfies conditions exactly.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from distgram.errors import ModelError, nearest
from distgram.net.features import FEATURES, Features
from distgram.pde.problem import Field, HardConstraint

ACTIVATIONS: dict[str, Callable] = {
    "tanh": jnp.tanh,
    "sin": jnp.sin,
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


class MLP(nnx.Module):
    """u = W_L h_{L-1} + b_L,  h_l = σ(a_l (W_l h_{l-1} + b_l)),  h_0 = φ(x).

    The scales a_l (one a hidden layer) are trained only if `activation_scale`; else they are 1.
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
        for name, value, choices in (
            ("activation", activation, ACTIVATIONS),
            ("initialization", initialization, INITIALIZATIONS),
            ("features", features.kind, FEATURES),
        ):
            if value not in choices:
                raise ModelError(
                    f"model.{name} = {value!r} is not known: {nearest(value, choices)}"
                )
        features.check()
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
class FlatModel:
    """A network as a function of one flat vector:  field(θ) is the field x -> u(x; θ).

    `theta0` are the initial parameters, shape (p,); `p` their number.
    """

    theta0: Float[Array, " p"]
    unravel: Callable
    graph: nnx.GraphDef
    rest: nnx.State
    constraint: HardConstraint | None = None

    @property
    def p(self) -> int:
        """P, the number of parameters."""
        return self.theta0.shape[0]

    def field(self, theta: Float[Array, " p"]) -> Field:
        """The field u(.; θ), with the output transform g + l·n where there is one."""
        network = nnx.merge(self.graph, self.unravel(theta), self.rest)
        if self.constraint is None:
            return network
        lift, distance = self.constraint.lift, self.constraint.distance
        return lambda x: lift(x) + distance(x) * network(x)


def flatten(network: nnx.Module, constraint: HardConstraint | None = None) -> FlatModel:
    """Flatten the trainable parameters of an nnx module, once, at the edge."""
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    theta0, unravel = ravel_pytree(params)
    return FlatModel(theta0, unravel, graph, rest, constraint)
