"""What `distgram check` finds of a config's run, and what `distgram list` can tell of every choice.

Nothing is compiled for devices that are not there: a plan follows from the shape alone.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from distgram_launch.local import prepare
from rich.table import Table

from distgram.config.schema import FACTORIZATIONS, PLACEMENTS, RULES, SEARCHES, Config
from distgram.config.tables import build
from distgram.geometry.samplers import QUADRATURES, SAMPLERS
from distgram.linalg.memory import (
    DOUBLE,
    GIB,
    WIDTH,
    Shape,
    largest,
    largest_p,
    largest_width,
    least_bytes,
)
from distgram.linalg.plan import Plan
from distgram.net.features import FEATURES
from distgram.net.mlp import ACTIVATIONS, INITIALIZATIONS
from distgram.pde.registry import PROBLEMS, names
from distgram.points.draw import probe
from distgram.run.solve import compiled_step
from distgram.run.stage import UNLIMITED_GIB, Stage, plan_step
from distgram.run.state import start

SAMPLER_WORDS = {
    "uniform": "independent uniform points",
    "grid": "a tensor grid; the number of points must fit it",
    "latin_hypercube": "one point in each of n slices of every coordinate",
    "sobol": "a scrambled Sobol sequence (default)",
    "gauss_legendre": "k^d nodes with weights, exact on polynomials of degree 2k - 1",
    "clenshaw_curtis": "k^d nodes with weights, the ends among them, exact to degree k - 1",
}
INITIALIZATION_WORDS = {
    "fan_in": "weights N(0, gain²/n_in) (default)",
    "orthogonal": "gain times an orthogonal matrix; gain 5/3 suits tanh",
    "glorot": "uniform, of variance 2 gain²/(n_in + n_out)",
    "normal_0.1": "weights and biases 0.1 N(0, 1)",
}
ACTIVATION_WORDS = {
    "tanh": "tanh x (default)",
    "sin": "sin x",
    "gelu": "x Φ(x), in its tanh approximation",
    "silu": "x / (1 + exp(-x))",
    "softplus": "log(1 + exp x)",
}
FEATURE_WORDS = {
    "none": "x itself (default)",
    "normalize": "every coordinate mapped to [-1, 1]",
    "periodic": "cos and sin of `modes` harmonics where the problem states a period",
    "fourier": "cos and sin of `modes` fixed random frequencies of spread `feature_scale`",
}


@dataclass(frozen=True)
class StepMemory:
    """Bytes that a device needs for one step, as compiled: its arguments and its temporaries."""

    arguments: int
    temporaries: int


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


def sizes(stage: Stage, planned: Plan, memory: StepMemory | None) -> Iterator[tuple[str, str]]:
    """What there is and what was chosen: name, value. memory: of the step compiled for as many
    devices, where they are there."""
    shape, points = planned.shape, stage.size * (stage.problem.dim + 1)
    yield "problem", stage.problem.name
    yield "method", stage.setup.rule.name
    yield "P, parameters", str(stage.model.p)
    yield "S, collocation points", str(stage.size)
    for term in stage.terms:
        yield f"  {term.name}", str(stage.draws[term.name].count)
    if (slabs := stage.setup.slabs) is not None:
        yield "time slabs", f"{slabs.count}, each with these points and run.steps of its own"
    growths = f", and again after each of {n} growths" if (n := stage.last_growth) else ""
    yield "compiled", f"step and measuring once{growths}"
    yield "devices", str(shape.devices)
    if stage.setup.rule.uses_spectrum:
        yield "factorization", f"{planned.name} ({planned.why})"
        if planned.widths:
            yield "widths", f"{', '.join(map(str, planned.widths))}; then {planned.dense or 'none'}"
    yield "row blocks per device", str(planned.blocks)
    yield "rows a block", str(planned.block)
    yield "bytes per device, points", str(DOUBLE * -(-points // shape.devices))
    yield "bytes per device, planned", str(planned.bytes)
    if memory is not None:
        yield "bytes per device, arguments", str(memory.arguments)
        yield "bytes per device, temporaries", str(memory.temporaries)


def reach_table(shape: Shape, budget_gib: float) -> Table:
    """How far each factorization goes within the budget: P at these rows, rows at this P."""
    budget = int(budget_gib * GIB)
    table = Table(
        *("factorization", "GiB per device, at least", f"largest P at {shape.rows} rows"),
        f"most rows at P = {shape.p}",
        title=f"Within {budget_gib:g} GiB per device on {shape.devices} device(s)",
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


def step_memory(stage: Stage) -> StepMemory | None:
    """The memory of one compiled step; None where the compiler does not tell."""
    state = start(stage)
    told = compiled_step(stage, state).memory_analysis()  # type: ignore[attr-defined]
    if told is None:
        return None
    return StepMemory(told.argument_size_in_bytes, told.temp_size_in_bytes)


def operator_residuals(stage: Stage, count: int = 256) -> Iterator[tuple[str, float, float]]:
    """For each term (name, rms of D[u*] - f, rms of D[u*]) at points of its region, u* exact."""
    exact = stage.problem.exact
    if exact is None:
        return
    for term in stage.problem.terms:
        x = jnp.asarray(probe(term, count))
        rest = np.asarray(jax.vmap(term.residual(exact))(x))
        left = np.asarray(jax.vmap(term.operator(exact))(x))
        yield term.name, _rms(rest), max(_rms(left), _rms(rest - left.reshape(rest.shape)))


def _rms(values: np.ndarray) -> float:
    return float(np.sqrt(np.mean(values**2)))


class Described(NamedTuple):
    """A registered problem in words: its docstring's equations, its terms and parameters."""

    name: str
    lines: list[str]


def problems() -> Iterator[Described]:
    """Every registered problem."""
    for name in names():
        build = PROBLEMS[name]
        doc = (inspect.getdoc(build) or "").split("\n\n")
        equations = [p for p in doc[1:] if p.startswith("    ")]
        lines = [doc[0].replace("\n", " "), *(line for p in equations for line in p.split("\n"))]
        lines.append(f"terms: {', '.join(t.name for t in build().terms)}")
        given = inspect.signature(build).parameters.values()
        if given:
            lines.append(f"parameters: {', '.join(f'{p.name} = {p.default:.6g}' for p in given)}")
        yield Described(name, lines)


def choices() -> dict[str, list[tuple[str, str]]]:
    """Title -> (name, one line), for everything else that a config names."""
    return {
        "Rules and baselines: rule.name": [(n, _first_line(m)) for n, m in RULES.items()],
        "Line searches: rule.line_search.name": [(n, _first_line(m)) for n, m in SEARCHES.items()],
        "Factorizations: factorization.name": [
            (n, _first_line(m)) for n, m in FACTORIZATIONS.items()
        ],
        "Moving points: sampling.name": [(n, _first_line(m)) for n, m in PLACEMENTS.items()],
        "Samplers: points.TERM.sampler": [(n, SAMPLER_WORDS[n]) for n in (*SAMPLERS, *QUADRATURES)],
        "Activations: model.activation": [(n, ACTIVATION_WORDS[n]) for n in ACTIVATIONS],
        "Initializations: model.initialization": [
            (n, INITIALIZATION_WORDS[n]) for n in INITIALIZATIONS
        ],
        "Input features: model.features": [(n, FEATURE_WORDS[n]) for n in FEATURES],
    }


def _first_line(documented: type) -> str:
    return (inspect.getdoc(documented) or "").split("\n")[0]
