"""Which factorization, in how many row blocks: from the shape and a memory budget alone.

So that a run and its resume choose alike, nothing here looks at the machine.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace

from distgram.errors import PlanError
from distgram.linalg.memory import (
    DOUBLE,
    GIB,
    WIDTH,
    Shape,
    fallback_bytes,
    fewest_devices,
    largest,
    largest_p,
    largest_width,
    least_bytes,
    randomized_bytes,
    tsqr_bytes,
)

ROW_BLOCK = 4096  # rows a fold takes at least, where the budget allows it
FOLD = 8  # rows a fold, in units of P: factoring the triangle again is then an eighth of the work
MOST_GIB = 1e12  # a number of bytes that an integer of the machine holds


@dataclass(frozen=True)
class Plan:
    """What a step will do: the factorization by name and why it was chosen, row blocks per device,
    bytes per device; for `randomized` its widths, and the dense factorization to fall back on."""

    shape: Shape
    name: str
    why: str
    blocks: int
    bytes: int
    widths: tuple[int, ...] = ()
    dense: str | None = None

    @property
    def block(self) -> int:
        """Rows a block."""
        return -(-self.shape.local // self.blocks)


def widths(first: int, last: int) -> tuple[int, ...]:
    """Numbers of trial directions: `first`, doubled as long as it is at most `last`."""
    out = [max(1, min(first, last))]
    while 2 * out[-1] <= last:
        out.append(2 * out[-1])
    return tuple(out)


def plan(
    shape: Shape,
    name: str,
    budget_gib: float,
    row_block: int | None = None,
    width: int = WIDTH,
    capacity: int | None = None,
) -> Plan:
    """Choose a factorization and its row blocks within `budget_gib` per device.

    Args:
        name: 'auto' takes tsqr where rows >= p, else the dual; and randomized where that does not
            fit. row_block: rows folded at once; by default as many as the budget allows, from p + 1
            to 8 (p + 1). width, capacity: of `randomized`, the first and the largest width.

    Raises:
        PlanError: nothing fits, with the bytes and the remedy.
    """
    budget = int(min(budget_gib, MOST_GIB) * GIB)
    tall = shape.rows >= shape.p
    dense = _direct("tsqr" if tall else "dual", shape, budget, row_block)
    if name == "auto" and dense.bytes <= budget:
        return replace(dense, why=f"{shape.rows} rows {'>=' if tall else '<'} P = {shape.p}")
    if name in ("auto", "randomized"):
        left = budget - max(fallback_bytes(shape), randomized_bytes(shape, width, 0))
        there = _direct(dense.name, shape, left, row_block) if capacity is None else None
        there = there if there and there.bytes <= left else None
        found = _randomized(shape, budget, row_block, (width, capacity), there)
        if name == "auto":
            found = replace(found, why=f"{dense.name} would need {dense.bytes / GIB:.3g} GiB")
            found = min(found, dense, key=lambda f: (f.bytes > budget, f.bytes))
    else:
        found = _direct(name, shape, budget, row_block)
    if found.bytes > budget:
        raise PlanError(_refusal(found, budget, row_block))
    return found


def _direct(name: str, shape: Shape, budget: int, row_block: int | None) -> Plan:
    q = shape.p + 1
    block = row_block or max(FOLD * q, ROW_BLOCK)
    if row_block is None and name == "tsqr":
        room = largest(lambda rows: tsqr_bytes(shape, rows) <= budget)
        block = max(min(block, room), q)  # below q a fold factors more of the triangle than of rows
    blocks = _blocks(shape, block)
    found = Plan(shape, name, "named", blocks, least_bytes(name, shape))
    return replace(found, bytes=tsqr_bytes(shape, found.block)) if name == "tsqr" else found


def _randomized(
    shape: Shape,
    budget: int,
    row_block: int | None,
    asked: tuple[int, int | None],
    dense: Plan | None,
) -> Plan:
    """asked: the first and the largest width. dense: what takes over from half of the rank on,
    where it is the cheaper one; None: it does not fit."""
    first, capacity = asked
    if dense is not None:
        blocks, most = dense.blocks, max(1, shape.rank // 2)
    else:  # rows take a quarter of the budget, or what the directions leave of it
        left = min(budget // 4, budget - randomized_bytes(shape, capacity or first, 0))
        room = max(1, left // (2 * DOUBLE * (shape.p + 1)))
        blocks, most = _blocks(shape, row_block or min(ROW_BLOCK, room)), shape.rank
    block = -(-shape.local // blocks)
    last = min(most, capacity or max(largest_width(shape, block, budget), first))
    tried = widths(first, last)
    if dense is None:
        tried = tried if tried[-1] == last else (*tried, last)
        return Plan(
            shape, "randomized", "named", blocks, randomized_bytes(shape, last, block), tried
        )
    needed = dense.bytes + fallback_bytes(shape)
    needed = max(needed, randomized_bytes(shape, tried[-1], block))
    return Plan(shape, "randomized", "named", blocks, needed, tried, dense.name)


def _blocks(shape: Shape, block: int) -> int:
    """Row blocks per device of at most `block` rows. Never two: the compiler unrolls the loop over
    the one block after the first, and both are then there at once."""
    blocks = max(1, math.ceil(shape.local / block))
    return 3 if blocks == 2 else blocks


def _refusal(found: Plan, budget: int, row_block: int | None) -> str:
    name, shape = found.name, found.shape
    said = (
        f"{name} needs {found.bytes / GIB:.3g} GiB per device for {shape.rows} rows and "
        f"{shape.p} parameters on {shape.devices} device(s), and memory.budget_gib = "
        f"{budget / GIB:g}: expected "
    )
    width = max(found.widths, default=WIDTH)
    least = least_bytes(name, shape, width)
    if row_block is not None and least <= budget:
        return said + f"memory.row_block < {row_block}, or left out."
    remedies = []
    if found.widths and (room := largest_width(shape, found.block, budget)):
        remedies.append(f"factorization.width and capacity of at most {room}")
    if most := largest_p(name, shape, budget, width):
        remedies.append(f"at most {most} parameters")
    if devices := fewest_devices(name, shape, budget, width):
        remedies.append(f"{devices} device(s)")
    remedies.append(f"a budget of {math.ceil(100 * least / GIB) / 100:g} GiB")
    if name != "randomized" and least_bytes("randomized", shape) <= budget:
        remedies.append("factorization.name = 'randomized'")
    return said + f"{', or '.join(remedies)}."
