"""Runs on domains beyond boxes: every placement, focus, decay, quadrature; time slabs; exact
boundary values; the choices for a problem alone."""

from __future__ import annotations

import jax.numpy as jnp
import numpy as np
import pytest

import distgram as dg
from distgram.errors import ProblemError, RegionError
from distgram.linalg.mesh import make_mesh
from distgram.pde.problems.poisson2d_c import Series, series
from distgram.pde.registry import get
from distgram.run import automatic, front
from distgram.run.setup import Setup
from distgram.run.stage import build_stage
from distgram.run.state import bare_points, start

HOLED = dg.Rectangle((-1, -1), (1, 1)) - dg.Disk((0.1, 0), 0.4)
HOLE = HOLED.boundary.part(dg.Disk((0.1, 0), 0.4))


@pytest.fixture(scope="module", autouse=True)
def one_device():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(front, "make_mesh", lambda: make_mesh(1))
        yield


def holed() -> dg.Problem:
    terms = {
        "interior": dg.Term(dg.laplacian, 0.0, HOLED),
        "hole": dg.Robin(1.0, 0.5, lambda x: x[0], HOLE),
        "square": dg.Dirichlet(lambda x: x[0], dg.Rectangle((-1, -1), (1, 1)).boundary),
    }
    return dg.Problem(HOLED, terms)


POINTS = {"interior": 60, "hole": 20, "square": 20}


@pytest.mark.parametrize(
    "placement",
    [dg.Fresh(every=1), dg.RAD(every=1), dg.RAR(every=1), dg.R3(every=1), dg.Leverage(every=1),
     dg.Greedy(every=1)],
    ids=lambda p: p.name,
)  # fmt: skip
def test_points_that_move_stay_in_the_domain(placement):
    u = dg.solve(
        *(holed(),), network=dg.MLP([5]), points=POINTS, placement=placement, steps=3,
        progress=False,
    )  # fmt: skip
    arrays = u.record.solution_arrays()
    x = np.asarray(arrays["points_interior"])
    assert HOLED.contains(x).all() and len(np.unique(x, axis=0)) == len(x)
    circle = np.asarray(arrays["points_hole"]) - np.array([0.1, 0])
    np.testing.assert_allclose(np.linalg.norm(circle, axis=1), 0.4, rtol=1e-12)


def drawn(**asked):
    points = {name: dg.Draw(count) for name, count in POINTS.items()} | asked
    stage = build_stage(Setup(holed(), network=dg.MLP([4]), points=points), make_mesh(1))
    return bare_points(stage, start(stage)), stage


def test_focus_decay_and_quadrature():
    focus = dg.Focus(axis=0, center=0.8, width=0.05, fraction=0.5)
    x, _ = drawn(interior=dg.Draw(400, focus=focus))
    assert HOLED.contains(x["interior"]).all()
    assert (abs(x["interior"][:, 0] - 0.8) < 0.1).mean() > 0.3
    _, stage = drawn(interior=dg.Draw(60, decay=dg.Decay(axis=0, rate=2.0)))
    plain = drawn()[1]
    at = jnp.asarray([0.5, 0.9])
    u = plain.model.field(plain.model.theta0)
    ratio = stage.terms[0].residual(u)(at) / plain.terms[0].residual(u)(at)
    np.testing.assert_allclose(ratio, np.exp(-2.0 * 1.5), rtol=1e-12)  # from x = -1, its lower end
    x, _ = drawn(hole=dg.Draw(20, sampler="gauss_legendre"))
    np.testing.assert_allclose(np.linalg.norm(x["hole"] - np.array([0.1, 0]), axis=1), 0.4)
    for name, asked, error in (
        ("interior", dg.Draw(64, sampler="gauss_legendre"), RegionError),
        ("hole", dg.Draw(20, focus=focus), ProblemError),
        ("hole", dg.Draw(20, decay=dg.Decay(axis=0, rate=2.0)), ProblemError),
        ("interior", dg.Draw(61, sampler="grid"), RegionError),
    ):
        with pytest.raises(error, match=f"points.{name}"):
            drawn(**{name: asked})


def test_points_are_the_same_on_any_number_of_devices():
    found = []
    for devices in (1, 2, 8):
        stage = build_stage(Setup(holed(), network=dg.MLP([4]), points=POINTS), make_mesh(devices))
        found.append(bare_points(stage, start(stage)))
    for other in found[1:]:
        for name, x in found[0].items():
            np.testing.assert_array_equal(x, other[name])


def test_time_slabs_of_a_disk():
    """u_t - Δu = f on a disk at all times, u = (1 - r²) exp(-t), in two slabs."""
    space_time = dg.Disk() * dg.Interval(0, 1)

    def exact(x):
        return (1 - x[0] ** 2 - x[1] ** 2) * jnp.exp(-x[2])

    def heat(u):
        return lambda x: dg.partial(u, 2)(x) - dg.laplacian(u, (0, 1))(x)

    terms = {
        "interior": dg.Term(heat, lambda x: 4 * jnp.exp(-x[2]) - exact(x), space_time),
        "start": dg.Initial(exact, space_time, weight=10.0),
        "rim": dg.Dirichlet(0.0, space_time.walls(), weight=10.0),
    }
    problem = dg.Problem(space_time, terms, exact=exact, time=2, inputs=("x", "y", "t"))
    points = {"interior": 300, "start": 80, "rim": 80}
    u = dg.solve(
        *(problem,), network=dg.MLP([12], features="normalize"), points=points,
        slabs=dg.Slabs(slabs=2), steps=60, progress=False,
    )  # fmt: skip
    assert len(u.parts) == 2 and u.edges == [0.0, 0.5, 1.0]
    assert u.error is not None and u.error < 1e-3
    wrong = dg.Problem(dg.Ball(), {"all": dg.Term(dg.laplacian, 0.0, dg.Ball())}, time=2)
    with pytest.raises(ProblemError, match=r"\[time\] cannot cut"):
        dg.solve(wrong, slabs=dg.Slabs(slabs=2), network=dg.MLP([4]), progress=False)


def test_a_body_with_fluxes_beside_its_points():
    """u = x z in a cube of triangles: harmonic, its fluxes through the sides known."""
    trimesh = pytest.importorskip("trimesh")
    body = dg.Body(trimesh.creation.box(bounds=[(0, 0, 0), (1, 1, 1)]).triangles)
    ends = body.boundary.part(lambda x: (x[2] < 1e-9) | (x[2] > 1 - 1e-9))
    sides = body.boundary.part(lambda x: (x[2] > 0) & (x[2] < 1))
    assert sides.measure() == pytest.approx(4.0, rel=1e-3)

    def flux(x):
        return jnp.where(x[0] < 1e-9, -x[2], jnp.where(x[0] > 1 - 1e-9, x[2], 0.0))

    terms = {
        "interior": dg.Term(dg.laplacian, 0.0, body),
        "ends": dg.Dirichlet(lambda x: x[0] * x[2], ends),
        "sides": dg.Neumann(flux, sides),
    }
    u = dg.solve(
        *(dg.Problem(body, terms, exact=lambda x: x[0] * x[2]),), steps=40, progress=False,
        network=dg.MLP([8], features="normalize"), placement=dg.RAD(every=10),
        points={"interior": 150, "ends": 60, "sides": 80},
    )  # fmt: skip
    assert u.error is not None and u.error < 1e-3
    assert np.asarray(u.record.solution_arrays()["points_sides"]).shape == (80, 3)
    with pytest.raises(RegionError, match="normals are those of its points"):
        u.residual("sides", [[1.0, 0.5, 0.5]])


def test_boundary_values_by_an_approximate_distance():
    """u = 0 on the circle exactly, and no points there."""
    problem = get("poisson_disk")
    hard = dg.HardConstraint(
        lift=lambda x: jnp.zeros(1),
        distance=lambda x: problem.domain.distance(x)[None],
        satisfies=("boundary",),
    )
    problem = dg.Problem(problem.domain, problem.terms, exact=problem.exact, constraint=hard)
    u = dg.solve(
        *(problem,), network=dg.MLP([12]), points={"interior": 300}, hard_constraint=True, steps=60,
        progress=False,
    )  # fmt: skip
    assert u.error is not None and u.error < 1e-7
    assert abs(u(problem.domain.boundary.sample(100, 0))).max() < 1e-15


def test_choices_for_a_problem_alone():
    """As many points of an equation, and of a face, as in a square."""
    chosen = automatic.choices(get("poisson2d_c"))["points"]
    assert chosen["square"].count == 4 * round(2.5 * chosen["interior"].count ** 0.5)
    assert chosen["circles"].count >= chosen["square"].count
    ball = automatic.choices(get("poisson_ball"))["points"]
    assert ball["boundary"].count == ball["interior"].count // 2


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "points", "bound"),
    [("poisson_disk", (600, 120), 1e-8), ("poisson_ball", (700, 200), 1e-7)],
)
def test_what_is_reached(name, points, bound):
    inside, edge = points
    u = dg.solve(
        *(get(name),), network=dg.MLP([14, 14], features="normalize"), steps=400, progress=False,
        points={"interior": inside, "boundary": dg.Draw(edge, weight=100.0)},
    )  # fmt: skip
    assert u.error is not None and u.error < bound


def test_the_reference_of_the_square_without_disks():
    """Its misfit on the boundary bounds its error; its values are symmetric."""
    found = series()
    assert isinstance(found, Series) and found.misfit < 1e-11
    x = np.array([[0.1, 0.4], [0.4, 0.1], [-0.1, 0.4], [-0.4, -0.1]])
    assert np.ptp(found(x)) < 1e-12
    known = get("poisson2d_c").known()
    assert known is not None and np.nanmax(known.u) <= 1 + 1e-11 and np.nanmin(known.u) > -1e-11
    assert np.isnan(known.u).mean() == pytest.approx(0.04 * np.pi, abs=0.01)


@pytest.mark.parametrize(
    "name",
    ["poisson_disk", "poisson_ball", "laplace_annulus", "poisson_annulus", "laplace_lshape"],
)
def test_exact_solutions_leave_no_residual(name):
    import jax

    problem = get(name)
    assert problem.exact is not None
    for term in problem.terms:
        x = jnp.asarray(term.region.sample(300, 7))
        x = x[jnp.linalg.norm(x, axis=1) > 0.05]  # the L is singular at its corner
        r = np.asarray(jax.jit(jax.vmap(term.residual(problem.exact)))(x))
        assert abs(r).max() < 1e-10, term.name
