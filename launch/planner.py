"""`distgram check`: a config looked at for any number of devices, and in tables.

Nothing is compiled for devices that are not there: a plan follows from the shape alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
from distgram_launch.describe import StepMemory, sizes, step_memory
from distgram_launch.local import prepare
from rich.table import Table

from distgram.config.schema import Config
from distgram.config.tables import build
from distgram.linalg.memory import GIB, WIDTH, Shape, largest, largest_p, largest_width, least_bytes
from distgram.linalg.plan import Plan
from distgram.run.stage import UNLIMITED_GIB, Stage, plan_step


@dataclass(frozen=True)
class Examined:
    """A config's run on one device with no limit of memory, its plan for the devices it is meant
    for, and the memory of a step compiled for them, where they are there."""

    stage: Stage
    plan: Plan
    memory: StepMemory | None


def examine(config: Config, devices: int | None) -> Examined:
    """Build, check and plan a config for a number of devices; all of this process by default.

    Raises:
        what `prepare` raises; PlanError: it does not fit.
    """
    memory = config.memory.model_copy(update={"budget_gib": UNLIMITED_GIB})
    stage = prepare(config.model_copy(update={"memory": memory}), 1)
    there = jax.device_count()
    limited = replace(stage.setup, memory=build(config.memory, "memory"))
    planned = plan_step(limited, replace(stage.plan.shape, devices=devices or there))
    if planned.shape.devices > there:
        return Examined(stage, planned, None)
    return Examined(stage, planned, step_memory(prepare(config, planned.shape.devices)))


def tables(examined: Examined, budget_gib: float) -> Iterator[Table | str]:
    """What `distgram check` prints of a run: sizes; for a rule also its reach."""
    stage, planned = examined.stage, examined.plan
    table = Table(show_header=False, box=None)
    for row in sizes(stage, planned, examined.memory):
        table.add_row(*row)
    yield table
    if stage.setup.rule.uses_spectrum:
        yield reach_table(planned.shape, budget_gib)


def reach_table(shape: Shape, budget_gib: float) -> Table:
    """How far each factorization goes within the budget: P at these rows, rows at this P."""
    budget = int(budget_gib * GIB)
    table = Table(
        *("factorization", "GiB a device, at least", f"largest P at {shape.rows} rows"),
        f"most rows at P = {shape.p}",
        title=f"Within {budget_gib:g} GiB a device on {shape.devices} device(s)",
        title_justify="left",
        box=None,
    )

    def most_rows(name: str) -> str:
        if name == "tsqr":  # whatever their number, one block is there at a time
            return "any" if least_bytes(name, shape) <= budget else "none"
        return str(largest(lambda n: least_bytes(name, replace(shape, rows=n)) <= budget))

    for name in ("tsqr", "dual", "randomized"):
        said = f"{name}, {WIDTH} triplets" if name == "randomized" else name
        least = f"{least_bytes(name, shape) / GIB:.3g}"
        table.add_row(said, least, str(largest_p(name, shape, budget)), most_rows(name))
    widest = min(largest_width(shape, 1, budget), shape.rank)
    table.add_row("randomized", f"{budget_gib:g}", f"{widest} triplets at P = {shape.p}", "")
    return table
