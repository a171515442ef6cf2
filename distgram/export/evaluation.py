"""A solution and its derivatives at the points of a table."""

from __future__ import annotations

from collections.abc import Iterator

import jax
import numpy as np

from distgram.pde.problem import Field
from distgram.run.solution import Solution


def hessian(u: Field) -> Field:
    """All second derivatives, shape (m d²,): entry (i d + j) d + k is d²u_i/dx_j dx_k."""
    return lambda x: jax.jacfwd(jax.jacfwd(u))(x).reshape(-1)


def columns(solution: Solution, x: np.ndarray, order: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values (n,)): the coordinates, u, and its derivatives up to `order`.

    u_x is du/dx, u_xy is d²u/dxdy; of several components u1_x, u2_x, ...
    """
    problem = solution.problem
    inputs, outputs = problem.input_names, problem.output_names
    yield from zip(inputs, x.T, strict=True)
    yield from zip(outputs, solution(x).T, strict=True)
    d, m = problem.dim, problem.outputs
    if order >= 1:
        first = solution.gradient(x).reshape(len(x), m, d)
        for i, j in np.ndindex(m, d):
            yield f"{outputs[i]}_{inputs[j]}", first[:, i, j]
    if order >= 2:
        second = solution.apply(hessian, x).reshape(len(x), m, d, d)
        for i, j, k in np.ndindex(m, d, d):
            if j <= k:
                yield f"{outputs[i]}_{inputs[j]}{inputs[k]}", second[:, i, j, k]
