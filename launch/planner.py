"""`distgram check`: a config looked at for any number of devices, and in tables.

Nothing is compiled for devices that are not there: a plan follows from the shape alone, and the
cost of a step from what one device of this process was measured to do.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import jax
from distgram_launch.cost import BANDWIDTH, LATENCY, Step, total
from distgram_launch.describe import StepMemory, sizes, step_memory
from distgram_launch.local import prepare
from distgram_launch.rates import measure, trials
from rich.table import Table

from distgram.config.schema import Config
from distgram.linalg.memory import GIB, WIDTH, Shape, largest, largest_p, largest_width, least_bytes
from distgram.linalg.plan import Plan
from distgram.rules.rule import Rule
from distgram.run.assemble import Assembled, plan_step

UNLIMITED_GIB = 1e9


@dataclass(frozen=True)
class Examined:
    """A config's run on one device with no limit of memory, its plan for the devices it is meant
    for, and the memory of a step compiled for them, where they are there."""

    run: Assembled
    plan: Plan
    memory: StepMemory | None


def examine(config: Config, devices: int | None) -> Examined:
    """Build, check and plan a config for a number of devices; all of this process by default.

    Raises:
        what `prepare` raises; PlanError: it does not fit.
    """
    memory = config.memory.model_copy(update={"budget_gib": UNLIMITED_GIB})
    _, run = prepare(config.model_copy(update={"memory": memory}), 1)
    there = jax.device_count()
    planned = plan_step(config, replace(run.plan.shape, devices=devices or there))
    if planned.shape.devices > there:
        return Examined(run, planned, None)
    return Examined(run, planned, step_memory(prepare(config, planned.shape.devices)[1]))


def tables(examined: Examined, budget_gib: float) -> Iterator[Table | str]:
    """What `distgram check` prints of a run: sizes; for a rule also cost and reach."""
    run, planned = examined.run, examined.plan
    table = Table(show_header=False, box=None)
    for row in sizes(run, planned, examined.memory):
        table.add_row(*row)
    yield table
    if isinstance(run.method, Rule):
        count = trials(run.method, run.model.p)
        step = Step(planned, measure(run, count), count)
        yield from cost_tables(step)
        yield assumptions(step)
        yield reach_table(planned.shape, budget_gib)


def cost_tables(step: Step) -> Iterator[Table]:
    """A table of the parts of a step; of a randomized one at its first and its widest width."""
    widths = sorted({step.plan.widths[0], step.plan.widths[-1]}) if step.plan.widths else [None]
    for width in widths:
        parts = step.parts(width)
        at = "" if width is None else f" at width {width}"
        title = f"One step by {step.plan.name}{at}, a device (estimated)"
        table = Table(
            *("part", "Gflop", "MB sent", "messages", "seconds"),
            title=title,
            title_justify="left",
            box=None,
        )
        for part in (*parts, total(parts)):
            table.add_row(
                *(part.name, f"{part.flops / 1e9:.3g}", f"{part.bytes / 1e6:.3g}"),
                *(str(part.messages), f"{part.seconds:.3g}"),
            )
        yield table


def assumptions(step: Step) -> str:
    """What the estimates rest on: the rates that were measured, and the network assumed."""
    rates = step.rates
    return (
        f"Assumed: {step.plan.shape.devices} device(s) like one of this machine, with nothing "
        f"beside it: {1 / rates.row.seconds:.3g} Jacobian rows/s, {1 / rates.loss.seconds:.3g} "
        f"residual rows/s ({step.trials} trial losses a step), QR at {rates.qr / 1e9:.3g} and "
        f"products at {rates.product / 1e9:.3g} Gflop/s, an SVD in {rates.svd:.2g} P³ s, measured "
        f"now at a reduced size; {LATENCY * 1e6:g} µs a message and {BANDWIDTH / 1e9:g} GB/s "
        "(Ethernet of 10 Gbit/s); sending not overlapped with computing."
    )


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
