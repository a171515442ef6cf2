"""The solution as values: on a grid as NetCDF for xarray or VTK for ParaView, with its derivatives
at given points as columns of a table."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Float

from distgram.errors import ExportError
from distgram.export import needed
from distgram.pde.problem import Field, Problem
from distgram.run.solution import Solution

PER_AXIS = {1: 401, 2: 101, 3: 41}
SCATTERED = 10_000
CELLS = {1: "line", 2: "quad", 3: "hexahedron"}


@dataclass(frozen=True)
class Sampled:
    """u, and the reference where one is known, at points x; `axes` where these are a grid."""

    x: Float[np.ndarray, "n d"]
    axes: tuple[np.ndarray, ...]
    u: Float[np.ndarray, "n m"]
    reference: Float[np.ndarray, "n m"] | None

    def variables(self, outputs: tuple[str, ...]) -> dict[str, tuple[str, np.ndarray]]:
        """name -> (what it is, values (n,))."""
        out = {name: ("solution", self.u[:, i]) for i, name in enumerate(outputs)}
        if self.reference is not None:
            for i, name in enumerate(outputs):
                reference = self.reference[:, i]
                out[f"{name}_reference"] = (f"reference of {name}", reference)
                out[f"{name}_error"] = (f"{name} minus its reference", self.u[:, i] - reference)
        return out


def sampled(solution: Solution) -> Sampled:
    """On the problem's own evaluation grid; else on a grid of PER_AXIS nodes per axis, or beyond
    three dimensions at 10 000 Sobol points (scrambled, seed 0)."""
    problem = solution.problem
    known = problem.known()
    if known is not None and known.grid:
        return Sampled(known.x, known.grid, _masked(problem, known.x, solution(known.x)), known.u)
    axes = problem.domain.axes(PER_AXIS[problem.dim]) if problem.dim <= 3 else ()
    if axes:
        x = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=-1)
    else:
        x = problem.places(SCATTERED, seed=0)
    exact = None
    if problem.exact is not None:
        exact = np.asarray(jax.vmap(problem.exact)(jnp.asarray(x))).reshape(len(x), -1)
        exact = _masked(problem, x, exact)
    return Sampled(x, axes, _masked(problem, x, solution(x)), exact)


def _masked(problem: Problem, x: np.ndarray, u: np.ndarray) -> np.ndarray:
    """Values (n, m) at points (n, d), nan outside the domain."""
    return np.where(problem.inside(x)[:, None], u, np.nan)


def write_netcdf(solution: Solution, folder: Path) -> list[Path]:
    """Write solution.nc in NetCDF 3: one dimension per coordinate, or one dimension `point` if the
    points are no grid. Attributes of the variables say what they are, attributes of the file hold
    the configuration."""
    xarray = needed("xarray", "netcdf")
    values, inputs = sampled(solution), solution.problem.input_names
    if values.axes:
        dims, shape = inputs, tuple(len(axis) for axis in values.axes)
        places = {name: ((name,), axis) for name, axis in zip(inputs, values.axes, strict=True)}
    else:
        dims, shape = ("point",), (len(values.x),)
        places = {name: (dims, column) for name, column in zip(inputs, values.x.T, strict=True)}
    data = xarray.Dataset(
        {
            name: (dims, column.reshape(shape), {"long_name": what, "units": "1"})
            for name, (what, column) in values.variables(solution.problem.output_names).items()
        },
        {
            name: (*place, {"long_name": f"coordinate {name}", "units": "1"})
            for name, place in places.items()
        },
        {
            "title": f"solution of {solution.problem.name}",
            "Conventions": "CF-1.11",
            "source": f"distgram {version('distgram')}",
            "comment": "all quantities are dimensionless",
            "configuration": json.dumps(solution.described),
        },
    )
    data.to_netcdf(folder / "solution.nc", engine="scipy")
    return [folder / "solution.nc"]


def write_vtk(solution: Solution, folder: Path) -> list[Path]:
    """Write solution.vtu: an unstructured grid of lines, quadrilaterals or hexahedra, with the
    variables at its points; missing coordinates are zero. Cells that are not inside are left out.

    Raises:
        ExportError: more than three dimensions.
    """
    meshio = needed("meshio", "vtk")
    d = solution.problem.dim
    if d > 3:
        raise ExportError(f"export to vtk: the domain has {d} dimensions: expected at most 3.")
    values = sampled(solution)
    points = np.pad(values.x, ((0, 0), (0, 3 - d)))
    named = values.variables(solution.problem.output_names)
    corners = cells(tuple(len(axis) for axis in values.axes))
    inside = solution.problem.inside(values.x)
    mesh = meshio.Mesh(
        points,
        [(CELLS[d], corners[inside[corners].all(axis=1)])],
        point_data={name: column for name, (_, column) in named.items()},
    )
    meshio.write(folder / "solution.vtu", mesh)
    return [folder / "solution.vtu"]


def cells(shape: tuple[int, ...]) -> np.ndarray:
    """The cells of a grid of `shape` nodes in 'ij' order as indices of their corners, in VTK's
    order: (i, i+1); around the square; the lower square and the upper one."""
    index = np.arange(np.prod(shape)).reshape(shape)

    def corner(*offset: int) -> np.ndarray:
        picked = (slice(o, n - 1 + o) for o, n in zip(offset, shape, strict=True))
        return index[tuple(picked)].ravel()

    square = ((0, 0), (1, 0), (1, 1), (0, 1))
    corners = {
        1: ((0,), (1,)),
        2: square,
        3: tuple((*xy, z) for z, xy in itertools.product((0, 1), square)),
    }[len(shape)]
    return np.stack([corner(*c) for c in corners], axis=1)


def columns(solution: Solution, x: np.ndarray, order: int) -> Iterator[tuple[str, np.ndarray]]:
    """(name, values (n,)) at points x (n, d): the coordinates, u, its derivatives up to `order`.

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
        second = solution.apply(_hessian, x).reshape(len(x), m, d, d)
        for i, j, k in np.ndindex(m, d, d):
            if j <= k:
                yield f"{outputs[i]}_{inputs[j]}{inputs[k]}", second[:, i, j, k]


def _hessian(u: Field) -> Field:
    """All second derivatives, shape (m d²,): entry (i d + j) d + k is d²u_i/dx_j dx_k."""
    return lambda x: jax.jacfwd(jax.jacfwd(u))(x).reshape(-1)
