"""Two residual systems, one scalar and one of three terms and two unknowns, and their weighted
residuals as one dense vector of θ."""

from __future__ import annotations

import jax
import jax.numpy as jnp

from distgram.geometry.regions import Box, Faces
from distgram.linalg.mesh import make_mesh
from distgram.linalg.rows import Points, Residual, lay_out
from distgram.net.features import Features
from distgram.net.mlp import Perceptron
from distgram.net.network import FlatModel, flatten
from distgram.pde.operators import divergence, laplacian, value
from distgram.pde.problem import Term

BOX = Box((0.0, -1.0), (2.0, 1.0))
# Sums of some thousand products of size one: their roundings, in the worst order.
CLOSE = {"rtol": 1e-12, "atol": 1e-12}


def model(outputs: int) -> FlatModel:
    """A network of two small hidden layers on BOX."""
    features = Features("normalize", BOX.lower, BOX.upper, (None, None))
    return flatten(Perceptron(features, [6, 5], outputs, key=jax.random.key(3)))


def curl(u):
    def at(x):
        j = jax.jacfwd(u)(x)
        return (j[1, 0] - j[0, 1])[None]

    return at


def cauchy_riemann(u):
    """Both equations as one operator of two components."""
    return lambda x: jnp.concatenate([divergence(u)(x), curl(u)(x)])


def zero(m):
    return lambda x: jnp.zeros(m)


SCALAR = (
    Term(laplacian, lambda x: jnp.sin(x[:1]), BOX, weight=2.5, name="interior"),
    Term(value, lambda x: x[:1] * x[1:], Faces(BOX), weight=0.3, name="boundary"),
)
# (u, v) = (Re, Im) of e^z is a solution; the boundary asks for both components.
SYSTEM = (
    Term(cauchy_riemann, zero(2), BOX, weight=4.0, name="equations"),
    Term(divergence, zero(1), BOX, name="divergence"),
    Term(
        value,
        lambda x: jnp.exp(x[0]) * jnp.stack([jnp.cos(x[1]), -jnp.sin(x[1])]),
        Faces(BOX),
        name="boundary",
    ),
)
CASES = {"scalar": (SCALAR, model(1), (37, 22)), "system": (SYSTEM, model(2), (37, 5, 22))}


def drawn(terms, counts):
    """The points (n, d) of every term."""
    return [t.region.sample(n, i) for i, (t, n) in enumerate(zip(terms, counts, strict=True))]


def build(name, devices, blocks=1, chunk=1024) -> tuple[Residual, tuple[Points, ...]]:
    """One of CASES on a mesh, and its points there."""
    terms, network, counts = CASES[name]
    mesh = make_mesh(devices)
    points = tuple(
        lay_out(mesh, t, x, None, blocks) for t, x in zip(terms, drawn(terms, counts), strict=True)
    )
    return Residual(terms, network, mesh, chunk, blocks), points


def dense(name, theta):
    """All weighted residuals as one vector of θ: √(w/n) (D[u](xᵢ) - f(xᵢ)), term after term."""
    terms, network, counts = CASES[name]
    parts = []
    for t, x in zip(terms, drawn(terms, counts), strict=True):
        field = network.field(theta)
        r = jax.vmap(lambda y, t=t, field=field: t.operator(field)(y) - t.target(y))(x)
        parts.append((jnp.sqrt(t.weight / len(x)) * r).reshape(-1))
    return jnp.concatenate(parts)
