"""What comes out of a run: exports that are loaded back, tables of values, kernels."""

from __future__ import annotations

import csv
import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cli_runs import TINY, Folder, no_figures

import distgram
from distgram.export.weights import read
from distgram.pde.operators import partial

PDE = """
import jax.numpy as jnp
from distgram.pde.operators import value
from distgram.pde.problem import Problem, Term
from distgram.geometry.regions import Box

box = Box((0.0, 0.0, -1.0), (1.0, 1.0, 2.0))
def problem(scale=1.0):
    f = lambda x: scale * jnp.stack([x[0] * x[2], x[1]])
    return Problem(box, {'interior': Term(value, f, box)}, name='map', exact=f, outputs=2,
                   inputs=('t', 'x', 'y'))
"""
THREE = """
[problem]
file = "map.py"
parameters = { scale = 2.0 }
[model]
hidden = [4]
features = "fourier"
modes = 2
activation_scale = true
[points]
interior = { count = 60 }
[run]
steps = 2
checkpoint_every = 1
held_out = 16
"""


@pytest.fixture(scope="module")
def runs(tmp_path_factory) -> Folder:
    """`square`: laplace2d. `box`: a user's problem of three inputs and two outputs."""
    folder = Folder(tmp_path_factory.mktemp("outputs"))
    with pytest.MonkeyPatch.context() as patch:
        no_figures(patch)
        assert folder.solve(out="square", text=TINY.replace("steps = 6", "steps = 2")).code == 0
        folder.write("map.py", PDE)
        assert folder.solve(out="box", text=THREE).code == 0
    (folder.path / "map.py").unlink()  # the run folders hold all that is needed
    return folder


def exported(runs: Folder, run: str, kind: str):
    ended = runs.call("export", runs.path / run, "--to", kind)
    assert ended.code == 0, ended
    return runs.path / run / "export"


@pytest.mark.parametrize("run", ["square", "box"])
def test_safetensors_bring_the_model_back_to_the_last_bit(runs, run):
    there, back = distgram.load(runs.path / run), read(exported(runs, run, "safetensors"))
    x = there.problem.domain.sobol(32, seed=1)
    assert np.array_equal(back.theta, there.theta)
    assert np.array_equal(back(x), there(x)) and np.array_equal(back.gradient(x), there.gradient(x))


def test_the_jax_artefact_runs_without_distgram(runs):
    """In a process that cannot import it, at 1e-15; with its derivative by reverse mode."""
    folder, u = exported(runs, "square", "jax"), distgram.load(runs.path / "square")
    x = u.problem.domain.sobol(32, seed=1)
    np.save(folder / "x.npy", x)
    code = (
        "import sys; sys.modules['distgram'] = sys.modules['flax'] = None\n"
        "import jax, numpy as np\n"
        "jax.config.update('jax_enable_x64', True)\n"
        "import jax.export\n"
        "u = jax.export.deserialize(open('solution.jax', 'rb').read()).call\n"
        "x = np.load('x.npy')\n"
        "gradient = jax.grad(lambda x: u(x).sum())(x)\n"
        "np.savez('u.npz', u=u(x), one=u(x[:1]), gradient=gradient)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=folder, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    found = np.load(folder / "u.npz")
    # values of size one, another order of sums
    assert np.allclose(found["u"], u(x), rtol=0, atol=1e-15)
    assert np.allclose(found["one"], u(x[:1]), rtol=0, atol=1e-15)
    assert np.allclose(found["gradient"], u.gradient(x), rtol=0, atol=1e-14)


def test_netcdf(runs):
    import xarray

    for run, inputs in (("square", ("x", "y")), ("box", ("t", "x", "y"))):
        with xarray.open_dataset(exported(runs, run, "netcdf") / "solution.nc") as file:
            data = file.load()
        u = distgram.load(runs.path / run)
        grid = np.stack(np.meshgrid(*(data[name] for name in inputs), indexing="ij"), axis=-1)
        values = u(grid.reshape(-1, len(inputs)))
        assert data.attrs["title"] == f"solution of {u.problem.name}"
        for i, name in enumerate(("u",) if run == "square" else ("u1", "u2")):
            assert data[name].dims == inputs and data[name].attrs["units"] == "1"
            found = np.asarray(data[name]).ravel()
            assert np.allclose(found, values[:, i], rtol=0, atol=1e-15)
            error = found - np.asarray(data[f"{name}_reference"]).ravel()
            assert np.array_equal(np.asarray(data[f"{name}_error"]).ravel(), error)


def test_vtk(runs):
    """Cells of positive size that fill the domain; the values at their corners are the solution."""
    import meshio

    for run, kind, size in (("square", "quad", 1.0), ("box", "hexahedron", 3.0)):
        mesh = meshio.read(exported(runs, run, "vtk") / "solution.vtu")
        u, d = distgram.load(runs.path / run), 2 if run == "square" else 3
        (block,) = mesh.cells
        assert block.type == kind
        corners = mesh.points[block.data]
        edges = [corners[:, i] - corners[:, 0] for i in ((1, 3) if d == 2 else (1, 3, 4))]
        assert np.sum(np.linalg.det(np.stack(edges, 1)[:, :, :d])) == pytest.approx(size, rel=1e-12)
        values = u(mesh.points[:, :d])
        name = "u" if d == 2 else "u1"
        assert np.allclose(mesh.point_data[name], values[:, 0], rtol=0, atol=1e-15)


def test_a_missing_package_is_named_with_its_remedy(runs, monkeypatch):
    monkeypatch.setitem(sys.modules, "xarray", None)
    sentence = runs.call("export", runs.path / "square", "--to", "netcdf").sentence
    assert "netcdf" in sentence and "pip install 'distgram[export]'" in sentence


def test_values_and_derivatives_at_the_points_of_a_table(runs):
    points = runs.write("points.csv", "y,t,x\n-0.5,0.25,1\n\n2,0,0.125\n")
    out = runs.path / "values.csv"
    run = runs.path / "box"
    asked = ("eval", run, "--at", points, "--derivatives", 2, "--out")
    ended = runs.call(*asked, out)
    assert ended.code == 0 and ended.out.strip() == str(out)
    for there in (points, out):  # neither the points nor older values are overwritten
        before = there.read_bytes()
        assert "file exists" in runs.call(*asked, there).sentence
        assert there.read_bytes() == before
    with open(out) as file:
        rows = list(csv.DictReader(file))
    u, x = distgram.load(run), np.array([[0.25, 1.0, -0.5], [0.0, 0.125, 2.0]])

    def column(name):
        return np.array([float(row[name]) for row in rows])

    assert list(rows[0])[:7] == ["t", "x", "y", "u1", "u2", "u1_t", "u1_x"]
    assert len(rows[0]) == 3 + 2 + 2 * 3 + 2 * 6
    assert np.array_equal(np.stack([column(n) for n in "txy"], 1), x)
    assert np.array_equal(np.stack([column("u1"), column("u2")], 1), u(x))
    assert np.array_equal(column("u2_y"), u.gradient(x)[:, 5])
    # nested forward mode in another order of operations: values of size one to ten
    assert np.allclose(column("u1_xx"), u.partial(x, 1, 2)[:, 0], rtol=0, atol=1e-13)
    mixed = u.apply(lambda v: partial(partial(v, 2), 0), x)
    assert np.allclose(column("u2_ty"), mixed[:, 1], rtol=0, atol=1e-13)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x,y\n0,0\n0.5,zero\n", ["row 2", "'y'", "'zero'", "finite number"]),
        ("x,y\n0,nan\n", ["row 1", "'y'", "'nan'"]),
        ("x,y\n0,0\n0.5\n", ["row 2", "1 values", "expected 2"]),
        ("x,y\n0,0\n0.5,1.5\n", ["row 2", "y = 1.5 is outside", "0 to 1"]),
        ("x,z\n0,0\n", ["column 'y' is missing", "x, z"]),
        ("x,y,yy\n0,0,0\n", ["unknown column 'yy'", "did you mean 'y'?"]),
        ("x,y,x\n0,0,0\n", ["column 'x'", "2 times"]),
        ("x,y\n", ["no rows"]),
        ("", ["is empty"]),
    ],
)
def test_a_wrong_table_is_named(runs, text, words):
    points = runs.write("points.csv", text)
    sentence = runs.call("eval", runs.path / "square", "--at", points).sentence
    for word in ("points.csv", *words):
        assert word in sentence, sentence


def test_kernels_of_a_run(runs):
    """Sections at two steps, in one figure; the diagonal of a kernel is not negative."""
    run = runs.path / "square"
    asked = ("--kernel", "ntk", "--kernel", "nntk", "--step", "initial", "--step", 2)
    ended = runs.call("diagnose", run, *asked, "--at", "0.5,0.25", "--devices", 2)
    assert ended.code == 0, ended
    picture, data = ended.out.split()
    assert Path(picture).read_bytes()[:8] == b"\x89PNG\r\n\x1a\n"
    with np.load(data) as file:
        at = np.flatnonzero((file["x"] == [0.5, 0.25]).all(1))
        assert len(at) == 1
        for name in ("ntk_initial", "nntk_initial", "ntk_2", "nntk_2"):
            assert file[name].shape == (101**2, 1, 1) and file[name][at[0]] > 0
        assert not np.array_equal(file["ntk_initial"], file["ntk_2"])


def test_kernels_say_where_of_when_and_at_what_regularization(runs):
    """Another point, α or step is another picture; the same again replaces its own."""
    run = runs.path / "square"
    folder = run / "diagnostics"
    before = set(folder.glob("*")) if folder.is_dir() else set()

    def drawn(at: str, rcond: float) -> tuple[Path, str]:
        ended = runs.call("diagnose", run, "--kernel", "green", "--at", at, "--rcond", rcond)
        assert ended.code == 0, ended
        picture = Path(ended.out.split()[0])
        told = json.loads(picture.with_suffix(".json").read_text())
        assert told["final"] == 2
        return picture, told["title"]

    first, title = drawn("0.5,0.25", 1e-6)
    assert title == "Green's function of interior at 0.5, 0.25, step final (2), α = 1e-06 Δ̂₁"
    others = [drawn("0.25,0.5", 1e-6), drawn("0.5,0.25", 1e-3)]
    assert len({first, *(p for p, _ in others)}) == len({title, *(t for _, t in others)}) == 3
    first.write_bytes(b"of an older run")
    assert drawn("0.5,0.25", 1e-6) == (first, title)
    assert first.read_bytes()[:4] == b"\x89PNG"
    assert len(set(folder.glob("*")) - before) == 9  # picture, data and words of three


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (["--kernel", "nntkk", "--at", "0,0"], ["'nntkk'", "did you mean 'nntk'?"]),
        (["--kernel", "ntk", "--at", "0,2"], ["at = 0,2", "x, y", "[1.0, 1.0]"]),
        (["--kernel", "ntk", "--at", "0.5"], ["at = 0.5", "x, y"]),
        (["--kernel", "ntk", "--at", "half"], ["--at 'half'", "numbers"]),
        (["--kernel", "ntk", "--at", "0,0", "--step", "9"], ["step 9", "[0, 2]"]),
        (["--kernel", "ntk", "--at", "0,0", "--step", "last"], ["'last'", "'final'"]),
        (["--kernel", "ntk", "--at", "0,0", "--term", "inner"], ["'inner'", "'interior'?"]),
        (["--kernel", "ntk", "--at", "0,0", "--rcond", "2"], ["rcond = 2.0", "< 1"]),
        (["--kernel", "ntk", "--at", "0,0", "--devices", "9"], ["devices=9", "1 to 8"]),
    ],
)
def test_a_kernel_that_cannot_be_is_named(runs, asked, words):
    sentence = runs.call("diagnose", runs.path / "square", *asked).sentence
    for word in words:
        assert word in sentence, sentence
