"""What is solved: a problem is terms by name, each an operator, a target and a region."""

from distgram.pde.conditions import Dirichlet, Initial, Neumann, Periodic, Robin
from distgram.pde.operators import (
    along_curve,
    divergence,
    gradient,
    jet2,
    laplacian,
    normal_derivative,
    partial,
    time_derivative,
    value,
    value_gradient_laplacian,
)
from distgram.pde.problem import HardConstraint, Problem, Reference, Term

__all__ = [
    "Dirichlet",
    "HardConstraint",
    "Initial",
    "Neumann",
    "Periodic",
    "Problem",
    "Reference",
    "Robin",
    "Term",
    "along_curve",
    "divergence",
    "gradient",
    "jet2",
    "laplacian",
    "normal_derivative",
    "partial",
    "time_derivative",
    "value",
    "value_gradient_laplacian",
]
