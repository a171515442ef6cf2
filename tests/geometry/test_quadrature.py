"""Quadrature nodes: exact to the stated degree and to no higher one, on boxes and their faces."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from distgram.errors import ProblemError, RegionError
from distgram.geometry.quadrature import RULES, clenshaw_curtis, gauss_legendre, quadrature
from distgram.geometry.regions import Box, Faces, Sites
from distgram.geometry.samplers import QUADRATURES
from distgram.linalg.mesh import make_mesh
from distgram.linalg.rows import lay_out
from distgram.pde.operators import value
from distgram.pde.problem import Term
from distgram.points.draw import Draw, draw

BOX = Box((-1.0, 0.5), (2.0, 1.0))
DEGREE = {"gauss_legendre": lambda k: 2 * k - 1, "clenshaw_curtis": lambda k: k - 1}


def mean(x, density, f):
    return np.sum(f(x) / density) / len(x)


def power(a, b, i):
    """The mean of x^i over [a, b]."""
    return (b ** (i + 1) - a ** (i + 1)) / ((i + 1) * (b - a))


@pytest.mark.parametrize("k", [1, 2, 3, 6, 9])
@pytest.mark.parametrize("rule", QUADRATURES)
def test_monomials_on_a_box_are_exact_to_the_degree(rule, k):
    x, density = quadrature(BOX, k**2, rule)
    assert x.shape == (k**2, 2) and (x >= BOX.lower).all() and (x <= BOX.upper).all()
    assert density.min() > 0 and mean(x, density, lambda x: 1.0) == pytest.approx(1.0, rel=1e-14)
    (a, b), (c, d) = zip(BOX.lower, BOX.upper, strict=True)
    for i, j in itertools.product(range(DEGREE[rule](k) + 1), repeat=2):
        exact = power(a, b, i) * power(c, d, j)
        got = mean(x, density, lambda x, i=i, j=j: x[:, 0] ** i * x[:, 1] ** j)
        assert got == pytest.approx(exact, rel=1e-12)
    # And to no higher one; Clenshaw-Curtis gains one degree where symmetry does it: k odd.
    higher = DEGREE[rule](k) + (2 if rule == "clenshaw_curtis" and k % 2 else 1)
    monic = (x[:, 0] - 0.5) ** higher  # even powers about the middle: the error does not vanish
    assert higher % 2 == 0
    assert abs(mean(x, density, lambda x: monic) - power(-1.5, 1.5, higher)) > 1e-9


@pytest.mark.parametrize("rule", QUADRATURES)
def test_the_boundary_is_weighted_by_measure(rule):
    """Edges of length 3 and 1/2: the mean of x²y over all of them in closed form."""
    faces = Faces(BOX)
    x, density = quadrature(faces, 4 * 5, rule)
    on = np.isclose(x, BOX.lower) | np.isclose(x, BOX.upper)
    assert on.any(axis=1).all()
    whole = 3.0 * power(-1, 2, 2) * (0.5 + 1.0) + 0.5 * power(0.5, 1, 1) * (1.0 + 4.0)
    got = mean(x, density, lambda x: x[:, 0] ** 2 * x[:, 1])
    assert got == pytest.approx(whole / faces.measure(), rel=1e-14)
    start, density = quadrature(BOX.start(), 7, rule)
    assert (start[:, 0] == -1.0).all()
    assert mean(start, density, lambda x: x[:, 1] ** 5) == pytest.approx(power(0.5, 1, 5))
    ends, density = quadrature(Faces(Box((2.0,), (5.0,))), 2, rule)
    assert ends.tolist() == [[2.0], [5.0]] and density.tolist() == [1.0, 1.0]


def test_smooth_functions_converge_beyond_every_power():
    """The mean of e^x over [0, 1] to rounding by twelve nodes."""
    for rule in (gauss_legendre, clenshaw_curtis):
        x, w = rule(12)
        assert np.sum(w * np.exp(x)) == pytest.approx(np.e - 1, rel=4e-15)
    assert clenshaw_curtis(4)[0][[0, -1]].tolist() == [0.0, 1.0]  # the ends to the last bit


def test_hundreds_of_nodes_stay_exact():
    for rule in RULES.values():
        x, w = rule(301)
        assert np.sum(w * x**200) == pytest.approx(1 / 201, rel=1e-12)


@pytest.mark.parametrize("rule", QUADRATURES)
def test_the_loss_is_the_quadrature_of_the_squared_residual(rule):
    """Points drawn as a config asks, with their weights: the sum of the squared rows of x y² is
    the mean of its square, and padding adds nothing."""
    term = Term(value, 0.0, BOX, weight=2.0, name="interior")
    x, density = draw(term, Draw(count=25, sampler=rule), [0, 0])
    points = lay_out(make_mesh(8), term, x, density, 1)
    rows = np.asarray(points.sqrt_weight) * np.prod(np.asarray(points.x) ** [1, 2], axis=1)
    exact = 2.0 * power(-1, 2, 2) * power(0.5, 1, 4)
    assert len(rows) == 32 and np.sum(rows**2) == pytest.approx(exact, rel=1e-14)


def test_what_cannot_be_is_named():
    sites = Term(value, 0.0, Sites(np.zeros((4, 2))), name="data")
    interior = Term(value, 0.0, BOX, name="interior")
    focus = {"axis": 0, "center": 0.0, "width": 0.1, "fraction": 0.5}
    wanted = {"count": 10, "sampler": "gauss_legendre"}
    with pytest.raises(RegionError, match=r"points.interior: Box: n=10 .*nearest are 9 and 16"):
        draw(interior, Draw(**wanted), [0])
    with pytest.raises(RegionError, match="Faces: n=10 .*nearest are 8 and 12"):
        quadrature(Faces(BOX), 10, "clenshaw_curtis")
    with pytest.raises(RegionError, match="points.data: Sites .*expected a Box"):
        draw(sites, Draw(**wanted), [0])
    with pytest.raises(ProblemError, match="points.interior.focus: .*gauss_legendre"):
        draw(interior, Draw(**wanted, focus=focus), [0])
    with pytest.raises(RegionError, match="did you mean 'clenshaw_curtis'"):
        draw(interior, Draw(count=9, sampler="clenshaw_curtiss"), [0])
    with pytest.raises(RegionError, match="its nodes have weights"):
        BOX.sample(9, 0, "gauss_legendre")
