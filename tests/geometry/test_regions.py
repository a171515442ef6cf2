"""Regions: exactly n points, inside, spread by the region's own measure."""

from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from distgram.errors import RegionError
from distgram.geometry.regions import SAMPLERS, Box, Faces, Sites

BOX = Box((-1.0, 0.0, 2.0), (1.0, 0.5, 5.0))
RANDOM = tuple(s for s in SAMPLERS if s != "grid")


@pytest.mark.parametrize("sampler", RANDOM)
@pytest.mark.parametrize("n", [1, 2, 7, 64, 1000])
def test_box_gives_exactly_n_points_inside(sampler, n):
    x = BOX.sample(n, 3, sampler)
    assert x.shape == (n, 3) and x.dtype == np.float64
    assert (x >= BOX.lower).all() and (x <= BOX.upper).all()
    assert len(np.unique(x[:, 0])) == n
    np.testing.assert_array_equal(x, BOX.sample(n, 3, sampler))
    assert not np.array_equal(x, BOX.sample(n, 4, sampler))


@pytest.mark.parametrize("sampler", RANDOM)
def test_a_seed_sequence_is_not_used_up(sampler):
    key = np.random.SeedSequence(5)
    for region in (BOX, Faces(BOX)):
        first = region.sample(50, key, sampler)
        np.testing.assert_array_equal(first, region.sample(50, key, sampler))
    unit = Faces(Box((0.0, 0.0), (1.0, 1.0))).sample(40, key, sampler).reshape(4, 10, 2)
    places = np.stack([unit[0, :, 1], unit[1, :, 1], unit[2, :, 0], unit[3, :, 0]])
    assert len(np.unique(places)) == 40  # faces do not repeat one another's points


def test_grid_of_784_is_the_inside_of_a_30_by_30_grid():
    box = Box((0.0, -1.0), (1.0, 1.0))
    t, x = box.axes(30)
    expected = np.stack(np.meshgrid(t, x, indexing="ij"), -1)[1:-1, 1:-1].reshape(-1, 2)
    np.testing.assert_allclose(box.sample(784, 0, "grid"), expected, rtol=0, atol=1e-15)


def test_grid_names_the_nearest_counts():
    with pytest.raises(RegionError, match=r"n=800 .* 784 and 841"):
        Box((0.0, 0.0), (1.0, 1.0)).sample(800, 0, "grid")
    with pytest.raises(RegionError, match=r"n=100 .* 99 and 102"):
        Faces(Box((0.0,) * 2, (1.0,) * 2), ((0, 0), (1, 0), (1, 1))).sample(100, 0, "grid")
    assert len(BOX.sample(10**3, 0, "grid")) == 1000


def test_grid_on_faces_has_the_ends():
    box = Box((0.0, -1.0), (1.0, 2.0))
    x = Faces(box).sample(120, 0, "grid")
    for k, (axis, side) in enumerate(((0, 0), (0, 1), (1, 0), (1, 1))):
        part = x[30 * k : 30 * (k + 1)]
        assert (part[:, axis] == (box.lower, box.upper)[side][axis]).all()
        along = 1 - axis
        expected = np.linspace(box.lower[along], box.upper[along], 30)
        np.testing.assert_allclose(part[:, along], expected, rtol=0, atol=1e-15)
    assert len(Faces(BOX).sample(6 * 49, 0, "grid")) == 6 * 49


@pytest.mark.parametrize("sampler", RANDOM)
def test_faces_split_by_measure_and_lie_on_the_boundary(sampler):
    faces = Faces(BOX)
    areas = {0: 0.5 * 3.0, 1: 2.0 * 3.0, 2: 2.0 * 0.5}
    assert faces.measure() == pytest.approx(2 * sum(areas.values()), rel=1e-15)
    n = 1003
    x = faces.sample(n, 1, sampler)
    assert x.shape == (n, 3)
    assert (x >= BOX.lower).all() and (x <= BOX.upper).all()
    for axis, side in faces.faces:
        on = x[:, axis] == (BOX.lower, BOX.upper)[side][axis]
        assert abs(on.sum() - n * areas[axis] / faces.measure()) < 1  # largest remainder


@pytest.mark.parametrize("sampler", RANDOM)
def test_means_are_integrals(sampler):
    """Monte-Carlo means of x^2 and xy against closed forms, within 5 standard deviations / sqrt n.

    The stratified samplers are better than that: the bound is that of the uniform one.
    """
    n, box = 20_000, Box((0.0, -1.0), (1.0, 2.0))
    x = box.sample(n, 11, sampler)
    assert box.measure() * (x[:, 1] ** 2).mean() == pytest.approx(3.0, abs=3 * 5 * 1.1 / n**0.5)
    assert box.measure() * (x[:, 0] * x[:, 1]).mean() == pytest.approx(
        0.75, abs=3 * 5 * 0.6 / n**0.5
    )
    edge = Faces(box)
    s = edge.sample(n, 12, sampler)
    # int of y^2 over the edges: 3 at x = 0, 3 at x = 1, 1 at y = -1, 4 at y = 2
    assert edge.measure() == pytest.approx(8.0, rel=1e-15)
    assert edge.measure() * (s[:, 1] ** 2).mean() == pytest.approx(11.0, abs=8 * 5 * 1.3 / n**0.5)


def test_sobol_is_more_even_than_uniform():
    """Error of the mean of prod sin(pi x): about 1/n for the sequence, 1/sqrt(n) without it."""
    box, exact = Box((0.0,) * 2, (1.0,) * 2), (2 / np.pi) ** 2

    def error(sampler):
        return max(
            abs(np.sin(np.pi * box.sample(4096, s, sampler)).prod(1).mean() - exact)
            for s in range(5)
        )

    assert error("sobol") < 0.1 * error("uniform")


def test_initial_is_the_lower_face_in_time():
    box = Box((0.5, -1.0), (1.0, 1.0))
    start = box.start()
    x = start.sample(41, 0, "grid")
    assert start.measure() == 2.0 and (x[:, 0] == 0.5).all()
    np.testing.assert_allclose(x[:, 1], np.linspace(-1, 1, 41), rtol=0, atol=1e-15)
    assert (box.start(axis=1).sample(9, 0)[:, 1] == -1.0).all()
    assert (box.end().sample(9, 0)[:, 0] == 1.0).all()
    assert box.walls().faces == ((1, 0), (1, 1)) and box.walls(time=1).faces == ((0, 0), (0, 1))
    assert box.boundary == Faces(box) and box.face(1, 0) == Faces(box, ((1, 0),))


def test_faces_of_an_interval_are_its_ends():
    ends = Faces(Box((2.0,), (5.0,)))
    assert ends.measure() == 2.0
    for sampler in SAMPLERS:
        np.testing.assert_array_equal(ends.sample(2, 0, sampler), [[2.0], [5.0]])


def test_sites_are_given_back():
    given = np.array([[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    sites = Sites(given)
    given[0, 0] = 9.0
    assert sites.dim == 2 and sites.measure() == 3.0
    np.testing.assert_array_equal(sites.sample(3, 0), [[0.0, 1.0], [2.0, 3.0], [4.0, 5.0]])
    with pytest.raises(RegionError, match="n=4 .*expected 3"):
        sites.sample(4, 0)


@pytest.mark.parametrize("sampler", RANDOM)
@pytest.mark.parametrize(("center", "width"), [(0.0, 0.01), (0.9, 0.1), (-1.2, 0.3)])
def test_focused_points_with_their_weights_restore_the_uniform_measure(sampler, center, width):
    n, fraction, box = 2**14, 0.6, Box((0.0, -1.0), (1.0, 1.0))
    x, ratio = box.sample_focused(n, 5, sampler, 1, center, width, fraction)
    assert x.shape == (n, 2) and ratio.shape == (n,)
    assert (x >= box.lower).all() and (x <= box.upper).all()
    # weights 1/ratio <= 1/(1 - fraction) = 2.5: a standard deviation below 1.25, 5 of them
    bound = 5 * 1.25 / n**0.5
    assert ratio.min() >= 1 - fraction
    assert (1 / ratio).mean() == pytest.approx(1.0, abs=bound)
    assert (x[:, 1] ** 2 / ratio).mean() == pytest.approx(1 / 3, abs=bound)
    assert (x[:, 0] * x[:, 1] ** 2 / ratio).mean() == pytest.approx(1 / 6, abs=bound)
    # and they are where they were asked for: the share within one width of the center
    edges = np.clip([center - width, center + width], -1, 1)
    a, b = np.arctan((edges - center) / width)
    whole = np.diff(np.arctan((np.array([-1, 1]) - center) / width))[0]
    share = (1 - fraction) * np.diff(edges)[0] / 2 + fraction * (b - a) / whole
    inside = (abs(x[:, 1] - center) <= width).mean()
    assert inside == pytest.approx(share, abs=2.5 / n**0.5)


def test_focused_points_on_a_grid_integrate_to_second_order():
    """On the midpoints of equal shares of p, the weighted sum is a quadrature rule: O(1/n^2)."""
    box, errors = Box((-1.0,), (1.0,)), []
    for n in (200, 400):
        x, ratio = box.sample_focused(n, 0, "grid", 0, 0.0, 0.1, 0.5)
        unit = np.arange(1, n + 1) / (n + 1)
        focused = np.arctan(x[:, 0] / 0.1) / (2 * np.arctan(10.0)) + 0.5
        np.testing.assert_allclose(  # the distribution function at the points is the unit grid
            0.5 * (x[:, 0] + 1) / 2 + 0.5 * focused, unit, rtol=0, atol=1e-14
        )
        ends = 1 / (0.5 + 0.5 * 2 * 0.1 / (0.1**2 + 1) / (2 * np.arctan(10.0)))
        trapezoid = (np.sum(x[:, 0] ** 2 / ratio) + ends) / (n + 1)  # both ends, half each
        errors.append(abs(trapezoid - 1 / 3))
    assert errors[1] < 0.3 * errors[0] < 1e-3


def test_errors_name_the_object_the_value_and_the_remedy():
    box = Box((0.0, 0.0), (1.0, 1.0))
    cases = [
        (lambda: Box((0.0, 1.0), (1.0, 1.0)), "axis 1: expected finite bounds"),
        (lambda: Box((0.0,), (np.inf,)), "expected finite bounds"),
        (lambda: Box((0.0,), (1.0, 2.0)), "as many lower as upper"),
        (lambda: Box((), ()), "at least one"),
        (lambda: box.sample(0, 0), "n=0 points: expected an integer >= 1"),
        (lambda: box.sample(10, 0, "sobel"), "did you mean 'sobol'"),
        (lambda: Faces(box).sample(10, 0, "gird"), "did you mean 'grid'"),
        (lambda: Faces(box, ((2, 0),)), r"face \(2, 0\): expected"),
        (lambda: Faces(box, ((0, 2),)), r"face \(0, 2\): expected"),
        (lambda: Faces(box, ((0, 1), (0, 1))), "each face once"),
        (lambda: Faces(box).sample(3, 0), "without one: expected at least 4"),
        (lambda: Sites(np.zeros(3)), r"shape \(3,\): expected"),
        (lambda: box.sample_focused(8, 0, "sobol", 2, 0.0, 0.1, 0.5), "0 <= axis < 2"),
        (lambda: box.sample_focused(8, 0, "sobol", 1, 0.0, 0.0, 0.5), "width > 0"),
        (lambda: box.sample_focused(8, 0, "sobol", 1, 0.0, 0.1, 1.0), "fraction < 1"),
        (lambda: box.sample_focused(8, 0, "sobol", 1, 9.0, 1e-9, 0.5), "nearer to"),
    ]
    for make, message in cases:
        with pytest.raises(RegionError, match=message):
            make()


def test_regions_do_not_change():
    with pytest.raises(dataclasses.FrozenInstanceError):
        BOX.lower = (0.0,)  # type: ignore[misc]
    assert Box((0, 0), (1, 1)) == Box((0.0, 0.0), (1.0, 1.0))
    with pytest.raises(ValueError, match="read-only"):
        Sites(np.zeros((1, 1))).x[0, 0] = 1.0
