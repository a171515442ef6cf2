"""Networks u(x; θ) in flax.nnx, and their parameters as one flat vector θ."""

from __future__ import annotations

import abc
from collections.abc import Callable
from dataclasses import dataclass

import jax
import jax.numpy as jnp
from flax import nnx
from jax.flatten_util import ravel_pytree
from jaxtyping import Array, Float, PRNGKeyArray

from distgram.errors import ModelError
from distgram.pde.problem import Field, HardConstraint, Problem


class Network(abc.ABC):
    """The description of a network, to be built for any problem. Settings are attributes.

    In place of a description a run also takes a network itself: a flax.nnx module that maps a
    point (d,) to values (m,).
    """

    @abc.abstractmethod
    def build(self, problem: Problem, key: PRNGKeyArray) -> nnx.Module:
        """The network for the inputs, outputs, domain and periods of a problem, initialised from
        a key: a module that maps x (d,) to u (m,), in float64.

        Raises:
            ModelError: settings that do not fit each other or the problem.
        """


@dataclass(frozen=True)
class FlatModel:
    """A network as a function of one flat vector:  field(θ) is the field x -> u(x; θ).

    `theta0` are the initial parameters, shape (p,); `p` their number. Where a network made for one
    time slab serves another, it sees  scale x + offset  in place of x.
    """

    theta0: Float[Array, " p"]
    unravel: Callable
    graph: nnx.GraphDef
    rest: nnx.State
    constraint: HardConstraint | None = None
    scale: Float[Array, " d"] | None = None
    offset: Float[Array, " d"] | None = None

    @property
    def p(self) -> int:
        """P, the number of parameters."""
        return self.theta0.shape[0]

    def field(self, theta: Float[Array, " p"]) -> Field:
        """The field u(.; θ), with the output transform g + l·n where there is one."""
        merged = nnx.merge(self.graph, self.unravel(theta), self.rest)
        network, scale, offset = merged, self.scale, self.offset
        if scale is not None and offset is not None:

            def network(x):
                return merged(scale * x + offset)

        if self.constraint is None:
            return network
        lift, distance = self.constraint.lift, self.constraint.distance
        return lambda x: lift(x) + distance(x) * network(x)


def flatten(network: nnx.Module, constraint: HardConstraint | None = None) -> FlatModel:
    """The model of an nnx module: its trainable parameters as one flat vector.

    Raises:
        ModelError: there are none, or one of them is not float64: a run would end at 1e-7.
    """
    graph, params, rest = nnx.split(network, nnx.Param, ...)
    leaves = jax.tree_util.tree_leaves_with_path(params)
    if not leaves:
        raise ModelError(f"network: {type(network).__name__} has no nnx.Param: expected some.")
    for path, leaf in leaves:
        if leaf.dtype != jnp.float64:
            raise ModelError(
                f"network: parameter {jax.tree_util.keystr(path)} is {leaf.dtype}: expected "
                "float64: call jax.config.update('jax_enable_x64', True) before the network is "
                "made, and give its layers param_dtype=jnp.float64."
            )
    theta0, unravel = ravel_pytree(params)
    return FlatModel(theta0, unravel, graph, rest, constraint)
