"""References of periodic problems: Fourier series in space, exponential Runge-Kutta in time."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from distgram.pde.problem import Reference

Values = Callable[[np.ndarray], np.ndarray]  # elementwise


def exponential_step(rate: np.ndarray, force: Values, h: float) -> Values:
    """One step of length h of ETDRK4 for  c' = rate c + force(c),  which has order 4.

    The linear part is exact, however stiff. The coefficients of the scheme cancel badly near
    h rate = 0, and are the means over a unit circle around each h rate instead.

    Args:
        rate: of each mode, real or complex, shape (modes,), in units of 1/h.

    Source: Cox, Matthews, J. Comput. Phys. 176 (2002) 430; Kassam, Trefethen, SIAM J. Sci. Comput.
    26 (2005) 1214.
    """
    full, half = np.exp(h * rate), np.exp(h * rate / 2)
    z = h * rate[:, None] + np.exp(2j * np.pi * (np.arange(64) + 0.5) / 64)
    e = np.exp(z)

    def mean(values: np.ndarray) -> np.ndarray:
        average = values.mean(axis=1)
        return average if np.iscomplexobj(rate) else average.real

    inner = h * mean((np.exp(z / 2) - 1) / z)
    first = h * mean((-4 - z + e * (4 - 3 * z + z**2)) / z**3)
    middle = 2 * h * mean((2 + z + e * (z - 2)) / z**3)
    last = h * mean((-4 - 3 * z - z**2 + e * (4 - z)) / z**3)

    def step(c: np.ndarray) -> np.ndarray:
        f0 = force(c)
        a = half * c + inner * f0
        fa = force(a)
        fb = force(half * c + inner * fa)
        fc = force(half * a + inner * (2 * fb - f0))
        return full * c + first * f0 + middle * (fa + fb) + last * fc

    return step


class Fourier:
    """The nodes of a periodic interval, and the derivative i k of each mode.

    Real functions have the modes k >= 0 only.

    Args:
        low: lower end of the interval. period: its length, in the units of x. n: nodes, even.
        real: whether the functions are real.
    """

    def __init__(self, low: float, period: float, n: int, real: bool = True):
        self.x = low + period * np.arange(n) / n
        index = np.arange(n // 2 + 1) if real else np.fft.fftfreq(n, 1 / n)
        self.ik = 2j * np.pi / period * index
        self.low, self.n, self.real = low, n, real

    def modes(self, u: np.ndarray) -> np.ndarray:
        """The coefficients of values at the nodes."""
        return np.fft.rfft(u) if self.real else np.fft.fft(u)

    def values(self, c: np.ndarray) -> np.ndarray:
        """The values at the nodes."""
        return np.fft.irfft(c, self.n) if self.real else np.fft.ifft(c)

    def at(self, x: np.ndarray, c: np.ndarray) -> np.ndarray:
        """The values at any places, shape (t, x), of coefficients of shape (t, modes)."""
        waves = np.exp(np.outer(self.ik, x - self.low)) / self.n
        if not self.real:
            return c @ waves
        waves[1:] *= 2  # k and -k
        waves[-1] /= 2  # the last mode stands for both
        return (c @ waves).real

    def evolve(
        self, start: np.ndarray, linear: Values, force: Values, t: np.ndarray, steps: int
    ) -> Iterator[np.ndarray]:
        """The coefficients at equidistant times t, for  c' = linear(ik) c + force(c).

        Args:
            start: coefficients at t[0]. steps: of ETDRK4 between two times.
        """
        step = exponential_step(linear(self.ik), force, (t[1] - t[0]) / steps)
        c = start
        yield c
        for _ in t[1:]:
            for _ in range(steps):
                c = step(c)
            yield c


def table(t: np.ndarray, x: np.ndarray, u: np.ndarray) -> Reference:
    """A reference of values u on the tensor grid of t and x, u of shape (t, x) or (t, x, m)."""
    points = np.stack([g.ravel() for g in np.meshgrid(t, x, indexing="ij")], axis=-1)
    return Reference(points, u.reshape(len(points), -1), (t, x))
