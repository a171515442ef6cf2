"""A solution on planes through the centre of its domain, for the pictures of more dimensions."""

from __future__ import annotations

from collections.abc import Callable
from itertools import combinations

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from distgram.pde.problem import Problem

NODES = 61

Values = Callable[[Float[np.ndarray, "n d"]], Float[Array | np.ndarray, "n m"]]


def planes(d: int) -> list[tuple[int, int]]:
    """Pairs of coordinates, at most three: all of them in up to three dimensions; beyond that the
    first two neighbours, the next two, and the last two."""
    if d <= 3:
        return list(combinations(range(d), 2))
    return list(dict.fromkeys([(0, 1), (2, 3), (d - 2, d - 1)]))


def slices(problem: Problem, values: Values) -> dict[str, np.ndarray]:
    """u on `planes`, the other coordinates at the centre of the domain; {} in one dimension.

    Args:
        values: u at n points, (n, d) -> (n, m).

    Returns:
        slice_axes (s, 2), the coordinates of each plane; slice_nodes (d, NODES) and slice_at (d,),
        the nodes and the centre of every coordinate; slice_u (s, NODES, NODES, m) in 'ij' order,
        nan outside, and slice_reference likewise where the exact solution is known.
    """
    pairs = planes(problem.dim)
    if not pairs:
        return {}
    nodes = np.stack(problem.domain.axes(NODES))
    centre = (nodes[:, 0] + nodes[:, -1]) / 2
    x = np.tile(centre, (len(pairs), NODES, NODES, 1))
    for plane, (i, j) in zip(x, pairs, strict=True):
        plane[..., i], plane[..., j] = np.meshgrid(nodes[i], nodes[j], indexing="ij")
    flat = x.reshape(-1, problem.dim)
    shape = (*x.shape[:3], problem.outputs)
    out = {"slice_axes": np.asarray(pairs), "slice_nodes": nodes, "slice_at": centre}
    inside = problem.inside(flat)[:, None]
    out["slice_u"] = np.where(inside, np.asarray(values(flat)), np.nan).reshape(shape)
    if problem.exact is not None:
        exact = jax.vmap(problem.exact)(jnp.asarray(flat))
        exact = np.asarray(exact).reshape(len(flat), -1)
        out["slice_reference"] = np.where(inside, exact, np.nan).reshape(shape)
    return out
