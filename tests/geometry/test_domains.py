"""Domains beyond boxes: measures, points, normals, parts and distances against closed forms."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import distgram as dg
from distgram.errors import RegionError
from distgram.geometry.boolean import enclosed
from distgram.geometry.quadrature import integral_rule, quadrature
from distgram.geometry.samplers import RANDOM, SAMPLERS

T = np.arange(512) * np.pi / 256  # the trapezoidal rule of a smooth period is exact to rounding
OVAL = np.sum(np.hypot(2 * np.sin(T), 0.5 * np.cos(T))) * np.pi / 256
LENS = 2 * np.arccos(0.5) - 0.5 * np.sqrt(3)  # of two unit disks at distance 1

SQUARE = dg.Rectangle((-0.5, -0.5), (0.5, 0.5))
HOLES = [dg.Disk((0.3 * i, 0.3 * j), 0.1) for i in (-1, 1) for j in (-1, 1)]
HOLED = SQUARE - HOLES[0] - HOLES[1] - HOLES[2] - HOLES[3]
TRIANGLE_HOLE = [(1.0, 0.5), (2.0, 0.5), (1.5, 1.5)]

# domain, volume, surface
SMOOTH = {
    "interval": (dg.Interval(-1, 2), 3.0, 2.0),
    "rectangle": (dg.Rectangle((0, 1), (2, 4)), 6.0, 10.0),
    "disk": (dg.Disk((1, 2), 0.5), np.pi / 4, np.pi),
    "ellipse": (dg.Ellipse((1, 0), (2, 0.5)), np.pi, OVAL),
    "annulus": (dg.Annulus((0, 0), 0.5, 1), 0.75 * np.pi, 3 * np.pi),
    "ball": (dg.Ball((0, 1, 2), 2), 32 / 3 * np.pi, 16 * np.pi),
    "cylinder": (dg.Cylinder((1, 0, 0), 1, 2), 2 * np.pi, 6 * np.pi),
    "turned": (dg.Ellipse((1, 0), (2, 1)).rotated(0.7, (1, 0)).shifted((1, 1)), 2 * np.pi, None),
    "leaning": (dg.Cylinder((0, 0, 0), 1, 2).rotated(1.0, axis=(1, 2, 3)), 2 * np.pi, 6 * np.pi),
    "polygon": (dg.Polygon([(0, 0), (3, 0), (3, 2), (0, 2)], [TRIANGLE_HOLE]), 5.5, None),
    "extended": (dg.Annulus((0, 0), 0.5, 1) * dg.Interval(0, 2), 1.5 * np.pi, None),
    "first": (dg.Interval(0, 2) * dg.Disk(), 2 * np.pi, 6 * np.pi),
}
JOINED = {
    "holed": (HOLED, 1 - 0.04 * np.pi, 4 + 0.8 * np.pi),
    "lens": (dg.Disk() & dg.Disk((1, 0)), LENS, 4 * np.pi / 3),
    "both": (dg.Disk() | dg.Disk((1, 0)), 2 * np.pi - LENS, 8 * np.pi / 3),
    "moon": (dg.Disk() - dg.Disk((1, 0)), np.pi - LENS, 2 * np.pi),
    # faces that coincide: an L, two squares side by side, one on the other
    "L": (dg.Box((-1, -1), (1, 1)) - dg.Box((0, -1), (1, 0)), 3.0, 8.0),
    "side by side": (dg.Box((0, 0), (1, 1)) | dg.Box((1, 0), (2, 1)), 2.0, 6.0),
    "within": (dg.Box((0, 0), (1, 1)) | dg.Box((0, 0), (2, 1)), 2.0, 6.0),
    "drilled": (dg.Box((-1,) * 3, (1,) * 3) - dg.Ball(radius=0.5), 8 - np.pi / 6, 24 + np.pi),
    "line": (dg.Interval(0, 3) - dg.Interval(1, 2), 2.0, 4.0),
}
EVERY = SMOOTH | JOINED


def at(function, x):
    """A function of one point at many."""
    return np.asarray(jax.jit(jax.vmap(function))(jnp.asarray(x)))


def shape(name: str) -> dg.Domain:
    return EVERY[name][0]


@pytest.mark.parametrize("name", EVERY)
def test_measures_are_those_of_closed_forms(name):
    domain, volume, surface = EVERY[name]
    close = 1e-14 if name in SMOOTH else 1e-8  # ends of pieces are found to 1e-9 of the size
    assert domain.measure() == pytest.approx(volume, rel=close)
    if surface is not None:
        assert domain.boundary.measure() == pytest.approx(surface, rel=close)
    if domain.dim > 1:
        assert enclosed(domain.boundary) == pytest.approx(volume, rel=max(close, 1e-12))


@pytest.mark.parametrize("sampler", RANDOM)
@pytest.mark.parametrize("name", EVERY)
def test_points_are_inside_and_as_many_as_asked_for(name, sampler):
    domain = shape(name)
    for n in (1, 100):
        x = domain.sample(n, 3, sampler)
        assert x.shape == (n, domain.dim) and x.dtype == np.float64
        assert domain.contains(x).all()
        np.testing.assert_array_equal(x, domain.sample(n, 3, sampler))
    assert not np.array_equal(x, domain.sample(100, 4, sampler))
    assert (x >= np.asarray(domain.lower)).all() and (x <= np.asarray(domain.upper)).all()
    edge = domain.boundary
    s, n = edge.draw(40, 5, sampler)
    step = 1e-6 * domain.size
    assert domain.contains(s - step * n).all() and not domain.contains(s + step * n).any()
    np.testing.assert_array_equal(s, edge.sample(40, 5, sampler))
    np.testing.assert_allclose(np.linalg.norm(n, axis=1), 1.0, rtol=1e-14)
    if name != "line":  # at corners several normals are right
        np.testing.assert_allclose(at(edge.normal, s), n, atol=1e-12)


def flow(x):
    """A field and its divergence."""
    f = np.stack([np.sin(x @ np.arange(1, x.shape[1] + 1) + i) for i in range(x.shape[1])], axis=1)
    parts = [(1 + i) * np.cos(x @ np.arange(1, x.shape[1] + 1) + i) for i in range(x.shape[1])]
    return f, sum(parts)


@pytest.mark.parametrize("name", SMOOTH)
def test_the_divergence_theorem_holds_by_quadrature(name):
    """∫ div f = ∮ f·n: nodes, weights and normals, inside and on the boundary, to rounding."""
    domain = shape(name)
    k = 24 if domain.dim < 3 else 20
    x, w = integral_rule(domain, k)
    s, v = integral_rule(domain.boundary, 64 if domain.dim == 2 else k)
    assert domain.contains(x).all() and (w > 0).all()
    normal = at(domain.boundary.normal, s)
    normal = normal if domain.dim > 1 else np.array([[-1.0], [1.0]])
    inside, through = w @ flow(x)[1], v @ np.sum(flow(s)[0] * normal, axis=1)
    assert inside == pytest.approx(through, abs=1e-9 * domain.measure())


@pytest.mark.parametrize("name", [n for n in EVERY if shape(n).dim > 1])
def test_the_divergence_theorem_holds_by_points(name):
    """As above with Sobol points: the error of n of them is below a few n^-0.75.

    The field has up to one wave in the domain, and one over the square of that in the derivatives.
    """
    domain, n = shape(name), 2**14
    inside = domain.measure() * flow(domain.sample(n, 1))[1].mean()
    s, normal = domain.boundary.draw(n, 2)
    through = domain.boundary.measure() * np.sum(flow(s)[0] * normal, axis=1).mean()
    scale = domain.measure() * domain.dim + domain.boundary.measure()
    assert inside == pytest.approx(through, abs=6 * n**-0.75 * scale)


@pytest.mark.parametrize("name", [n for n in EVERY if n not in ("line", "within")])
def test_distances_have_slope_one_at_the_boundary(name):
    domain = shape(name)
    s, normal = domain.boundary.draw(200, 7)
    step = 1e-7 * domain.size
    inner, outer = (at(domain.distance, s + i * step * normal) for i in (-1, 1))
    # corners apart, of which the approximation knows within about its square root
    near = np.quantile(np.abs(inner / step - 1), 0.9), np.quantile(np.abs(outer / step + 1), 0.9)
    assert max(near) < 1e-3
    x = domain.sample(500, 8)
    assert (at(domain.distance, x) > 0).all()
    outside = dg.Box(domain.lower, domain.upper).sample(500, 9)
    outside = outside[~domain.contains(outside)]
    assert (at(domain.distance, outside) < 0).all()


def test_a_distance_has_a_gradient_everywhere():
    for domain in (HOLED, dg.Polygon([(0, 0), (1, 0), (0, 1)]), dg.Ellipse((0, 0), (2, 1))):
        x = jnp.asarray(np.concatenate([domain.sample(64, 0), domain.boundary.sample(64, 0)]))
        x = jnp.concatenate([x, jnp.asarray([domain.lower, np.mean(domain.span, axis=0)])])
        assert np.isfinite(at(jax.grad(domain.distance), x)).all()


def test_points_of_a_sequence_are_more_even():
    """The mean of x² over a disk is 1/4: the error is smaller with Sobol points."""

    def error(sampler):
        found = [(dg.Disk().sample(4096, s, sampler)[:, 0] ** 2).mean() for s in range(8)]
        return max(abs(np.array(found) - 0.25))

    assert error("sobol") < 0.3 * error("uniform")


def test_an_ellipse_is_uniform_in_arc_length():
    """Equal shares of the points lie on equal arcs, though not on equal angles."""
    ellipse = dg.Ellipse((0, 0), (5, 1))
    x = ellipse.boundary.sample(4096, 0)
    turned = np.sort(np.arctan2(x[:, 1], x[:, 0] / 5))[::64]
    t = np.linspace(turned[:-1], turned[1:], 65)
    speed = np.hypot(5 * np.sin(t), np.cos(t))
    arcs = np.trapezoid(speed, t, axis=0)
    assert np.ptp(arcs) < 0.05 * arcs.mean()


def test_parts_of_a_boundary():
    ring = dg.Annulus((0, 0), 0.5, 1)
    assert ring.boundary.names == ("outer", "inner")
    assert ring.boundary.part("inner").measure() == pytest.approx(np.pi, rel=1e-15)
    right = ring.boundary.part(lambda x: x[0] > 0)
    assert right.measure() == pytest.approx(1.5 * np.pi, rel=1e-9)
    assert (right.sample(100, 0)[:, 0] > 0).all()
    walls, circles = (
        HOLED.boundary.part(lambda x: abs(x).max(axis=0) > 0.49),
        [HOLED.boundary.part(hole) for hole in HOLES],
    )
    assert walls.measure() == pytest.approx(4.0, rel=1e-12)
    for hole, circle in zip(HOLES, circles, strict=True):
        assert circle.measure() == pytest.approx(0.2 * np.pi, rel=1e-12)
        x, normal = circle.draw(30, 0)
        np.testing.assert_allclose(x + 0.1 * normal, np.tile(hole.center, (30, 1)), atol=1e-15)
    top = dg.Ball().boundary.part(lambda x: x[2] > 0.5)  # a cap of height 1/2
    assert top.measure() == pytest.approx(np.pi, rel=1e-3)
    assert (top.sample(300, 0)[:, 2] > 0.5).all()
    cylinder = dg.Cylinder((0, 0, 0), 1, 2)
    assert cylinder.boundary.part("upper").measure() == pytest.approx(np.pi, rel=1e-14)
    assert dg.Box((0, 0), (1, 2)).boundary.part("x1 upper").measure() == 2.0
    with pytest.raises(RegionError, match="did you mean 'inner'"):
        ring.boundary.part("iner")
    with pytest.raises(RegionError, match="nothing"):
        ring.boundary.part(lambda x: x[0] > 2)


def test_a_shape_times_time():
    for domain, axis in ((dg.Disk() * dg.Interval(1, 3), 2), (dg.Interval(1, 3) * dg.Disk(), 0)):
        assert domain.time == axis and domain.dim == 3
        start, end, walls = domain.start(), domain.end(axis), domain.walls()
        assert (start.sample(64, 0)[:, axis] == 1).all() and (end.sample(64, 0)[:, axis] == 3).all()
        assert start.measure() == pytest.approx(np.pi) and walls.measure() == pytest.approx(
            4 * np.pi
        )
        x, normal = walls.draw(64, 0)
        space = [i for i in range(3) if i != axis]
        np.testing.assert_allclose(np.linalg.norm(x[:, space], axis=1), 1.0, rtol=1e-14)
        np.testing.assert_allclose(normal[:, space], x[:, space], atol=1e-14)
        assert (normal[:, axis] == 0).all()
        later = domain.during(axis, 1.5, 2.0)
        assert later.measure() == pytest.approx(np.pi / 2)
        assert start.begins(axis) and not end.begins(axis) and not walls.begins(axis)
        assert (start.during(axis, 1.5, 2.0).sample(9, 0)[:, axis] == 1.5).all()
        moved = walls.during(axis, 1.5, 2.0).sample(64, 0)[:, axis]
        assert moved.min() >= 1.5 and moved.max() <= 2.0
        assert end.during(axis, 1.5, 2.0) is None
        with pytest.raises(RegionError, match="time=1"):
            domain.start(1)
    assert dg.Interval(0, 1) * dg.Rectangle((0, 0), (1, 2)) == dg.Box((0, 0, 0), (1, 1, 2))
    with pytest.raises(RegionError, match="shape \\* time"):
        _ = (dg.Disk() * dg.Disk()).time


class Heart(dg.Domain):
    """(x² + y² - 1)³ < x² y³, of area 3.6619..."""

    lower, upper = (-1.3, -1.1), (1.3, 1.3)

    def contains(self, x):
        u, v = x.T
        return (u**2 + v**2 - 1) ** 3 < u**2 * v**3


def test_a_domain_of_the_users_own():
    heart = Heart()
    u = 1.3 * (2 * np.arange(1000) + 1 - 1000) / 1000  # the middles of a grid
    inside = heart.contains(np.stack([g.ravel() for g in np.meshgrid(u, u)], axis=1))
    assert heart.measure() == pytest.approx(2.6**2 * inside.mean(), rel=1e-3)
    assert heart.contains(heart.sample(1000, 0)).all()
    with pytest.raises(RegionError, match="expected a property `boundary`"):
        _ = heart.boundary
    with pytest.raises(RegionError, match="expected a method `distance`"):
        heart.distance(np.zeros(2))
    both = heart | dg.Disk((3, 0))
    assert both.measure() == pytest.approx(heart.measure() + np.pi, rel=1e-3)


def test_grids_are_the_nodes_that_are_inside():
    x = dg.Disk().sample(88, 0, "grid")
    nodes = np.linspace(-1, 1, 12)[1:-1]
    every = np.stack([g.ravel() for g in np.meshgrid(nodes, nodes, indexing="ij")], axis=1)
    np.testing.assert_allclose(x, every[np.hypot(*every.T) <= 1], atol=1e-15)
    with pytest.raises(RegionError, match="n=87 points on a grid.*77 and 88"):
        dg.Disk().sample(87, 0, "grid")
    x = dg.Annulus((0, 0), 0.5, 1).boundary.sample(24, 0, "grid")
    np.testing.assert_allclose(np.sort(np.linalg.norm(x, axis=1)), [0.5] * 12 + [1.0] * 12)


@pytest.mark.parametrize("sampler", RANDOM)
def test_focused_points_restore_the_uniform_measure(sampler):
    n = 2**14
    x, density = dg.Disk().sample_focused(n, 5, sampler, 0, 0.2, 0.05, 0.5)
    assert dg.Disk().contains(x).all() and density.min() > 0
    # weights below 2, of a standard deviation below 1: five of them over sqrt n
    assert (1 / density).mean() == pytest.approx(1.0, abs=1e-12)
    assert (x[:, 0] ** 2 / density).mean() == pytest.approx(0.25, abs=5 / n**0.5)
    assert (abs(x[:, 0] - 0.2) < 0.05).mean() > 0.25


def test_quadrature_is_exact_on_disks_and_balls():
    x, density = quadrature(dg.Disk(), 100, "gauss_legendre")
    for i, j, mean in ((0, 0, 1.0), (2, 0, 1 / 4), (2, 2, 1 / 24), (4, 0, 1 / 8), (1, 2, 0.0)):
        got = np.mean(x[:, 0] ** i * x[:, 1] ** j / density)
        assert got == pytest.approx(mean, abs=1e-15)
    x, density = quadrature(dg.Ball(), 512, "gauss_legendre")
    for i, j, mean in ((0, 0, 1.0), (2, 0, 1 / 5), (2, 2, 1 / 35), (4, 0, 3 / 35)):
        got = np.mean(x[:, 0] ** i * x[:, 2] ** j / density)
        assert got == pytest.approx(mean, abs=1e-15)
    with pytest.raises(RegionError, match="n=101 .*nearest are 81 and 100"):
        quadrature(dg.Disk(), 101, "gauss_legendre")
    with pytest.raises(RegionError, match="no nodes of a quadrature"):
        quadrature(HOLED, 100, "gauss_legendre")
    with pytest.raises(RegionError, match="part of a surface"):
        quadrature(dg.Ball().boundary.part(lambda x: x[2] > 0.5), 100, "gauss_legendre")


def test_what_cannot_be_is_said():
    cases = [
        (lambda: dg.Interval((0, 0), (1, 1)), "2 coordinates: expected 1"),
        (lambda: dg.Rectangle(0, 1), "1 coordinates: expected 2"),
        (lambda: dg.Disk((0, 0), -1), "radius=-1: expected"),
        (lambda: dg.Disk((0, 0, 0)), "expected 2 finite numbers"),
        (lambda: dg.Ball((0, 0)), "expected 3 finite numbers"),
        (lambda: dg.Annulus((0, 0), 1, 0.5), "inner < outer"),
        (lambda: dg.Disk() - dg.Ball(), "2 and 3 coordinates"),
        (lambda: dg.Disk() & dg.Disk((5, 0)), "nothing is left"),
        (lambda: dg.Disk() | 3, "expected a Domain"),
        (lambda: dg.Disk().shifted((1, 2, 3)), "expected 2 finite numbers"),
        (lambda: dg.Interval(0, 1).rotated(1.0), "expected 2 coordinates"),
        (lambda: dg.Ball().rotated(1.0), "an axis"),
        (lambda: dg.Polygon([(0, 0), (1, 1), (1, 0), (0, 1)]), "do not cross"),
        (lambda: dg.Polygon([(0, 0), (1, 1)]), "at least"),
        (lambda: dg.Disk().sample(8, 0, "sobel"), "did you mean 'sobol'"),
        (lambda: dg.Disk().boundary.sample(0, 0), "expected an integer >= 1"),
        (lambda: (dg.Disk() & dg.Disk((1.9, 1.9))).sample(5, 0), "is it empty"),
    ]
    for make, message in cases:
        with pytest.raises(RegionError, match=message):
            make()


def test_samplers_are_known_to_every_region():
    for name in ("disk", "holed", "cylinder"):
        for sampler in set(SAMPLERS) - {"grid"}:
            assert len(shape(name).boundary.sample(64, 0, sampler)) == 64


def test_a_missing_package_is_named(monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "shapely", None)
    with pytest.raises(RegionError, match=r"pip install 'distgram\[geometry\]'"):
        dg.Polygon([(0, 0), (1, 0), (0, 1)])
