"""What one step costs a device, part by part: flops, what it sends, seconds.

Every device computes as one device of this process does, alone; what is sent takes LATENCY a
message and 1/BANDWIDTH a byte, and does not overlap with computing. All-reduces are counted as
reduce-scatter and all-gather by halving and doubling.
Source: Thakur, Rabenseifner, Gropp, Int. J. High Perform. Comput. Appl. 19 (2005) 49.
"""

from __future__ import annotations

from dataclasses import dataclass

from rates import Rates, qr_flops

from distgram.linalg.memory import DOUBLE, PROBES
from distgram.linalg.plan import Plan

LATENCY, BANDWIDTH = 50e-6, 1.25e9  # seconds a message, bytes a second: Ethernet of 10 Gbit/s
SVD_FLOPS, EIGH_FLOPS = 21, 9  # over the order cubed, with all vectors, by convention


@dataclass(frozen=True)
class Part:
    """One part of a step on one device: flops, bytes and messages sent, seconds of computing."""

    name: str
    flops: float
    bytes: float
    messages: int
    computing: float

    @property
    def seconds(self) -> float:
        """Computing, then sending."""
        return self.computing + self.messages * LATENCY + self.bytes / BANDWIDTH


@dataclass(frozen=True)
class Step:
    """A planned step with the rates of a device: each method gives the parts of a factorization."""

    plan: Plan
    rates: Rates
    trials: int

    def parts(self, width: int | None = None) -> list[Part]:
        """All parts; of a randomized step at one width, if given, the least: one refinement."""
        named = {"tsqr": self.tsqr, "dual": self.dual, "gram": self.gram}
        first = named[self.plan.name]() if width is None else self.randomized(width)
        shape, (flops, seconds) = self.plan.shape, self.rates.loss
        count = self.trials * shape.local
        sent = self._all_reduce(self.trials)
        return [*first, Part("trial losses", count * flops, *sent, count * seconds)]

    def tsqr(self) -> list[Part]:
        """Rows folded into a triangle, triangles combined, one SVD on every device."""
        q, blocks = self.plan.shape.p + 1, self.plan.blocks
        block = self.plan.block
        folds = qr_flops(block, q) + (blocks - 1) * qr_flops(block + q, q)
        return [
            self._rows(),
            self._qr("QR folds", folds),
            self._butterfly(q, shares=False, back=1),
            self._svd(q - 1),
        ]

    def dual(self) -> list[Part]:
        """Rows exchanged for columns, QR of Jᵀ with its Q, which the right vectors need."""
        n, p, devices = self.plan.shape.rows, self.plan.shape.p, self.plan.shape.devices
        columns = -(-p // devices)
        elsewhere = (devices - 1) / devices * DOUBLE
        sent = elsewhere * (self.plan.shape.local * p + n)
        vectors = 2.0 * n * n * (columns + n)
        return [
            self._rows(),
            Part("rows to columns", 0, sent, devices - 1 + (devices - 1).bit_length(), 0),
            self._qr("QR of columns", 2 * qr_flops(columns, n)),
            self._butterfly(n, shares=True, back=2),
            self._svd(n),
            self._product("right vectors", vectors),
        ]

    def gram(self) -> list[Part]:
        """The normal equations and their eigenvalues."""
        p, local = self.plan.shape.p, self.plan.shape.local
        product = 2.0 * local * p * (p + 1)
        sent = self._all_reduce(p * (p + 1))
        return [
            self._rows(),
            Part("JᵀJ", product, *sent, product / self.rates.product),
            Part("eigenvalues", EIGH_FLOPS * p**3, 0, 0, self.rates.eigh * p**3),
        ]

    def randomized(self, width: int) -> list[Part]:
        """J V, Jᵀ U, and J times probes, which certify: three passes over the rows."""
        p, local = self.plan.shape.p, self.plan.shape.local
        products = 2.0 * local * p * 2 * (width + PROBES)
        projections = 2.0 * local * width * (width + 4 * PROBES) + 2.0 * p * width**2
        summed = (width * p, width * 2 * PROBES)
        sent, messages = (sum(s) for s in zip(*map(self._all_reduce, summed), strict=True))
        return [
            self._rows(passes=3),
            Part("J V, Jᵀ U, J Ω", products, sent, messages, products / self.rates.product),
            self._qr("QR of J V", 2 * qr_flops(local, width)),
            self._butterfly(width, shares=True, back=1),
            self._qr("QR of V and Jᵀ U", 4 * qr_flops(p, width)),
            self._product("projections", projections),
            self._svd(width),
        ]

    def _rows(self, passes: int = 1) -> Part:
        count, (flops, seconds) = passes * self.plan.shape.local, self.rates.row
        name = "Jacobian rows" if passes == 1 else f"Jacobian rows, {passes} passes"
        return Part(name, count * flops, 0, 0, count * seconds)

    def _qr(self, name: str, flops: float) -> Part:
        return Part(name, flops, 0, 0, flops / self.rates.qr)

    def _product(self, name: str, flops: float) -> Part:
        return Part(name, flops, 0, 0, flops / self.rates.product)

    def _svd(self, n: int) -> Part:
        return Part("SVD", SVD_FLOPS * n**3, 0, 0, self.rates.svd * n**3)

    def _butterfly(self, n: int, shares: bool, back: int) -> Part:
        """log₂ stages on (2 n, n); with the orthogonal shares, if they are used. Devices beyond a
        power of two meet one of the others first, and get `back` matrices from it at the end."""
        devices = self.plan.shape.devices
        doubled = devices.bit_length() - 1
        extra = devices > 1 << doubled
        stage = qr_flops(2 * n, n)
        flops = (doubled + extra) * (2 * stage + 2 * n**3 if shares else stage)
        messages = doubled + extra * (1 + back)
        sent = DOUBLE * n * n * messages
        return Part("butterfly", flops, sent, messages, flops / self.rates.qr)

    def _all_reduce(self, numbers: int) -> tuple[float, int]:
        """(bytes, messages) that a device sends."""
        devices = self.plan.shape.devices
        sent = 2 * DOUBLE * numbers * (devices - 1) / devices
        return sent, 2 * (devices - 1).bit_length()


def total(parts: list[Part]) -> Part:
    """The sum of parts."""
    sums = [sum(getattr(p, f) for p in parts) for f in ("flops", "bytes", "messages", "computing")]
    return Part("all", sums[0], sums[1], int(sums[2]), sums[3])
