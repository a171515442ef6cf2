"""Surfaces of triangles and mesh files as domains: measures, points, normals, names."""

from __future__ import annotations

import sys
import time

import jax.numpy as jnp
import numpy as np
import pytest

import distgram as dg
from distgram.errors import RegionError
from distgram.linalg.mesh import make_mesh
from distgram.linalg.rows import lay_out

trimesh = pytest.importorskip("trimesh")
meshio = pytest.importorskip("meshio")


def ball(subdivisions=3):
    return dg.Body(trimesh.creation.icosphere(subdivisions).triangles)


def cube(lower=(0, 0, 0), upper=(1, 1, 1)):
    return dg.Body(trimesh.creation.box(bounds=[lower, upper]).triangles)


def test_a_body_from_an_stl_file(tmp_path):
    file = tmp_path / "part.stl"
    trimesh.creation.icosphere(3).export(file)
    body = dg.read_body(file)
    edges = 0.14  # the longest of 1280 triangles: the sphere is cut by its square / 8
    assert body.measure() == pytest.approx(4 / 3 * np.pi, rel=edges**2)
    assert body.boundary.measure() == pytest.approx(4 * np.pi, rel=edges**2)
    x = np.random.default_rng(0).uniform(-1.2, 1.2, (4000, 3))
    r = np.linalg.norm(x, axis=1)
    clear = (r < 1 - edges**2 / 4) | (r > 1)
    assert np.array_equal(body.contains(x)[clear], (r < 1)[clear])
    s, normal = body.boundary.draw(500, 1)
    assert (np.sum(s * normal, axis=1) > 0.98).all()
    assert body.contains(s - 1e-6 * normal).all() and not body.contains(s + 1e-6 * normal).any()
    (file.parent / "bad.stl").write_text("solid\n")
    with pytest.raises(RegionError, match="bad.stl"):
        dg.read_body(tmp_path / "bad.stl")


def test_the_divergence_theorem_on_triangles():
    """∫ div f = ∮ f·n for f = (sin x, y², x z), with 2^14 points: their error is below 1/n^0.75."""
    body, n = ball(), 2**14
    x = body.sample(n, 0)
    inside = body.measure() * (np.cos(x[:, 0]) + 2 * x[:, 1] + x[:, 0]).mean()
    s, normal = body.boundary.draw(n, 1)
    f = np.stack([np.sin(s[:, 0]), s[:, 1] ** 2, s[:, 0] * s[:, 2]], axis=1)
    through = body.boundary.measure() * np.sum(f * normal, axis=1).mean()
    assert inside == pytest.approx(through, abs=20 * n**-0.75)


def test_points_on_triangles_are_uniform():
    """On a box of sides 1, 2, 4 the faces get their shares, and the mean of x² is that of faces."""
    body, n = cube((0, 0, 0), (1, 2, 4)), 2**14
    for sampler in ("sobol", "uniform", "latin_hypercube"):
        x = body.boundary.sample(n, 3, sampler)
        for axis, area in ((0, 8), (1, 4), (2, 2)):
            share = np.mean(np.isclose(x[:, axis], 0))
            assert share == pytest.approx(area / 28, abs=4 * 0.5 / n**0.5)
        mean = (8 + (2 * 4 + 2 * 2) / 3) / 28
        assert (x[:, 0] ** 2).mean() == pytest.approx(mean, abs=5 * 0.5 / n**0.5)


def test_bodies_are_joined():
    one, two = cube(), cube((0.5, 0.25, 0.25), (2, 0.75, 0.75))
    for joined, volume in ((one | two, 1.25), (one & two, 0.125), (one - two, 0.875)):
        assert isinstance(joined, dg.Body) and joined.measure() == pytest.approx(volume, rel=1e-12)
    with pytest.raises(RegionError, match="nothing is left"):
        _ = one & cube((5, 5, 5), (6, 6, 6))
    drilled = dg.Box((-2, -2, -2), (2, 2, 2)) - ball()  # with what is no surface of triangles
    assert drilled.measure() == pytest.approx(64 - ball().measure(), rel=1e-3)
    hole = drilled.boundary.part(ball())
    s, normal = hole.draw(200, 0)
    assert (np.sum(s * normal, axis=1) < -0.98).all()
    turned = one.rotated(0.5, axis=(0, 0, 1)).shifted((1, 0, 0)) * dg.Interval(0, 1)
    assert turned.measure() == pytest.approx(1.0)
    x, normal = turned.walls().draw(100, 0)
    assert normal.shape == (100, 4) and (normal[:, 3] == 0).all()
    assert turned.contains(x - 1e-6 * normal).all()


def test_a_million_points_on_a_hundred_thousand_triangles_take_seconds():
    body = ball(6)  # 81920
    begin = time.perf_counter()
    x, normal = body.boundary.draw(10**6, 0)
    assert time.perf_counter() - begin < 10.0
    assert x.shape == normal.shape == (10**6, 3)
    np.testing.assert_allclose(np.linalg.norm(x, axis=1), 1.0, atol=1e-3)


def test_fluxes_on_triangles_and_sharded_points():
    """Normals stand beside the points; on 1, 2 and 8 devices they are the same rows."""
    body = ball()
    term = dg.Neumann(lambda x: x[2], body.boundary)
    rows = term.region.sample(250, 0)
    assert rows.shape == (250, 6)
    flux = np.asarray([term.residual(lambda x: x[2:])(jnp.asarray(row))[0] for row in rows[:20]])
    np.testing.assert_allclose(flux, rows[:20, 5] - rows[:20, 2], atol=1e-14)
    with pytest.raises(RegionError, match="a condition"):
        body.boundary.normal(jnp.zeros(3))
    every = [lay_out(make_mesh(n), term, rows, None, 1) for n in (1, 2, 8)]
    for points in every:
        np.testing.assert_array_equal(np.asarray(points.x)[:250], rows)


def test_a_surface_that_is_not_closed():
    open_ = trimesh.creation.icosphere(1).triangles[1:]
    with pytest.raises(RegionError, match="3 edges do not belong to two"):
        dg.Body(open_)
    inward = trimesh.creation.icosphere(1).triangles[:, ::-1]
    s, normal = dg.Body(inward).boundary.draw(10, 0)
    assert (np.sum(s * normal, axis=1) > 0).all()
    with pytest.raises(RegionError, match="no nodes of a quadrature"):
        dg.Body(inward).boundary.charts()


PLATE = {  # a square of four triangles about (1/2, 1/2), and its sides
    "points": [[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0], [0.5, 0.5, 0]],
    "triangle": [[0, 1, 4], [1, 2, 4], [4, 2, 3], [3, 0, 4]],
    "line": [[0, 1], [1, 2], [3, 2]],
}


def test_named_parts_of_a_mesh_in_the_plane(tmp_path):
    file = tmp_path / "plate.msh"
    tags = [np.array([7, 7, 7, 7]), np.array([1, 2, 2])]
    mesh = meshio.Mesh(
        np.array(PLATE["points"]),
        [("triangle", np.array(PLATE["triangle"])), ("line", np.array(PLATE["line"]))],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={"hot": np.array([1, 1]), "cold": np.array([2, 1]), "plate": np.array([7, 2])},
    )
    meshio.write(file, mesh, file_format="gmsh22", binary=False)
    plate = dg.read_mesh(file)
    assert plate.dim == 2 and plate.measure() == pytest.approx(1.0)
    assert set(plate.boundary.names) == {"hot", "cold", "rest"}
    sides = (("hot", 1.0, (0, -1)), ("rest", 1.0, (-1, 0)), ("cold", 2.0, None))
    for name, length, normal in sides:
        part = plate.boundary.part(name)
        assert part.measure() == pytest.approx(length)
        if normal is not None:
            np.testing.assert_allclose(part.draw(5, 0)[1], np.tile(normal, (5, 1)), atol=1e-15)
    assert plate.contains(plate.sample(100, 0)).all()


def test_named_parts_of_a_mesh_in_space(tmp_path):
    """Five tetrahedra fill a cube; the faces at z = 0 are called 'floor'."""
    x = np.array([[i, j, k] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
    tetra = np.array([[0, 3, 5, 6], [0, 1, 3, 5], [0, 2, 3, 6], [0, 4, 5, 6], [3, 5, 6, 7]])
    floor = np.array([[0, 2, 6], [0, 4, 6]])
    tags = [np.full(5, 3), np.full(2, 9)]
    mesh = meshio.Mesh(
        x,
        [("tetra", tetra), ("triangle", floor)],
        cell_data={"gmsh:physical": tags, "gmsh:geometrical": tags},
        field_data={"floor": np.array([9, 2]), "cube": np.array([3, 3])},
    )
    file = tmp_path / "cube.msh"
    meshio.write(file, mesh, file_format="gmsh22", binary=False)
    body = dg.read_mesh(file)
    assert body.measure() == pytest.approx(1.0) and body.boundary.measure() == pytest.approx(6.0)
    at, normal = body.boundary.part("floor").draw(40, 0)
    assert (at[:, 2] == 0).all()
    np.testing.assert_allclose(normal, np.tile((0, 0, -1), (40, 1)), atol=1e-15)
    assert body.contains(np.array([[0.5, 0.5, 0.5], [1.5, 0.5, 0.5]])).tolist() == [True, False]


def test_what_is_no_mesh_is_said(tmp_path):
    (tmp_path / "a.msh").write_text("nothing\n")
    with pytest.raises(RegionError, match="a.msh"):
        dg.read_mesh(tmp_path / "a.msh")
    meshio.write(tmp_path / "b.vtk", meshio.Mesh(np.zeros((2, 3)), [("line", np.array([[0, 1]]))]))
    with pytest.raises(RegionError, match="expected triangles or tetrahedra"):
        dg.read_mesh(tmp_path / "b.vtk")


@pytest.mark.parametrize("package", ["trimesh", "meshio"])
def test_a_missing_package_is_named(package, monkeypatch):
    monkeypatch.setitem(sys.modules, package, None)
    read = {"trimesh": dg.read_body, "meshio": dg.read_mesh}[package]
    with pytest.raises(RegionError, match=r"pip install 'distgram\[geometry\]'"):
        read("part.stl")
