"""What is solved: a problem is terms by name, each an operator, a target and a region."""

from distgram.pde.complex_field import complex_field
from distgram.pde.conditions import Dirichlet, Initial, Neumann, Robin
from distgram.pde.coupling import Coupled, Interface, Periodic
from distgram.pde.integrals import Integral, Mean
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
    "Coupled",
    "Dirichlet",
    "HardConstraint",
    "Initial",
    "Integral",
    "Interface",
    "Mean",
    "Neumann",
    "Periodic",
    "Problem",
    "Reference",
    "Robin",
    "Term",
    "along_curve",
    "complex_field",
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
