"""Pictures of a run over its domain as matplotlib Figures: the solution, planes through it, the
collocation points, the residual between them, kernels.

The colour range of log10 |error| and log10 |residual| starts at the first percentile, and half a
decade to DECADES below the largest value: neither the lines where these change sign nor values that
are equal to the last bit fill the range.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Protocol

import numpy as np
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure

from distgram.geometry.region import Domain
from distgram.pde.problem import Problem, Term
from distgram.report.curves import (
    BLACK,
    BLUE,
    COLOURS,
    VERMILION,
    Arrays,
    dress,
    plain,
)

MARKERS = "osD^vP*X"
DECADES = 6
PER_AXIS = 241  # of a residual map
UNKNOWN = "#bbbbbb"  # what is not finite stays grey


def symbol(name: str) -> str:
    """A coordinate's name as mathematics: t gives $t$, x1 gives $x_{1}$."""
    match = re.fullmatch(r"([a-zA-Z])_?([0-9]*)", name)
    if match is None:
        return plain(name)
    return f"${match[1]}_{{{match[2]}}}$" if match[2] else f"${match[1]}$"


def coordinates(field: Arrays, d: int) -> list[str]:
    """Symbols of the d coordinates: the stored names, or x_1 ... x_d where they are missing."""
    stored = [str(n) for n in np.atleast_1d(field["names"])] if "names" in field else []
    return [symbol(n) for n in (stored if len(stored) == d else [f"x{i + 1}" for i in range(d)])]


def solution(field: Arrays) -> Figure:
    """Solution, reference and log10 |error|, one row per output; the form depends on the points.

    Lines in one dimension, maps on a two-dimensional grid; else a scatter of u against the
    reference and a histogram of log10 |error|, or without a reference u over two coordinates.

    Args:
        field: the arrays of solution.npz.
    """
    x, u = field["x"], field["u"]
    reference = field.get("reference")
    d, m = x.shape[1], u.shape[1]
    axes = grid(field)
    columns = 1 if reference is None else 3 if axes else 2
    width = {1: 5.2, 2: 9.6, 3: 13.2}[columns]
    fig = Figure(figsize=(width, 3.9 * m), layout="constrained")
    labels = coordinates(field, d)
    for k, row in enumerate(fig.subplots(m, columns, squeeze=False)):
        name = f"$u_{{{k + 1}}}$" if m > 1 else "$u$"
        exact = None if reference is None else reference[:, k]
        if axes:
            _maps(list(row), axes, u[:, k], exact, labels, name)
        elif d == 1:
            _lines(list(row), x[:, 0], u[:, k], exact, labels[0], name)
        elif exact is not None:
            _against(list(row), u[:, k], exact, name)
        else:
            drawn = row[0].scatter(x[:, 0], x[:, 1], c=u[:, k], s=6, lw=0)
            fig.colorbar(drawn, ax=row[0])
            dress(row[0], labels[0], labels[1], f"solution {name}", grid=False)
    return fig


def slices(field: Arrays) -> Figure:
    """u on planes through the centre of the domain, and where it is known the reference and
    log10 |error|: a row a plane and an output.

    Args:
        field: the arrays of solution.npz.
    """
    pairs, nodes, at = (field[f"slice_{key}"] for key in ("axes", "nodes", "at"))
    u, exact = field["slice_u"], field.get("slice_reference")
    d, m = len(at), u.shape[-1]
    labels = coordinates(field, d)
    columns = 1 if exact is None else 3
    size = (5.2 if columns == 1 else 13.2, 3.9 * len(pairs) * m)
    fig = Figure(figsize=size, layout="constrained")
    rows = iter(fig.subplots(len(pairs) * m, columns, squeeze=False))
    for s, (i, j) in enumerate(pairs):
        others = [f"{labels[k]} = {at[k]:.3g}" for k in range(d) if k not in (i, j)]
        where = f" at {', '.join(others[:3])}{', ...' * (len(others) > 3)}" if others else ""
        for k in range(m):
            name = (f"$u_{{{k + 1}}}$" if m > 1 else "$u$") + where
            _maps(
                list(next(rows)),
                (nodes[i], nodes[j]),
                u[s, ..., k].ravel(),
                None if exact is None else exact[s, ..., k].ravel(),
                [labels[i], labels[j]],
                name,
            )
    return fig


def grid(field: Arrays) -> tuple[np.ndarray, np.ndarray] | None:
    """The axes of the evaluation points where these are a grid in two dimensions."""
    both = field.get("axis_0"), field.get("axis_1")
    if field["x"].shape[1] != 2 or both[0] is None or both[1] is None:
        return None
    return both[0], both[1]


def _log_error(u: np.ndarray, exact: np.ndarray) -> tuple[np.ndarray, str]:
    """log10 |u - exact|, zeros raised to the smallest positive error, and a line about its size."""
    error = np.abs(u - exact)
    known = error[np.isfinite(error)]
    floor = known[known > 0].min() if (known > 0).any() else np.finfo(float).tiny
    text = r"$\log_{10}$ |error|: "
    if known.size < error.size:
        text += f"{error.size - known.size} non-finite, "
    rms, most = (np.sqrt(np.mean(known**2)), known.max()) if known.size else (np.nan, np.nan)
    return np.log10(np.maximum(error, floor)), text + f"rms {rms:.2g}, max {most:.2g}"


def _range(logs: np.ndarray) -> tuple[float, float]:
    """The colour range of logarithms: see above."""
    known = logs[np.isfinite(logs)]
    low, high = np.percentile(known, [1, 100]) if known.size else (0.0, 1.0)
    return float(np.clip(low, high - DECADES, high - 0.5)), float(high)


def _maps(
    row: list[Axes],
    axes: tuple[np.ndarray, np.ndarray],
    u: np.ndarray,
    exact: np.ndarray | None,
    labels: list[str],
    name: str,
) -> None:
    """Maps of one output on a grid: u, and if it is known the reference and log10 |error|.

    Args:
        axes: the nodes of both coordinates, (a,) and (b,). u, exact: values at them, (a*b,), 'ij'.
    """
    both = np.concatenate([u] if exact is None else [u, exact])
    both = both[np.isfinite(both)]
    low, high = (both.min(), both.max()) if both.size else (0.0, 1.0)
    shown = [(u, f"solution {name}", low, high, "viridis", "neither")]
    if exact is not None:
        error, text = _log_error(u, exact)
        shown.append((exact, f"reference {name}", low, high, "viridis", "neither"))
        shown.append((error, text, *_range(error), "cividis", "min"))
    for ax, (values, title, least, most, colours, extend) in zip(row, shown, strict=True):
        ax.set_facecolor(UNKNOWN)
        # interpolated between nodes, but for the error, whose nodal lines are as thin as a node
        smooth = colours == "viridis" and np.isfinite(values).all()
        drawn = ax.pcolormesh(
            *axes,
            values.reshape(len(axes[0]), len(axes[1])).T,
            vmin=least,
            vmax=most,
            cmap=colours,
            shading="gouraud" if smooth else "nearest",
        )
        ax.set_xlim(axes[0].min(), axes[0].max())
        ax.set_ylim(axes[1].min(), axes[1].max())
        ax.figure.colorbar(drawn, ax=ax, extend=extend)
        dress(ax, labels[0], labels[1], title, grid=False)


def _lines(
    row: list[Axes], x: np.ndarray, u: np.ndarray, exact: np.ndarray | None, label: str, name: str
) -> None:
    order = np.argsort(x)
    row[0].plot(x[order], u[order], color=BLUE, lw=2.4, label=f"solution {name}")
    if exact is not None:
        row[0].plot(x[order], exact[order], "--", color=VERMILION, label="reference")
        error, text = _log_error(u, exact)
        row[1].plot(x[order], error[order], color=BLACK, lw=1.2)
        dress(row[1], label, r"$\log_{10}$ |error|", text)
        row[0].legend(frameon=False)
    dress(row[0], label, name, f"solution {name}")


def _against(row: list[Axes], u: np.ndarray, exact: np.ndarray, name: str) -> None:
    row[0].scatter(exact, u, s=5, color=to_rgba(BLUE, 0.4), lw=0, label="evaluation points")
    known = exact[np.isfinite(exact)]
    ends = [known.min(), known.max()] if known.size else [0.0, 1.0]
    row[0].plot(ends, ends, color=VERMILION, lw=1.2, label="solution = reference")
    row[0].legend(frameon=False)
    dress(row[0], f"reference {name}", f"solution {name}", "solution against reference")
    error, text = _log_error(u, exact)
    row[1].hist(error[np.isfinite(error)], bins=60, color=BLUE)
    squares = (u - exact)[np.isfinite(u - exact)] ** 2
    if squares.any():
        rms = 0.5 * np.log10(squares.mean())
        row[1].axvline(rms, color=VERMILION, lw=1.6, label="rms")
        row[1].legend(frameon=False)
    dress(row[1], r"$\log_{10}$ |error|", "evaluation points", text)


def points_by_term(field: Arrays) -> dict[str, Float[np.ndarray, "n d"]]:
    """The collocation points of every term in solution.npz."""
    return {k.removeprefix("points_"): v for k, v in field.items() if k.startswith("points_")}


def points(field: Arrays) -> Figure:
    """Collocation points by term; beyond two dimensions a panel per term, on the first two axes.

    Args:
        field: the arrays of solution.npz, with at least one array of points.
    """
    terms = points_by_term(field)
    d = next(iter(terms.values())).shape[1]
    labels = coordinates(field, d)
    if d > 2:
        columns = min(3, len(terms))
        height = -(-len(terms) // columns)
        fig = Figure(figsize=(3.6 * columns, 3.5 * height), layout="constrained")
        axes = list(fig.subplots(height, columns, squeeze=False, sharex=True, sharey=True).ravel())
    else:
        fig = Figure(figsize=(6.6, 5.0 if d == 2 else 1.0 + 0.5 * len(terms)), layout="constrained")
        axes = [fig.subplots()] * len(terms)
    handles = {}
    for i, (ax, (term, x)) in enumerate(zip(axes, terms.items(), strict=False)):
        y = x[:, 1] if d > 1 else np.full(len(x), -float(i))
        size = float(np.clip(6000 / max(len(x), 1), 4, 24))
        face = to_rgba(COLOURS[i % 8], 0.45 if len(x) > 2000 else 0.85)
        name = f"{plain(term)}: {len(x)} points"
        mark = MARKERS[i % 8]
        handles[name] = ax.scatter(x[:, 0], y, s=size, color=face, marker=mark, lw=0, clip_on=False)
        if d > 2:
            dress(ax, labels[0], labels[1], name)
    for ax in axes[len(terms) :]:
        ax.set_visible(False)
    if d > 2:
        fig.suptitle(f"projection on the first two of {d} coordinates", fontsize=10)
    elif d == 2:
        dress(axes[0], *labels)
        fig.legend(
            handles.values(), handles, loc="outside lower center", ncols=3, frameon=False,
            markerscale=1.6,
        )  # fmt: skip
    else:
        dress(axes[0], labels[0])
        axes[0].set_yticks(-np.arange(len(terms)), list(handles))
        axes[0].set_ylim(0.5 - len(terms), 0.5)
    return fig


class Evaluated(Protocol):
    """What a residual map needs of a solution."""

    @property
    def problem(self) -> Problem:
        """The problem it solves."""
        ...

    def residual(self, term: Term, x: np.ndarray) -> np.ndarray:
        """D[u](x) - f(x) of a term at points (n, d), shape (n, m)."""
        ...


class ResidualMap(NamedTuple):
    """|D[u](x) - f(x)| of one term, (a, b), over the axes of a grid, (a,) and (b,), and the
    collocation points of the term (n, 2)."""

    axes: tuple[Float[np.ndarray, " a"], Float[np.ndarray, " b"]]
    residual: Float[np.ndarray, "a b"]
    points: Float[np.ndarray, "n 2"]
    names: tuple[str, str]

    @property
    def rms(self) -> float:
        """Root mean square over the nodes that are inside."""
        return float(np.sqrt(np.nanmean(self.residual**2)))


def residual_maps(
    solution: Evaluated, field: Arrays, per_axis: int = PER_AXIS
) -> dict[str, ResidualMap]:
    """The map of every term on a two-dimensional domain that has points, nan outside.

    An overfitted solution satisfies the equation at the points and not between them; where points
    lie on lines, the residual is small along these lines only. Source: Schwencke, Rousselot,
    Shilova, Furtlehner 2025 (residual lines along the sampling lines, cured by denser points).

    Args:
        field: the arrays of solution.npz, whose points these are.
    """
    problem, drawn = solution.problem, points_by_term(field)
    if problem.dim != 2:
        return {}
    a, b = problem.input_names
    maps = {}
    for term in problem.terms:
        region = term.region
        if term.name not in drawn or not isinstance(region, Domain):
            continue
        axes = region.axes(per_axis)
        x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
        # a line of the grid at a time: operators may need much memory a point
        r = np.concatenate([solution.residual(term, line) for line in np.split(x, per_axis)])
        size = np.where(region.holds(x), np.linalg.norm(r, axis=1), np.nan)
        size = size.reshape(per_axis, per_axis)
        maps[term.name] = ResidualMap((axes[0], axes[1]), size, drawn[term.name], (a, b))
    return maps


def residual(maps: Mapping[str, ResidualMap]) -> Figure:
    """Maps of log10 |residual| side by side, by title, in one colour range, points over them."""
    shown = {
        title: np.log10(np.where(m.residual > 0, m.residual, np.nan)) for title, m in maps.items()
    }
    low, high = _range(np.concatenate([values.ravel() for values in shown.values()]))
    fig = Figure(figsize=(6.4 * len(maps), 4.9), layout="constrained")
    cells = fig.subplots(1, len(maps), squeeze=False)[0]
    for ax, (title, m) in zip(cells, maps.items(), strict=True):
        ax.set_facecolor(UNKNOWN)
        drawn = ax.pcolormesh(
            *m.axes, shown[title].T, vmin=low, vmax=high, cmap="cividis", shading="nearest"
        )
        size = float(np.clip(3000 / max(len(m.points), 1), 0.4, 6))
        ax.scatter(*m.points.T, s=size, color="#ff5a36", lw=0)
        ax.figure.colorbar(drawn, ax=ax, extend="min", label=r"$\log_{10}$ |residual|")
        text = f"{plain(title)}: {len(m.points)} points, rms {m.rms:.2g}"
        dress(ax, symbol(m.names[0]), symbol(m.names[1]), text, grid=False)
    return fig


def signed_map(ax: Axes, axes: tuple[np.ndarray, ...], values: np.ndarray) -> None:
    """Values on the grid of two axes, in diverging colours symmetric about zero."""
    most = float(np.nanmax(np.abs(values))) or 1.0
    drawn = ax.pcolormesh(
        *axes,
        values.reshape(len(axes[0]), len(axes[1])).T,
        vmin=-most,
        vmax=most,
        cmap="RdBu_r",
        shading="gouraud",
    )
    ax.figure.colorbar(drawn, ax=ax)


def kernels(
    shown: Sequence[tuple[str, np.ndarray]],
    axes: tuple[np.ndarray, ...],
    at: np.ndarray,
    names: Sequence[str],
    columns: int,
) -> Figure:
    """Kernels as functions of x: lines in one dimension, maps in two, each with its own range.

    Args:
        shown: (title, values on the grid of `axes`), one per panel. at: the kernels' other point,
        which is marked. names: of the coordinates.
    """
    height = -(-len(shown) // columns)
    fig = Figure(figsize=(4.6 * columns, 3.7 * height), layout="constrained")
    cells = fig.subplots(height, columns, squeeze=False).ravel()
    labels = [symbol(n) for n in names]
    for ax, (title, values) in zip(cells, shown, strict=False):
        if len(axes) == 1:
            ax.plot(axes[0], values, color=BLUE, lw=1.8)
            ax.axvline(at[0], color=VERMILION, ls=":", lw=1.4)
            dress(ax, labels[0], "", title)
            continue
        signed_map(ax, axes, values)
        ax.plot(at[0], at[1], "+", color=BLACK, ms=9, mew=1.4)
        dress(ax, labels[0], labels[1], title, grid=False)
    for ax in cells[len(shown) :]:
        ax.set_visible(False)
    return fig
