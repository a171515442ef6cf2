"""Partial differential equations to machine precision by natural-gradient neural networks.

    import distgram as dg

    square = dg.Box((0, 0), (1, 1))
    problem = dg.Problem(square, {
        "interior": dg.Term(lambda u: dg.laplacian(u), -1.0, square),
        "edge": dg.Dirichlet(0.0, square.boundary),
    })
    u = dg.solve(problem)
    u([0.5, 0.5])

The names below are the front door; a name is imported when it is first asked for, so that
`import distgram` alone imports no jax. The first of them sets jax to float64: a constant or a
network that was made in float32 before would spoil every digit beyond the seventh.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distgram.config.saved import load as load
    from distgram.errors import UserError as UserError
    from distgram.geometry.boundary import Boundary as Boundary
    from distgram.geometry.clouds import Cloud as Cloud
    from distgram.geometry.clouds import read_cloud as read_cloud
    from distgram.geometry.polygons import Polygon as Polygon
    from distgram.geometry.region import Domain as Domain
    from distgram.geometry.region import Region as Region
    from distgram.geometry.regions import Box as Box
    from distgram.geometry.regions import Faces as Faces
    from distgram.geometry.regions import Interval as Interval
    from distgram.geometry.regions import Rectangle as Rectangle
    from distgram.geometry.regions import Sites as Sites
    from distgram.geometry.shapes import Annulus as Annulus
    from distgram.geometry.shapes import Ball as Ball
    from distgram.geometry.shapes import Cylinder as Cylinder
    from distgram.geometry.shapes import Disk as Disk
    from distgram.geometry.shapes import Ellipse as Ellipse
    from distgram.geometry.surfaces import Body as Body
    from distgram.geometry.surfaces import read_body as read_body
    from distgram.geometry.surfaces import read_mesh as read_mesh
    from distgram.linalg.dual import Dual as Dual
    from distgram.linalg.factorization import Factorization as Factorization
    from distgram.linalg.gram import Gram as Gram
    from distgram.linalg.mesh import make_mesh as make_mesh
    from distgram.linalg.randomized import Randomized as Randomized
    from distgram.linalg.tsqr import TSQR as TSQR
    from distgram.net.features import Stretch as Stretch
    from distgram.net.mlp import MLP as MLP
    from distgram.net.network import Network as Network
    from distgram.net.unknown import Unknown as Unknown
    from distgram.pde.complex_field import complex_field as complex_field
    from distgram.pde.conditions import Dirichlet as Dirichlet
    from distgram.pde.conditions import Initial as Initial
    from distgram.pde.conditions import Neumann as Neumann
    from distgram.pde.conditions import Robin as Robin
    from distgram.pde.coupling import Coupled as Coupled
    from distgram.pde.coupling import Interface as Interface
    from distgram.pde.coupling import Periodic as Periodic
    from distgram.pde.integrals import Integral as Integral
    from distgram.pde.integrals import Mean as Mean
    from distgram.pde.measurements import measured as measured
    from distgram.pde.operators import along_curve as along_curve
    from distgram.pde.operators import divergence as divergence
    from distgram.pde.operators import gradient as gradient
    from distgram.pde.operators import laplacian as laplacian
    from distgram.pde.operators import normal_derivative as normal_derivative
    from distgram.pde.operators import partial as partial
    from distgram.pde.operators import time_derivative as time_derivative
    from distgram.pde.operators import value as value
    from distgram.pde.operators import value_gradient_laplacian as value_gradient_laplacian
    from distgram.pde.problem import HardConstraint as HardConstraint
    from distgram.pde.problem import Problem as Problem
    from distgram.pde.problem import Reference as Reference
    from distgram.pde.problem import Term as Term
    from distgram.points.adaptive.fresh import Fresh as Fresh
    from distgram.points.adaptive.greedy import Greedy as Greedy
    from distgram.points.adaptive.leverage import Leverage as Leverage
    from distgram.points.adaptive.placement import Growth as Growth
    from distgram.points.adaptive.placement import Placed as Placed
    from distgram.points.adaptive.placement import Placement as Placement
    from distgram.points.adaptive.r3 import R3 as R3
    from distgram.points.adaptive.rad import RAD as RAD
    from distgram.points.adaptive.rar import RAR as RAR
    from distgram.points.draw import Decay as Decay
    from distgram.points.draw import Draw as Draw
    from distgram.points.draw import Focus as Focus
    from distgram.rules.adaptive_ratio import AdaptiveRatio as AdaptiveRatio
    from distgram.rules.amstramgram import AMStramGRAM as AMStramGRAM
    from distgram.rules.anagram import ANaGRAM as ANaGRAM
    from distgram.rules.baselines.adam import Adam as Adam
    from distgram.rules.baselines.engd import ENGD as ENGD
    from distgram.rules.baselines.lbfgs import LBFGS as LBFGS
    from distgram.rules.baselines.ssbroyden import SSBroyden as SSBroyden
    from distgram.rules.extrapolation import Extrapolation as Extrapolation
    from distgram.rules.line_search import Backtracking as Backtracking
    from distgram.rules.line_search import GridSearch as GridSearch
    from distgram.rules.rule import Rule as Rule
    from distgram.rules.rule import StepInfo as StepInfo
    from distgram.run.front import solve as solve
    from distgram.run.setup import Limits as Limits
    from distgram.run.setup import Memory as Memory
    from distgram.run.setup import Schedule as Schedule
    from distgram.run.setup import Slabs as Slabs
    from distgram.run.solution import Solution as Solution

# Where each name of the front door is defined.
_HOMES = {
    "config.saved": ["load"],
    "errors": ["UserError"],
    "geometry.boundary": ["Boundary"],
    "geometry.clouds": ["Cloud", "read_cloud"],
    "geometry.polygons": ["Polygon"],
    "geometry.region": ["Domain", "Region"],
    "geometry.regions": ["Box", "Faces", "Interval", "Rectangle", "Sites"],
    "geometry.shapes": ["Annulus", "Ball", "Cylinder", "Disk", "Ellipse"],
    "geometry.surfaces": ["Body", "read_body", "read_mesh"],
    "linalg.dual": ["Dual"],
    "linalg.factorization": ["Factorization"],
    "linalg.gram": ["Gram"],
    "linalg.mesh": ["make_mesh"],
    "linalg.randomized": ["Randomized"],
    "linalg.tsqr": ["TSQR"],
    "net.features": ["Stretch"],
    "net.mlp": ["MLP"],
    "net.network": ["Network"],
    "net.unknown": ["Unknown"],
    "pde.complex_field": ["complex_field"],
    "pde.conditions": ["Dirichlet", "Initial", "Neumann", "Robin"],
    "pde.coupling": ["Coupled", "Interface", "Periodic"],
    "pde.integrals": ["Integral", "Mean"],
    "pde.measurements": ["measured"],
    "pde.operators": [
        "along_curve",
        "divergence",
        "gradient",
        "laplacian",
        "normal_derivative",
        "partial",
        "time_derivative",
        "value",
        "value_gradient_laplacian",
    ],
    "pde.problem": ["HardConstraint", "Problem", "Reference", "Term"],
    "points.adaptive.fresh": ["Fresh"],
    "points.adaptive.greedy": ["Greedy"],
    "points.adaptive.leverage": ["Leverage"],
    "points.adaptive.placement": ["Growth", "Placed", "Placement"],
    "points.adaptive.r3": ["R3"],
    "points.adaptive.rad": ["RAD"],
    "points.adaptive.rar": ["RAR"],
    "points.draw": ["Decay", "Draw", "Focus"],
    "rules.adaptive_ratio": ["AdaptiveRatio"],
    "rules.amstramgram": ["AMStramGRAM"],
    "rules.anagram": ["ANaGRAM"],
    "rules.baselines.adam": ["Adam"],
    "rules.baselines.engd": ["ENGD"],
    "rules.baselines.lbfgs": ["LBFGS"],
    "rules.baselines.ssbroyden": ["SSBroyden"],
    "rules.extrapolation": ["Extrapolation"],
    "rules.line_search": ["Backtracking", "GridSearch"],
    "rules.rule": ["Rule", "StepInfo"],
    "run.front": ["solve"],
    "run.setup": ["Limits", "Memory", "Schedule", "Slabs"],
    "run.solution": ["Solution"],
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}
__all__ = sorted(_HOME_OF)  # pyright: ignore[reportUnsupportedDunderAll]


def __getattr__(name: str) -> Any:
    """A name of the front door, imported when first asked for."""
    if name in _HOME_OF:
        if (
            not _HOME_OF.keys() & globals().keys()
        ):  # once: later it would hide that it is turned off
            importlib.import_module("jax").config.update("jax_enable_x64", True)
        found = getattr(importlib.import_module(f"distgram.{_HOME_OF[name]}"), name)
        globals()[name] = found
        return found
    raise AttributeError(f"module 'distgram' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
