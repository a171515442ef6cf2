"""Sections of a run's kernels through one point, at any of its steps: data and picture."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jax.sharding import Mesh
from jaxtyping import Float

from distgram.config.saved import FINAL, load
from distgram.errors import DiagnosisError, nearest
from distgram.linalg.rows import Points
from distgram.pde.problem import Problem, Term
from distgram.report.html import picture
from distgram.report.kernels import KERNELS, Tangent, tangent
from distgram.report.maps import kernels as draw
from distgram.run.stage import Stage, build_stage
from distgram.store.checkpoint import newest

PER_AXIS = {1: 401, 2: 101}
NAMES = {"ntk": "NTK", "nntk": "NNTK", "green": "Green's function"}


@dataclass(frozen=True)
class Section:
    """A kernel at a step as a function of x, k(x, at), shape (n, k, m): k components at x, m
    equations at the point; and what regularized it."""

    kernel: str
    step: int | str
    values: Float[np.ndarray, "n k m"]
    alpha: float
    rank: int
    singular_values: Float[np.ndarray, " s"]


def diagnose(
    run_dir: Path,
    kernels: Sequence[str],
    steps: Sequence[int | str],
    at: Sequence[float],
    mesh: Mesh,
    term: str | None = None,
    rcond: float = 1e-10,
    trust: bool = False,
) -> tuple[Path, Path]:
    """Write RUN/diagnostics/NAME.npz, NAME.png and, for the page of the run, what the picture shows
    in words in NAME.json: each kernel at each step through one point.

    Args:
        kernels: of KERNELS. steps: of `solution.load`. at: the point y, d numbers in the domain.
        term: whose operator D is; by default the first one that is left to the loss.
        rcond: regularization α over the largest singular value, dimensionless, in (0, 1).
        trust: as of `distgram.load`.

    Raises:
        DiagnosisError: no such kernel or term, a point outside the domain, rcond outside (0, 1).
        what `solution.load` raises.
    """
    run_dir = Path(run_dir).absolute()
    for kernel in kernels:
        if kernel not in KERNELS:
            raise DiagnosisError(f"kernel {kernel!r} is not known: {nearest(kernel, KERNELS)}")
    if not 0 < rcond < 1:
        raise DiagnosisError(f"rcond = {rcond!r}: expected 0 < rcond < 1.")
    stage, points, thetas = _stage(run_dir, steps, mesh, trust)
    stood = int(newest(run_dir / "checkpoints").name) if FINAL in steps else None
    chosen, y = _term(stage.terms, term), _point(stage.problem, at)
    x, axes = grid(stage.problem, y)
    sections = []
    for step, theta in zip(steps, thetas, strict=True):
        here = tangent(stage.residual, theta, points, rcond)
        sections += [_section(kernel, step, here, chosen, x, y) for kernel in kernels]
    given = ["-".join(kernels), "-".join(map(str, steps)), chosen.name, *map(str, at)]
    name = "_".join([*given, f"rcond-{rcond:g}"])
    folder = run_dir / "diagnostics"
    folder.mkdir(exist_ok=True)
    data, png = folder / f"{name}.npz", folder / f"{name}.png"
    np.savez_compressed(data, **_arrays(sections, x, y, axes))  # type: ignore[arg-type]
    shown = [panel for section in sections for panel in _panels(section)]
    words = _words(sections, chosen, stage.problem, y)
    words += f" Left out: singular values below {rcond:g} times the largest one."
    figure = draw(shown, axes, y, stage.problem.input_names, len(shown) // len(steps))
    png.write_bytes(picture(figure, words).png)
    told = {
        "title": f"{', '.join(NAMES[k] for k in kernels)} of {chosen.name} at "
        f"{', '.join(map(str, at))}, {_at_steps(steps, stood)}, α = {rcond:g} Δ̂₁",
        "alt": words,
        "final": stood,
    }
    (folder / f"{name}.json").write_text(json.dumps(told, ensure_ascii=False), encoding="utf-8")
    return png, data


def _stage(
    run_dir: Path, steps: Sequence[int | str], mesh: Mesh, trust: bool
) -> tuple[Stage, tuple[Points, ...], list[np.ndarray]]:
    """What a run solved, its collocation points before the first step, and its parameters at steps.

    Raises:
        DiagnosisError: a run in time slabs.
    """
    solutions = [load(run_dir, step, trust=trust) for step in steps]
    setup = solutions[0].setup
    slabs = max(len(found.parts) for found in solutions)
    if setup.slabs is not None:
        slabs = max(slabs, setup.slabs.count)
    if slabs > 1:
        raise DiagnosisError(f"{run_dir}: a run in {slabs} time slabs: expected time in one piece.")
    stage = build_stage(setup, mesh)
    return stage, stage.points(), [found.theta for found in solutions]


def _at_steps(steps: Sequence[int | str], stood: int | None) -> str:
    """As in 'step 40', 'steps initial, final (80)', where the run stood at step 80."""
    words = [f"{step} ({stood})" if step == FINAL else str(step) for step in steps]
    return f"step{'s' * (len(steps) > 1)} {', '.join(words)}"


def _words(sections: Sequence[Section], term: Term, problem: Problem, y: np.ndarray) -> str:
    """What the panels show, for those who cannot see them."""
    point = ", ".join(f"{n} = {v:g}" for n, v in zip(problem.input_names, y, strict=True))
    shown = "; ".join(
        f"{NAMES[s.kernel]} at step {s.step}, from {s.values.min():.3g} to {s.values.max():.3g}"
        for s in sections
    )
    return f"Kernels of the term {term.name} through the point {point}, over the domain: {shown}."


def grid(problem: Problem, y: np.ndarray) -> tuple[np.ndarray, tuple[np.ndarray, ...]]:
    """Points x (n, d) of the domain on a grid along its first two axes, the others held at y; and
    the axes."""
    dims = min(problem.dim, 2)
    axes = problem.domain.axes(PER_AXIS[dims])[:dims]
    nodes = np.stack([a.ravel() for a in np.meshgrid(*axes, indexing="ij")], axis=-1)
    return np.concatenate([nodes, np.tile(y[dims:], (len(nodes), 1))], axis=1), axes


def _section(
    kernel: str, step: int | str, at: Tangent, term: Term, x: np.ndarray, y: np.ndarray
) -> Section:
    values = KERNELS[kernel](at, term, x, y[None])[:, :, 0, :]
    return Section(kernel, step, values, at.alpha, at.rank, np.asarray(at.spectrum.s))


def _term(terms: Sequence[Term], name: str | None) -> Term:
    named = {t.name: t for t in terms}
    if name is None:
        return terms[0]
    if name not in named:
        raise DiagnosisError(f"term {name!r} is not one of the loss: {nearest(name, named)}")
    return named[name]


def _point(problem: Problem, at: Sequence[float]) -> np.ndarray:
    box, y = problem.domain, np.asarray(at, np.float64)
    inside = y.shape == (box.dim,) and all(
        low <= value <= high for low, value, high in zip(box.lower, y, box.upper, strict=True)
    )
    if not inside:
        raise DiagnosisError(
            f"at = {','.join(f'{v:g}' for v in y)}: expected {', '.join(problem.input_names)} in "
            f"the box from {list(box.lower)} to {list(box.upper)}."
        )
    return y


def _arrays(
    sections: Sequence[Section], x: np.ndarray, y: np.ndarray, axes: tuple[np.ndarray, ...]
) -> dict[str, np.ndarray]:
    out = {"x": x, "at": y} | {f"axis_{i}": axis for i, axis in enumerate(axes)}
    for s in sections:
        out[f"{s.kernel}_{s.step}"] = s.values
        out[f"singular_values_{s.step}"] = s.singular_values
        out[f"alpha_{s.step}"] = np.asarray(s.alpha)
    return out


def _panels(section: Section) -> list[tuple[str, np.ndarray]]:
    """(title, values) of every component: kernel, step, and what regularized it."""
    _, k, m = section.values.shape
    step = f"step {section.step}" if isinstance(section.step, int) else section.step
    title = f"{NAMES[section.kernel]}, {step}"
    if section.kernel != "ntk":
        title += rf", $\alpha$ = {section.alpha:.1e}, rank {section.rank}"
    return [
        (title if k * m == 1 else f"{title} [{i + 1}, {j + 1}]", section.values[:, i, j])
        for i in range(k)
        for j in range(m)
    ]
