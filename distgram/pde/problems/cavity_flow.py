"""The reference flow in a cavity: a Legendre-Galerkin stream function, its corners by hand.

The stream function psi, v = (psi_y, -psi_x), satisfies  (1/Re) Laplace^2 psi = v . grad Laplace psi
and takes psi = 0 on the walls of [0, 1]^2, psi_y = 4 x (1 - x) on the lid, and no slope elsewhere.
In each upper corner the lid asks for a slope along y that the wall does not have: with a the
distance from the wall, b that from the lid and theta = arctan(b / a),

    psi ~ pi b^2 - 2 a b - 2 theta (a^2 + b^2),     p ~ (4/Re) log(a^2 + b^2)

of which the Laplacian is many-valued at the corner. Both corners' parts are taken out; what is left
is of order r^3.7 and has a good polynomial.
"""

from __future__ import annotations

import numpy as np
from numpy.polynomial import Polynomial, legendre
from scipy.special import roots_legendre


def flow(x: np.ndarray, y: np.ndarray, reynolds: float, degree: int = 40) -> np.ndarray:
    """Velocity and pressure on the tensor grid of x and y in [0, 1], shape (x, y, 3).

    The pressure is 0 in the middle of the bottom, and infinite at the upper corners.

    Args: degree: polynomials per direction for the stream function.
    """
    a = _stream(reynolds, degree)
    along, across, corners = _basis(2 * x - 1, degree), _basis(2 * y - 1, degree), _corners(x, y)
    u = along[0].T @ a @ across[1] + corners[0, 1]
    v = -(along[1].T @ a @ across[0] + corners[1, 0])
    return np.stack([u, v, _pressure(a, x, y, reynolds)], axis=-1)


def _corners(x: np.ndarray, y: np.ndarray) -> dict[tuple[int, int], np.ndarray]:
    """Derivatives of both corners' parts of psi on a tensor grid, by their orders in x and y."""
    out = {}
    for side in (1, -1):
        a, b = np.meshgrid(x if side == 1 else 1 - x, 1 - y, indexing="ij")
        theta, square = np.arctan2(b, a), a**2 + b**2
        with np.errstate(invalid="ignore"):  # the second derivatives have no value at the corner
            turn = a * b / square, a**2 / square
        parts = {
            (0, 0): np.pi * b**2 - 2 * a * b - 2 * theta * square,
            (1, 0): -4 * a * theta * side,
            (0, 1): 4 * a + 4 * b * theta - 2 * np.pi * b,
            (2, 0): 4 * turn[0] - 4 * theta,
            (1, 1): 4 * turn[1] * side,
            (0, 2): 2 * np.pi - 4 * theta - 4 * turn[0],
        }
        out = {key: part + out.get(key, 0.0) for key, part in parts.items()}
    return out


def _basis(s: np.ndarray, n: int) -> np.ndarray:
    """n + 4 polynomials at s in [-1, 1] and their first three derivatives by x = (1 + s)/2.

    The first four are Hermite's: one each has the value at x = 0, the value at 1, the slope at 0
    and the slope at 1. The others have none of them, L_k - .. L_{k+2} + .. L_{k+4}, and make the
    biharmonic operator well conditioned. Shape (4, n + 4, s).

    Source: Shen, SIAM J. Sci. Comput. 15 (1994) 1489.
    """
    k = np.arange(n)
    c = np.zeros((n + 4, n))
    scale = 1 / ((2 * k + 3) * np.sqrt(2 * (2 * k + 5)))
    c[k, k] = scale
    c[k + 2, k] = -scale * 2 * (2 * k + 5) / (2 * k + 7)
    c[k + 4, k] = scale * (2 * k + 3) / (2 * k + 7)
    hermite = [Polynomial(p) for p in ([1, 0, -3, 2], [0, 0, 3, -2], [0, 1, -2, 1], [0, 0, -1, 1])]
    return np.array(
        [
            np.concatenate(
                [
                    [p.deriv(d)((1 + s) / 2) for p in hermite],
                    2**d * legendre.legval(s, legendre.legder(c, d)),
                ]
            )
            for d in range(4)
        ]
    )


def _nodes(degree: int) -> tuple[np.ndarray, np.ndarray]:
    """Gauss-Legendre nodes in [-1, 1], and their weights on an interval of length 1."""
    s, weight = roots_legendre(2 * degree + 8)
    return s, weight / 2


def _lift(degree: int) -> np.ndarray:
    """Coefficients of a polynomial with the boundary values and slopes that are left for psi."""
    s, _ = _nodes(degree)
    x, ends = (1 + s) / 2, np.array([0.0, 1.0])
    walls, floors = _corners(ends, x), _corners(x, ends)
    lid = np.stack([np.zeros_like(x), 4 * x * (1 - x)])
    fit = np.linalg.pinv(_basis(s, degree)[0].T)
    a = np.zeros((degree + 4, degree + 4))
    a[:4] = -np.concatenate([walls[0, 0], walls[1, 0]]) @ fit.T
    a[:, :4] = fit @ np.concatenate([-floors[0, 0].T, lid - floors[0, 1].T]).T
    return a


def _stream(reynolds: float, degree: int) -> np.ndarray:
    """Coefficients of psi without its corners: Newton's method for the weak form

        (1/Re) int Laplace psi Laplace phi + int Laplace psi (psi_y phi_x - psi_x phi_y) = 0

    for all phi that have no values and slopes on the walls. Of the corners' parts the first
    integral vanishes: they are biharmonic.

    Raises: RuntimeError: Newton's method does not converge, as at a high Reynolds number.
    """
    s, weight = _nodes(degree)
    f = _basis(s, degree)
    g = f[:, 4:]
    corners = _corners((1 + s) / 2, (1 + s) / 2)
    w, size = np.outer(weight, weight), degree * degree

    def tested(values: np.ndarray, i: int, j: int) -> np.ndarray:
        return g[i] @ (w * values) @ g[j].T

    def product(values: np.ndarray, k: int, m: int, i: int, j: int) -> np.ndarray:
        """int values phi'^(k, m) phi^(i, j) for all phi (rows) and phi' (columns)."""
        along = np.einsum("ap,bp,pq->abq", g[i], g[k], w * values, optimize=True)
        across = g[j][:, None] * g[m][None]
        both = along.reshape(size, -1) @ across.reshape(size, -1).T
        return both.reshape((degree,) * 4).transpose(0, 2, 1, 3).reshape(size, size)

    mass, cross, stiff = ((g[i] * weight) @ g[j].T for i, j in ((0, 0), (0, 2), (2, 2)))
    viscous = (np.kron(stiff, mass) + 2 * np.kron(cross, cross) + np.kron(mass, stiff)) / reynolds
    a = _lift(degree)
    for _ in range(20):

        def smooth(i: int, j: int, a: np.ndarray = a) -> np.ndarray:
            return f[i].T @ a @ f[j]

        psi_x, psi_y = smooth(1, 0) + corners[1, 0], smooth(0, 1) + corners[0, 1]
        rest = smooth(2, 0) + smooth(0, 2)
        delta = rest + corners[2, 0] + corners[0, 2]
        residual = (tested(rest, 2, 0) + tested(rest, 0, 2)) / reynolds
        residual += tested(delta * psi_y, 1, 0) - tested(delta * psi_x, 0, 1)
        jacobian = viscous + product(delta, 0, 1, 1, 0) - product(delta, 1, 0, 0, 1)
        for second in ((2, 0), (0, 2)):
            jacobian += product(psi_y, *second, 1, 0) - product(psi_x, *second, 0, 1)
        step = np.linalg.solve(jacobian, residual.ravel()).reshape(degree, degree)
        a[4:, 4:] -= step
        if abs(step).max() < 1e-12 * abs(a).max():
            return a
    raise RuntimeError(f"cavity_flow: no flow found at Re = {reynolds:g}, degree {degree}.")


def _pressure(a: np.ndarray, x: np.ndarray, y: np.ndarray, reynolds: float) -> np.ndarray:
    """The pressure of the stream function: the p whose gradient is nearest, in L2, to

        (1/Re) Laplace v - (v . grad) v.

    The corners' part of (1/Re) Laplace v is the gradient of the corners' part of p.
    """
    degree = len(a) - 4
    s, weight = _nodes(degree)
    f, corners = _basis(s, degree), _corners((1 + s) / 2, (1 + s) / 2)
    psi = {
        (i, j): f[i].T @ a @ f[j] + corners.get((i, j), 0.0) for i in range(4) for j in range(4 - i)
    }
    u, v = psi[0, 1], -psi[1, 0]
    along_x = (psi[2, 1] + psi[0, 3]) / reynolds - u * psi[1, 1] - v * psi[0, 2]
    along_y = -(psi[3, 0] + psi[1, 2]) / reynolds + u * psi[2, 0] + v * psi[1, 1]

    norm = np.sqrt(2 * np.arange(degree + 4) + 1)  # Legendre polynomials, orthonormal on [0, 1]

    def at(s: np.ndarray) -> np.ndarray:
        return legendre.legvander(s, degree + 3) * norm

    slopes = 2 * legendre.legval(s, legendre.legder(np.diag(norm)))
    w = np.outer(weight, weight)
    load = slopes @ (w * along_x) @ at(s) + at(s).T @ (w * along_y) @ slopes.T
    rates, vectors = np.linalg.eigh((slopes * weight) @ slopes.T)
    rates = rates[:, None] + rates
    rates[0, 0] = np.inf  # the constant, which stays open
    c = vectors @ (vectors.T @ load @ vectors / rates) @ vectors.T

    def pressure(x: np.ndarray, y: np.ndarray) -> np.ndarray:
        left, right = (p[:, None] ** 2 + (1 - y) ** 2 for p in (x, 1 - x))
        return at(2 * x - 1) @ c @ at(2 * y - 1).T + 4 / reynolds * np.log(left / right)

    return pressure(x, y) - pressure(np.array([0.5]), np.array([0.0]))
