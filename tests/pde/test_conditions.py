"""Conditions at any boundary, coupled points, interfaces, integrals, complex fields: exact
solutions leave no residual, and others do."""

from __future__ import annotations

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import distgram as dg
from distgram.errors import OperatorError, ProblemError, RegionError, UserError
from distgram.linalg.mesh import make_mesh

ONE = dict(progress=False)


def residual(term: dg.Term, u, n: int = 50) -> np.ndarray:
    n = len(term.region.x) if isinstance(term.region, dg.Sites) else n
    x = jnp.asarray(term.region.sample(n, 3))
    return np.asarray(jax.jit(jax.vmap(term.residual(u)))(x))


def wave(x):
    return jnp.sin(x @ jnp.arange(1.0, 1.0 + x.size))[None]


SHAPES = [
    dg.Annulus((0.1, 0.2), 0.5, 1),
    dg.Ellipse((0, 1), (2, 1)).rotated(0.4),
    dg.Ball((0, 1, 0), 2),
    dg.Cylinder((0, 0, 0), 1, 2),
    dg.Disk() - dg.Disk((1, 0)),
    dg.Polygon([(0, 0), (1, 0), (0.5, 2)]),
    dg.Disk() * dg.Interval(0, 1),
]


@pytest.mark.parametrize("shape", SHAPES, ids=lambda s: type(s).__name__)
def test_fluxes_have_the_outward_normal(shape):
    """The flux of a known field by its gradient and the normals that are drawn."""
    edge = shape.boundary
    x, normal = edge.draw(50, 3)
    slope = np.asarray(jax.vmap(jax.grad(lambda x: wave(x)[0]))(jnp.asarray(x)))
    flux, values = np.sum(slope * normal, axis=1), np.asarray(jax.vmap(wave)(jnp.asarray(x)))[:, 0]
    np.testing.assert_allclose(residual(dg.Neumann(0.0, edge), wave)[:, 0], flux, atol=1e-13)
    mixed = residual(dg.Robin(lambda x: x[0], 3.0, 1.0, edge), wave)[:, 0]
    np.testing.assert_allclose(mixed, x[:, 0] * values + 3 * flux - 1.0, atol=1e-13)


def test_fluxes_at_given_points():
    x, normal = dg.Disk().boundary.draw(40, 0)
    cloud = dg.Cloud(x, 2.0 * normal, np.linspace(1, 2, 40))
    term = dg.Neumann(lambda x: x[0] - x[1], cloud)
    np.testing.assert_allclose(residual(term, lambda x: (x[0] - x[1])[None]), 0.0, atol=1e-14)
    assert cloud.measure() == pytest.approx(60.0)
    with pytest.raises(RegionError, match="no normals"):
        dg.Neumann(0.0, dg.Cloud(x))
    with pytest.raises(RegionError, match="normals of shape"):
        dg.Cloud(x, normal[:5])
    with pytest.raises(RegionError, match="numbers > 0"):
        dg.Cloud(x, normal, np.zeros(40))


def test_a_cloud_from_a_file(tmp_path):
    x, normal = dg.Ball().boundary.draw(20, 0)
    weights = np.arange(1.0, 21.0)
    table = np.column_stack([x, normal, weights])
    names = "x,y,z,nx,ny,nz,w"
    for name, columns, header in (("a", 7, names), ("b", 6, ""), ("c", 4, ""), ("d", 3, "")):
        kept = table if columns == 7 else table[:, [*range(min(columns, 6))]]
        kept = np.column_stack([x, weights]) if columns == 4 else kept
        file = tmp_path / f"{name}.csv"
        np.savetxt(file, kept, delimiter=",", header=header, comments="", fmt="%.17g")
        cloud = dg.read_cloud(file, 3)
        np.testing.assert_array_equal(cloud.x, x)
        assert (cloud.normals is not None) == (columns >= 6)
        assert (cloud.weights is not None) == (columns in (4, 7))
    (tmp_path / "e.csv").write_text("1 2 3 4 5\n")
    with pytest.raises(RegionError, match="5 columns: expected 3"):
        dg.read_cloud(tmp_path / "e.csv", 3)


def test_weights_of_a_cloud_weigh_its_rows():
    x, normal = dg.Disk().boundary.draw(4, 0)
    cloud = dg.Cloud(x, normal, np.array([1.0, 1.0, 1.0, 5.0]))
    from distgram.linalg.rows import lay_out
    from distgram.points.draw import Draw, draw

    term = dg.Neumann(0.0, cloud)
    rows, density = draw(term, Draw(4), [0])
    points = lay_out(make_mesh(1), term, rows, density, 1)
    np.testing.assert_allclose(points.sqrt_weight**2, np.array([1, 1, 1, 5]) / 8, rtol=1e-15)


def test_initial_values_of_a_shape_times_time():
    for domain, axis in ((dg.Disk() * dg.Interval(1, 2), 2), (dg.Interval(1, 2) * dg.Disk(), 0)):

        def u(x, axis=axis):
            return (x[axis] ** 2 * jnp.sum(x) - x[axis] ** 3)[None]  # (x + y) t²

        def space(x, axis=axis):
            return jnp.sum(x) - x[axis]

        term = dg.Initial(space, domain, velocity=lambda x, s=space: 2 * s(x))
        np.testing.assert_allclose(residual(term, u), 0.0, atol=1e-14)
    with pytest.raises(ProblemError, match="space and time together"):
        dg.Initial(0.0, dg.Disk())


def test_coupled_points():
    """A field of period 2π/3 in the angle, on the two straight sides of a third of a disk."""
    a = 2 * np.pi / 3
    turn = jnp.asarray([[np.cos(a), -np.sin(a)], [np.sin(a), np.cos(a)]])
    lower = dg.Polygon([(0, 0), (1, 0), (0, 1)]).boundary.part(lambda x: x[1] == 0)

    def u(x):
        return (x[0] ** 3 - 3 * x[0] * x[1] ** 2 + x @ x)[None]

    def v(x):  # z: turned by a it is exp(i a) times as large
        return (x[0] + 1j * x[1])[None]

    for flux in (True, False):
        term = dg.Coupled(lower, lambda x: turn @ x, flux=flux)
        assert abs(residual(term, u)).max() < 1e-14 and abs(residual(term, wave)).max() > 0.1
        term = dg.Coupled(lower, lambda x: turn @ x, np.exp(1j * a), flux)
        assert abs(residual(term, v)).max() < 1e-14
    with pytest.raises(ProblemError, match="a map of points"):
        dg.Coupled(lower, 1.0)  # type: ignore[arg-type]


def test_bloch_waves():
    box = dg.Box((0, 0), (1, 2))

    def u(x):  # exp(i k x) times what is periodic
        return (jnp.exp(0.7j * x[0]) * (2 + jnp.cos(2 * jnp.pi * x[0])) * x[1])[None]

    term = dg.Periodic(box, 0, 2, phase=0.7)
    assert abs(residual(term, u)).max() < 1e-13
    assert abs(residual(dg.Periodic(box, 0, 2), u)).max() > 0.1


RODS = (dg.Interval(0, 0.5), dg.Interval(0.5, 1))
FLUX = 1 / (0.5 / 1 + 0.5 / 10)


def rods(k=(1.0, 10.0)):
    left, right = RODS

    def exact(x):
        """Each component where it has a meaning."""
        both = jnp.stack([1 - FLUX * x[0], FLUX * (1 - x[0]) / 10])
        return jnp.where(jnp.stack([x[0] <= 0.5, x[0] >= 0.5]), both, jnp.nan)

    terms = {
        "left": dg.Term(lambda u: lambda x: dg.partial(u, 0, 2)(x)[:1], 0.0, left),
        "right": dg.Term(lambda u: lambda x: 10 * dg.partial(u, 0, 2)(x)[1:], 0.0, right),
        "contact": dg.Interface(left.face(0, 1), 0, 1, conductivity=k),
        "hot": dg.Dirichlet(1.0, left.face(0, 0), 0),
        "cold": dg.Dirichlet(0.0, right.face(0, 1), 1),
    }
    return dg.Problem(dg.Interval(0, 1), terms, exact=exact, outputs=2, inputs=("x",))


def test_two_rods_in_contact():
    problem = rods()
    points = {"left": 64, "right": 64, "contact": 1, "hot": 1, "cold": 1}
    u = dg.solve(
        *(problem,), network=dg.MLP([16], features="normalize"), points=points, steps=150,
        mesh=make_mesh(1), progress=False,
    )  # fmt: skip
    assert u.result is not None and u.result.errors.keys() == {"u1", "u2"}
    assert u.error is not None and u.error < 1e-8 and max(u.result.errors.values()) < 1e-8
    assert u([0.25])[0] == pytest.approx(1 - FLUX / 4, abs=1e-8)


def test_an_interface_between_two_materials():
    """A disk of conductivity 5 in a plane with a field along x: linear within, a dipole without."""
    k, a = 5.0, 0.5

    def u(x):
        r2 = x @ x
        return jnp.stack([2 / (k + 1) * x[0], x[0] * (1 - (k - 1) / (k + 1) * a**2 / r2)])

    term = dg.Interface(dg.Disk(radius=a).boundary, conductivity=(k, lambda x: 1.0))
    assert abs(residual(term, u)).max() < 1e-14
    assert abs(residual(dg.Interface(dg.Disk(radius=a).boundary), u)).max() > 0.1
    shifted = dg.Interface(
        *(dg.Disk(radius=a).boundary,), conductivity=(k, 1.0), jump=lambda x: x[1], flux=2.0
    )
    np.testing.assert_allclose(
        residual(shifted, lambda x: u(x) + jnp.stack([x[1], 0.0])).mean(axis=0)[0], 0, atol=1e-14
    )
    with pytest.raises(OperatorError, match="component 1"):
        residual(dg.Interface(dg.Disk().boundary), wave)
    with pytest.raises(ProblemError, match="expected two"):
        dg.Interface(dg.Disk().boundary, conductivity=(1.0,))  # type: ignore[arg-type]


def test_integrals_and_means():
    line, disk = dg.Interval(0, 1), dg.Disk((1, 0), 2)

    def state(x):
        return jnp.sqrt(2.0) * jnp.sin(jnp.pi * x)

    norm = dg.Integral(1.0, line, of=lambda u: lambda x: u(x) ** 2)
    assert abs(residual(norm, state)).max() < 1e-14
    mean = dg.Mean(4.0, disk)  # of (x - 1)² + y² + 2 over a disk of radius 2: 2 + 2
    bowl = lambda x: ((x[0] - 1) ** 2 + x[1] ** 2 + 2.0)[None]  # noqa: E731
    assert abs(residual(mean, bowl)).max() < 1e-13
    perimeter = dg.Integral(4 * jnp.pi, disk.boundary, of=lambda u: lambda x: jnp.ones(1))
    assert abs(residual(perimeter, bowl)).max() < 1e-13
    holed = dg.Mean(1.0, disk - dg.Disk((1, 0), 1))  # without nodes: exact for constants
    assert abs(residual(holed, lambda x: jnp.ones(1))).max() < 1e-12
    box = dg.Box((0, 0), (2, 1))  # (t, x): the mean over x of t x² is t/3, at each t
    at_times = dg.Integral(lambda x: x[0] / 3, line, at=box.face(1, 0), axes=(1,))
    assert abs(residual(at_times, lambda x: (x[0] * x[1] ** 2)[None])).max() < 1e-14
    for wrong in (
        lambda: dg.Integral(0.0, line, at=box.face(1, 0)),
        lambda: dg.Integral(0.0, line, axes=(1,)),
        lambda: dg.Integral(0.0, line, nodes=0),
    ):
        with pytest.raises(ProblemError, match="expected"):
            wrong()


def soliton(x):
    return jnp.exp(0.5j * x[0]) / jnp.cosh(x[1])


def schroedinger(h):
    """i h_t + h_xx / 2 + |h|² h."""

    def residual(x):
        u = h(x)
        return 1j * dg.partial(h, 0)(x) + dg.laplacian(h, (1,))(x) / 2 + jnp.abs(u) ** 2 * u

    return residual


def nls():
    box = dg.Box((0.0, -6.0), (0.5, 6.0))
    terms = {
        "interior": dg.Term(schroedinger, 0.0, box),
        "start": dg.Initial(soliton, box),
        "walls": dg.Dirichlet(soliton, box.walls()),
    }
    return dg.Problem(box, terms, exact=soliton, time=0)


def test_a_complex_field_is_two_real_outputs():
    problem = dg.complex_field(nls())
    assert problem.outputs == 2 and problem.exact is not None
    for term in problem.terms:
        r = residual(term, problem.exact)
        assert r.shape == (50, 2) and abs(r).max() < 1e-12
        assert abs(residual(term, lambda x: jnp.stack([x[0], x[1]]))).max() > 0.1
    with pytest.raises(ProblemError, match="complex_field"):
        dg.solve(nls(), steps=1, mesh=make_mesh(1), **ONE)
    with pytest.raises(UserError, match="expected a Problem"):
        dg.complex_field(3)  # type: ignore[arg-type]


def test_complex_numbers_as_targets():
    line = dg.Interval(0, 1)
    problem = dg.complex_field(
        dg.Problem(
            line,
            {
                "growth": dg.Term(lambda h: lambda x: dg.partial(h, 0)(x), 2 + 1j, line),
                "start": dg.Dirichlet(1j, line.face(0, 0)),
                "flux": dg.Neumann(2 + 1j, line.face(0, 1)),
                "mix": dg.Robin(1.0, 1j, 1 + 4j, line.face(0, 1)),
            },
            exact=lambda x: (2 + 1j) * x[0] + 1j,
        )
    )
    exact = problem.exact
    assert exact is not None
    for term in problem.terms:
        r = residual(term, exact, 1)
        assert r.shape == (1, 2) and abs(r).max() < 1e-14, term.name


def test_schroedinger_is_solved():
    u = dg.solve(
        *(dg.complex_field(nls()),),
        network=dg.MLP([20], features="normalize", activation="tanh"),
        points={"interior": 500, "start": 80, "walls": 40},
        steps=60,
        mesh=make_mesh(1),
        **ONE,
    )
    assert u.error is not None and u.error < 1e-2
    assert u.result is not None and set(u.result.errors) == {"u1", "u2"}
