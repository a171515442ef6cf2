"""One stage of a registered problem: what a step needs, without a run."""

from __future__ import annotations

from typing import Any

from distgram.linalg.mesh import make_mesh
from distgram.pde.registry import get
from distgram.run.setup import Setup
from distgram.run.stage import Stage, build_stage


def stage(problem: Any = "laplace2d", devices: int = 1, **setup: Any) -> Stage:
    """The first stage of a problem, or of a registered one by its name.

    Args:
        setup: the arguments of `distgram.solve`.
    """
    posed = get(problem) if isinstance(problem, str) else problem
    return build_stage(Setup(posed, **setup), make_mesh(devices))
