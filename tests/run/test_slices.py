"""Planes through the centre of a domain: which, and the values on them."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

from distgram.geometry.regions import Box
from distgram.pde.operators import laplacian
from distgram.pde.problem import Problem, Term
from distgram.run.slices import NODES, planes, slices


@pytest.mark.parametrize(
    ("d", "pairs"),
    [
        (1, []),
        (2, [(0, 1)]),
        (3, [(0, 1), (0, 2), (1, 2)]),
        (4, [(0, 1), (2, 3)]),
        (5, [(0, 1), (2, 3), (3, 4)]),
        (9, [(0, 1), (2, 3), (7, 8)]),
    ],
)
def test_planes(d, pairs):
    assert planes(d) == pairs


@pytest.mark.parametrize("known", [True, False])
def test_values_on_planes_through_the_centre(known):
    box = Box((0.0, -1.0, 2.0), (1.0, 3.0, 2.5))
    weights = jnp.array([1.0, 10.0, 100.0])
    exact = lambda x: jnp.stack([x @ weights, -x[0]])  # noqa: E731
    terms = {"interior": Term(laplacian, 0.0, box)}
    problem = Problem(box, terms, exact=exact if known else None, outputs=2)
    given = slices(problem, lambda x: jnp.stack([x @ weights, -x[:, 0]], axis=-1))
    assert given["slice_axes"].tolist() == [[0, 1], [0, 2], [1, 2]]
    assert given["slice_at"].tolist() == [0.5, 1.0, 2.25]
    assert given["slice_u"].shape == (3, NODES, NODES, 2)
    # plane (x0, x2): x1 at its centre, the first index along x0
    first, last = given["slice_u"][1, 0], given["slice_u"][1, -1]
    assert np.allclose(first[:, 0], 10.0 + 100 * np.linspace(2.0, 2.5, NODES), rtol=1e-14)
    assert np.allclose(last[:, 0] - first[:, 0], 1.0, rtol=1e-12) and np.all(last[:, 1] == -1)
    assert ("slice_reference" in given) == known
    if known:
        assert np.allclose(given["slice_reference"], given["slice_u"], rtol=1e-14)
