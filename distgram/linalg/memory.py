"""Bytes per device that a factorization takes, and what fits into a budget of them.

Each count bounds the measured peak of one factorization (`tests/bench/memory.py`, on CPU, where the
workspace is LAPACK's). The points, d + 1 numbers each, and the process itself come on top.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

DOUBLE = 8  # bytes
GIB = 2**30
WIDTH = 64  # trial directions a randomized factorization begins with
PROBES = 16  # directions it adds to measure its error, and as many for what is left out
MOST_DEVICES = 2**20


@dataclass(frozen=True)
class Shape:
    """rows of [J | r] (equations at all points), p parameters, devices."""

    rows: int
    p: int
    devices: int

    @property
    def local(self) -> int:
        """Rows per device."""
        return -(-self.rows // self.devices)

    @property
    def rank(self) -> int:
        """min(rows, p)."""
        return min(self.rows, self.p)


def tsqr_bytes(shape: Shape, block: int) -> int:
    """Bytes per device of `tsqr`: a row block and its copy below the triangle, 2 b q; the triangle,
    its SVD and LAPACK's workspace, 6 q², q = p + 1."""
    q = shape.p + 1
    return DOUBLE * q * (2 * max(block, q) + 6 * q)


def gram_bytes(shape: Shape) -> int:
    """Bytes per device of `gram`: all its rows at once, by term and together, 3 n q; the
    eigenproblem, 4 q²."""
    q = shape.p + 1
    return DOUBLE * q * (3 * shape.local + 4 * q)


def dual_bytes(shape: Shape) -> int:
    """Bytes per device: J by columns, its Q and the right vectors, 3.25 n c, c = max(p / D, n); n²
    times 5 on one device, and 9 where the shares of several are combined and applied."""
    n = shape.rows
    columns = max(-(-shape.p // shape.devices), n)
    return DOUBLE * n * (13 * columns // 4 + (9 if shape.devices > 1 else 5) * n)


def randomized_bytes(shape: Shape, width: int, block: int) -> int:
    """Bytes per device of `randomized`: a row block and its copy, 2 b q; directions with their
    probes, 5 p (w + 32); the sketch, 3 n w, n rows per device."""
    directions = 5 * shape.p * (width + 2 * PROBES) + 3 * shape.local * width
    return DOUBLE * (2 * block * (shape.p + 1) + directions)


def fallback_bytes(shape: Shape) -> int:
    """Bytes per device that a factorization takes beside its dense fallback: 2 p², since what one
    step hands to the next then has room for all right vectors."""
    return DOUBLE * 2 * shape.p**2


def least_bytes(name: str, shape: Shape, width: int = WIDTH) -> int:
    """Bytes per device of a factorization with the smallest row blocks that make sense for it."""
    return {
        "tsqr": lambda: tsqr_bytes(shape, 1),
        "dual": lambda: dual_bytes(shape),
        "gram": lambda: gram_bytes(shape),
        "randomized": lambda: randomized_bytes(shape, width, 1),
    }[name]()


def largest(holds: Callable[[int], bool]) -> int:
    """The largest n >= 1 for which a condition holds, of one that does not again hold beyond; 0
    where there is none."""
    high = 1
    while holds(high):
        high *= 2
    low = high // 2
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def largest_p(name: str, shape: Shape, budget: int, width: int = WIDTH) -> int:
    """The largest P for which a factorization of so many rows on so many devices fits."""
    return largest(lambda p: least_bytes(name, replace(shape, p=p), width) <= budget)


def largest_width(shape: Shape, block: int, budget: int) -> int:
    """The largest number of trial directions that fits; 0 where not even one does."""
    return largest(lambda w: randomized_bytes(shape, w, block) <= budget)


def fewest_devices(name: str, shape: Shape, budget: int, width: int = WIDTH) -> int | None:
    """The smallest number of devices on which a factorization fits; None: on no number of them."""

    def lacks(devices: int) -> bool:
        return least_bytes(name, replace(shape, devices=devices), width) > budget

    return None if lacks(MOST_DEVICES) else 1 + largest(lambda n: n < MOST_DEVICES and lacks(n))
