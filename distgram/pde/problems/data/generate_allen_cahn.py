"""Computes the reference table of the Allen-Cahn problem, allen_cahn.npz, from nothing.

    u_t = D u_xx + 5 (u - u^3),   u(t, -1) = u(t, 1) = -1,   u(0, x) = x^2 cos(pi x)

Space: Legendre-Galerkin for w = u + 1 with the even functions  L_k - L_{k+2}, k = 0, 2, 4, ...,
which vanish at the ends and make the stiffness matrix the identity. Its generalised eigenvectors
leave independent modes, c' = -D lambda c + F(c). Time: the exponential Runge-Kutta method ETDRK4,
exact in the stiff linear part. F(c) is the projection of 5 (u - u^3) by Gauss-Legendre quadrature.

Usage: python generate_allen_cahn.py OUT.npz
Source: Shen, SIAM J. Sci. Comput. 15 (1994) 1489 (basis); Cox and Matthews, J. Comput. Phys. 176
(2002) 430 (ETDRK4); Kassam and Trefethen, SIAM J. Sci. Comput. 26 (2005) 1214 (its coefficients).
"""

from __future__ import annotations

import sys
from collections.abc import Callable

import numpy as np
from scipy.linalg import eigh_tridiagonal
from scipy.special import roots_legendre

DIFFUSIVITY = 1e-3
RATE = 5.0


def basis(x: np.ndarray, modes: int) -> np.ndarray:
    """(L_k - L_{k+2}) / sqrt(4 k + 6) at x for the first even k = 0, 2, ..., shape (x, modes)."""
    legendre = np.empty((2 * modes + 1, len(x)))
    legendre[0], legendre[1] = 1.0, x
    for k in range(1, 2 * modes):
        legendre[k + 1] = ((2 * k + 1) * x * legendre[k] - k * legendre[k - 1]) / (k + 1)
    k = np.arange(0, 2 * modes, 2)
    return ((legendre[k] - legendre[k + 2]) / np.sqrt(4 * k + 6)[:, None]).T


def eigenmodes(modes: int) -> tuple[np.ndarray, np.ndarray]:
    """Eigenvalues of -d^2/dx^2 in the basis, and its eigenvectors, orthonormal in L2 on [-1, 1]."""
    k = np.arange(0, 2 * modes, 2)
    scale = 1 / np.sqrt(4 * k + 6)
    diagonal = scale**2 * (2 / (2 * k + 1) + 2 / (2 * k + 5))
    beside = -scale[:-1] * scale[1:] * 2 / (2 * k[:-1] + 5)
    mass, vectors = eigh_tridiagonal(diagonal, beside)
    return 1 / mass, vectors / np.sqrt(mass)


def exponential_step(
    rate: np.ndarray, force: Callable[[np.ndarray], np.ndarray], h: float
) -> Callable[[np.ndarray], np.ndarray]:
    """One step of length h of ETDRK4 for  c' = rate c + force(c),  rate of shape (modes,)."""
    full, half = np.exp(h * rate), np.exp(h * rate / 2)
    # The coefficients cancel badly near 0: means over a unit circle around each h rate instead.
    circle = np.exp(1j * np.pi * (np.arange(32) + 0.5) / 32)
    z = h * rate[:, None] + circle
    e = np.exp(z)
    inner = h * ((np.exp(z / 2) - 1) / z).mean(1).real
    first = h * ((-4 - z + e * (4 - 3 * z + z**2)) / z**3).mean(1).real
    middle = 2 * h * ((2 + z + e * (z - 2)) / z**3).mean(1).real
    last = h * ((-4 - 3 * z - z**2 + e * (4 - z)) / z**3).mean(1).real

    def step(c: np.ndarray) -> np.ndarray:
        f0 = force(c)
        a = half * c + inner * f0
        fa = force(a)
        fb = force(half * c + inner * fa)
        fc = force(half * a + inner * (2 * fb - f0))
        return full * c + first * f0 + middle * (fa + fb) + last * fc

    return step


def solve(t: np.ndarray, x: np.ndarray, modes: int = 400, steps_between: int = 40) -> np.ndarray:
    """The solution at equidistant times t, from t[0] = 0, and places x, shape (t, x)."""
    eigenvalues, vectors = eigenmodes(modes)
    nodes, weights = roots_legendre(4 * modes)
    nodes, weights = nodes[2 * modes :], 2 * weights[2 * modes :]  # even: half of them, twice
    at_nodes = basis(nodes, modes) @ vectors
    project = np.ascontiguousarray((at_nodes * weights[:, None]).T)
    at_x = basis(x, modes) @ vectors

    def force(c: np.ndarray) -> np.ndarray:
        w = at_nodes @ c
        return project @ (RATE * w * (1 - w) * (w - 2))  # u - u^3 with u = w - 1

    step = exponential_step(-DIFFUSIVITY * eigenvalues, force, (t[1] - t[0]) / steps_between)
    c = project @ (nodes**2 * np.cos(np.pi * nodes) + 1)
    rows = [x**2 * np.cos(np.pi * x)]
    for _ in t[1:]:
        for _ in range(steps_between):
            c = step(c)
        rows.append(at_x @ c - 1)
    return np.array(rows)


def main() -> None:
    """Write the table on 101 times in [0, 1] and 201 places in [-1, 1] to the file named."""
    if len(sys.argv) != 2:
        raise SystemExit("usage: python generate_allen_cahn.py OUT.npz")
    t, x = np.linspace(0.0, 1.0, 101), np.linspace(-1.0, 1.0, 201)
    np.savez(sys.argv[1], t=t, x=x, u=solve(t, x))


if __name__ == "__main__":
    main()
