"""Bodies within surfaces of triangles, from STL and other files (trimesh), and mesh files with
named parts, as of gmsh (meshio). A curved surface is as exact as its triangles."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from jaxtyping import Bool, Float

from distgram.errors import RegionError
from distgram.geometry.boundary import Boundary, Drawn, Piece
from distgram.geometry.extra import needed
from distgram.geometry.polygons import Edges, Polygon
from distgram.geometry.region import Domain
from distgram.geometry.samplers import generator, unit_points

AT_ONCE = 2**17  # points that are looked for among the triangles
# A rotation in no relation to any axis: a ray along z then meets no edge and no vertical triangle.
ASKEW = np.linalg.qr(np.array([[1.0, 0.37, -0.21], [-0.29, 1.0, 0.43], [0.17, -0.53, 1.0]]))[0]


class Triangles(Piece):
    """Triangles in space, outward by the right hand.

    The map from the square takes a triangle by the first coordinate, with as much of it as its
    share of the area; what is left of that coordinate, and the second, are the place within: a
    sequence of low discrepancy stays one as far as the order of the triangles allows.

    Args: corners: (t, 3, 3).
    """

    periodic = (False, False)
    traced, mapped = False, False  # the normals are known where points are drawn, and there only

    def __init__(self, corners: Float[np.ndarray, "t 3 3"], name: str = ""):
        self.corners, self.name = np.asarray(corners, np.float64), name
        a, b, c = self.corners.transpose(1, 0, 2)
        cross = np.cross(b - a, c - a)
        double = np.linalg.norm(cross, axis=1)
        self.outward = cross / np.where(double > 0, double, 1.0)[:, None]
        self.area = 0.5 * double
        self.done = np.cumsum(self.area)

    def measure(self):
        return float(self.done[-1])

    def draw(self, n: int, key, sampler: str) -> Drawn:
        unit = unit_points(n, 2, generator(key), sampler)
        at = unit[:, 0] * self.done[-1]
        which = np.minimum(np.searchsorted(self.done, at, side="right"), len(self.done) - 1)
        left = np.clip((self.done[which] - at) / self.area[which], 0.0, 1.0)
        a, b, c = self.corners[which].transpose(1, 0, 2)
        s, t = np.sqrt(left)[:, None], unit[:, 1:]  # equal areas
        return (1 - s) * a + s * ((1 - t) * b + t * c), self.outward[which]

    def place(self, unit):
        raise RegionError(_DRAWN)

    def charts(self):
        raise RegionError(
            "a surface of triangles has no nodes of a quadrature: expected sampler = 'sobol'."
        )

    def normals(self, x):
        raise RegionError(_DRAWN)

    def normal(self, x):
        raise RegionError(_DRAWN)

    def away(self, x):
        raise RegionError(_DRAWN)


_DRAWN = (
    "the normals of a surface of triangles are drawn with its points: expected a condition, as "
    "Neumann or Robin, in place of an operator."
)


class Body(Domain):
    """What is within a closed surface of triangles; `a | b`, `a & b` and `a - b` of two bodies are
    bodies (manifold3d).

    Args:
        corners: (t, 3, 3), outward by the right hand, or all inward. names: of the part of the
            boundary that each triangle belongs to, (t,); None: the boundary is one part, 'surface'.

    Raises: RegionError where the surface is not closed.
    """

    def __init__(self, corners: Float[np.ndarray, "t 3 3"], names: Sequence[str] | None = None):
        trimesh = needed("trimesh", "Body")
        corners = np.asarray(corners, np.float64)
        if not corners.size or corners.shape[1:] != (3, 3) or not np.isfinite(corners).all():
            raise RegionError(f"Body: corners of shape {corners.shape}: expected finite (t, 3, 3).")
        mesh = trimesh.Trimesh(corners.reshape(-1, 3), np.arange(3 * len(corners)).reshape(-1, 3))
        mesh.merge_vertices()
        if not (mesh.is_watertight and mesh.is_winding_consistent):
            once = np.unique(np.sort(mesh.edges, axis=1), axis=0, return_counts=True)[1] != 2
            raise RegionError(
                f"Body: the surface is not closed: {int(once.sum())} edges do not belong to two "
                "triangles of one orientation: expected a watertight mesh; trimesh.repair, or the "
                "program that wrote it, can close it."
            )
        if mesh.volume < 0:
            corners = corners[:, ::-1]
            mesh.invert()
        self.mesh, self.corners = mesh, corners
        self.names = None if names is None else np.asarray(names)
        self.lower = tuple(corners.min(axis=(0, 1)).tolist())
        self.upper = tuple(corners.max(axis=(0, 1)).tolist())

    def __repr__(self):
        return f"Body({len(self.corners)} triangles)"

    def measure(self):
        """The volume, by the divergence theorem."""
        return float(self.mesh.volume)

    @cached_property
    def _above(self) -> tuple[Any, np.ndarray]:
        """The triangles seen along a ray askew to all of them, to be looked up; and turned."""
        shapely = needed("shapely", "Body.contains")
        turned = self.corners @ ASKEW.T
        return shapely.STRtree(shapely.polygons(turned[:, :, :2])), turned

    def contains(self, x: Float[np.ndarray, "n d"]) -> Bool[np.ndarray, " n"]:
        """By the surfaces above a point, each with the side that it shows: their sum is 0 without.

        On the surface itself rounding decides."""
        shapely = needed("shapely", "Body.contains")
        tree, turned = self._above
        inside = np.zeros(len(x), bool)
        box = np.all((x >= self.lower) & (x <= self.upper), axis=1)
        for rows in np.array_split(np.flatnonzero(box), 1 + np.sum(box) // AT_ONCE):
            y = x[rows] @ ASKEW.T
            point, triangle = tree.query(shapely.points(y[:, :2]), predicate="intersects")
            a, b, c = turned[triangle].transpose(1, 0, 2)
            normal = np.cross(b - a, c - a)
            height = np.sum((a - y[point]) * normal, axis=1) / normal[:, 2]
            side = np.where(height > 0, np.sign(normal[:, 2]), 0.0)
            inside[rows] = np.round(np.bincount(point, side, len(rows))) != 0
        return inside

    @cached_property
    def _boundary(self) -> Boundary:
        if self.names is None:
            return Boundary([Triangles(self.corners, "surface")])
        every = dict.fromkeys(self.names.tolist())
        return Boundary(Triangles(self.corners[self.names == name], name) for name in every)

    @property
    def boundary(self) -> Boundary:
        """The surface."""
        return self._boundary

    def _joined(self, how: str, other: Domain) -> Domain | None:
        """The body that two bodies make, None where the other is no body."""
        if not isinstance(other, Body):
            return None
        needed("manifold3d", f"the {how} of two bodies")
        boolean = needed("trimesh.boolean", "Body")
        found = getattr(boolean, how)([self.mesh, other.mesh], engine="manifold")
        if not len(found.triangles):
            raise RegionError(f"the {how} of {self!r} and {other!r}: nothing is left.")
        return Body(found.triangles)

    def __or__(self, other: Domain) -> Domain:
        return self._joined("union", other) or super().__or__(other)

    def __and__(self, other: Domain) -> Domain:
        return self._joined("intersection", other) or super().__and__(other)

    def __sub__(self, other: Domain) -> Domain:
        return self._joined("difference", other) or super().__sub__(other)


class Meshed(Polygon):
    """A domain in the plane that a mesh of triangles fills, the parts of its boundary by name.

    Args: begin, end: of the edges of the boundary, (e, 2), the domain to their left. names: (e,).
    """

    def __init__(self, begin: np.ndarray, end: np.ndarray, names: Sequence[str]):
        shapely = needed("shapely", "a mesh in the plane")
        lines = shapely.multilinestrings(shapely.linestrings(np.stack([begin, end], axis=1)))
        shape = shapely.build_area(lines)
        if shape.geom_type != "Polygon":
            raise RegionError(
                f"a mesh in the plane: it fills a {shape.geom_type}: expected one domain, perhaps "
                "with holes."
            )
        self._take(shape)
        self.edges = begin, end, np.asarray(names)

    @cached_property
    def _boundary(self) -> Boundary:
        begin, end, names = self.edges
        return Boundary(
            Edges(begin[names == name], end[names == name], name)
            for name in dict.fromkeys(names.tolist())
        )


def read_body(file: str | os.PathLike[str]) -> Body:
    """The body within the surface of a file: STL, OBJ, PLY, OFF and what else trimesh reads.

    Raises: RegionError where it cannot be read or is not closed.
    """
    trimesh, path = needed("trimesh", "read_body"), Path(file)
    try:
        mesh = trimesh.load_mesh(path)
        corners = np.asarray(mesh.triangles)
    except Exception as error:  # whatever a reader of a format raises
        raise RegionError(f"{path}: {error}: expected a surface, as an STL file.") from error
    if not len(corners):
        raise RegionError(f"{path}: it has no triangles: expected a surface, as an STL file.")
    return Body(corners)


def read_mesh(file: str | os.PathLike[str]) -> Domain:
    """The domain that the cells of a mesh file fill, as of gmsh: triangles in the plane, tetrahedra
    in space. The parts of its boundary are called by the physical groups of its edges, or faces;
    those in no group 'rest'.

    Raises: RegionError where the file cannot be read, or has no such cells.
    """
    meshio, path = needed("meshio", "read_mesh"), Path(file)
    try:
        mesh = meshio.read(path)
    except (Exception, SystemExit) as error:  # meshio ends the program where it knows no format
        raise RegionError(f"{path}: {error}: expected a mesh that meshio reads.") from error
    cells = mesh.cells_dict
    solid = "tetra" if "tetra" in cells else "triangle"
    if solid not in cells:
        kinds = ", ".join(cells) or "none"
        raise RegionError(f"{path}: its cells are {kinds}: expected triangles or tetrahedra.")
    d = 3 if solid == "tetra" else 2
    x = np.asarray(mesh.points, np.float64)
    if d == 2 and x.shape[1] == 3 and np.ptp(x[:, 2]) > 0:
        raise RegionError(
            f"{path}: a surface in space: expected a mesh in the plane, or read_body for what is "
            "within a surface."
        )
    faces = _outer(x[:, :d], cells[solid])
    names = _names(mesh, "triangle" if d == 3 else "line", faces)
    if d == 2:
        return Meshed(x[faces[:, 0], :2], x[faces[:, 1], :2], names)
    return Body(x[faces], names)


def _outer(x: np.ndarray, cells: np.ndarray) -> np.ndarray:
    """The faces of simplices that belong to one of them only, outward."""
    d = x.shape[1]
    edges = x[cells[:, 1:]] - x[cells[:, :1]]
    cells = np.where((np.linalg.det(edges) < 0)[:, None], cells[:, [1, 0, *range(2, d + 1)]], cells)
    sides = {2: ((0, 1), (1, 2), (2, 0)), 3: ((0, 2, 1), (0, 1, 3), (1, 2, 3), (0, 3, 2))}[d]
    faces = np.concatenate([cells[:, side] for side in sides])
    _, first, counts = np.unique(
        np.sort(faces, axis=1), axis=0, return_index=True, return_counts=True
    )
    return faces[first[counts == 1]]


def _names(mesh: Any, kind: str, faces: np.ndarray) -> list[str]:
    """The name of the physical group of each face."""
    groups = {int(tag): name for name, (tag, _) in mesh.field_data.items()}
    tags = mesh.cell_data_dict.get("gmsh:physical", {}).get(kind, ())
    marked = mesh.cells_dict.get(kind, np.zeros((0, faces.shape[1]), int))
    of = {
        tuple(sorted(face.tolist())): groups.get(int(tag), str(int(tag)))
        for face, tag in zip(marked, tags, strict=False)
    }
    return [of.get(tuple(sorted(face.tolist())), "rest") for face in faces]
