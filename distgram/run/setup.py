"""What a run is asked to do: the problem, and every choice that a user can make, as objects."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, is_dataclass, replace
from itertools import pairwise
from typing import Any

import jax
from flax import nnx

from distgram.errors import ProblemError, RegionError, UserError, require
from distgram.geometry.regions import Box
from distgram.linalg.factorization import Factorization
from distgram.net.mlp import MLP
from distgram.net.network import Network
from distgram.net.unknown import Unknown
from distgram.pde.problem import Problem
from distgram.points.adaptive.placement import Placement
from distgram.points.draw import Draw
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.rule import Method

Pose = Callable[..., Problem]

DEFAULT_STEPS, DEFAULT_PATIENCE = 300, 100


@dataclass(frozen=True)
class Limits:
    """When a run ends. Of several time slabs each has its own steps, targets and patience;
    `time_budget_s` is that of the whole run.

    Args:
        tolerance: estimate of the relative L2 error to end at.
        steps: most steps; None: 300, or without limit where a tolerance or a time budget is given.
        time_budget_s: most seconds from the start, compilation included.
        target_l2: absolute L2 error to end at. target_residual: mean square residual to end at.
        patience: steps without progress after which a run has stalled; None: 100, or 400 where
            nothing limits the steps. A run has also stalled once its loss has not fallen to a tenth
            within ten times as many steps.
        min_decrease: relative decrease of the loss that counts as progress, in [0, 1).
    """

    tolerance: float | None = None
    steps: int | None = None
    time_budget_s: float | None = None
    target_l2: float | None = None
    target_residual: float | None = None
    patience: int | None = None
    min_decrease: float = 0.01

    def __post_init__(self):
        good = self.steps is None or self.steps >= 0
        require(good, self, "steps", "at least 0, or left out", UserError)
        good = self.patience is None or self.patience >= 1
        require(good, self, "patience", "at least 1, or left out", UserError)
        require(0 <= self.min_decrease < 1, self, "min_decrease", "a number in [0, 1)", UserError)
        for name in ("tolerance", "time_budget_s", "target_l2", "target_residual"):
            value = getattr(self, name)
            good = value is None or 0 < value < math.inf
            require(good, self, name, "a finite number > 0, or none", UserError)

    @property
    def max_steps(self) -> int | None:
        """The number of steps that ends a run, or a time slab; None: there is none."""
        if self.steps is None and self.tolerance is None and self.time_budget_s is None:
            return DEFAULT_STEPS
        return self.steps

    @property
    def stall_steps(self) -> int:
        """The number of steps without progress after which a run has stalled: several excursions
        long where time, and no number of steps, is what a run may use."""
        if self.patience is not None:
            return self.patience
        return DEFAULT_PATIENCE if self.max_steps is not None else 4 * DEFAULT_PATIENCE


@dataclass(frozen=True)
class Schedule:
    """How often a run is looked at and saved, in steps; and at how many points held out of training
    each term is looked at."""

    log_every: int = 10
    spectra_every: int = 20
    checkpoint_every: int = 50
    held_out: int = 2048

    def __post_init__(self):
        for name in ("log_every", "spectra_every", "checkpoint_every", "held_out"):
            require(getattr(self, name) >= 1, self, name, "at least 1", UserError)


@dataclass(frozen=True)
class Memory:
    """Sizes that bound memory, not results.

    Args:
        budget_gib: GiB per device for a step. row_block: rows folded at once; None: as many as the
            budget allows. chunk: points differentiated at once.
    """

    budget_gib: float = 4.0
    row_block: int | None = None
    chunk: int = 1024

    def __post_init__(self):
        require(self.budget_gib > 0, self, "budget_gib", "a number > 0", UserError)
        good = self.row_block is None or self.row_block >= 1
        require(good, self, "row_block", "at least 1, or left out", UserError)
        require(self.chunk >= 1, self, "chunk", "at least 1", UserError)


@dataclass(frozen=True)
class Slabs:
    """Causal slabs: the time interval cut into `slabs` equal ones, or at `edges` (its two ends
    included), each with its own network, points and steps, and solved with the end of the one
    before as its initial condition.

    Args:
        warm_start: whether a network starts from the parameters of the one before.
        halve_after: steps after which a slab is cut in half where its loss is still above `fall`
            times the first one of the run; and, above the tolerance of a run that has one, steps in
            which its loss must fall to a tenth. None: slabs stay as they are. fall: in (0, 1).
    """

    slabs: int | None = None
    edges: tuple[float, ...] | None = None
    warm_start: bool = True
    halve_after: int | None = None
    fall: float = 1e-6

    def __post_init__(self):
        good = self.halve_after is None or self.halve_after >= 1
        require(good, self, "halve_after", "at least 1, or left out", ProblemError)
        require(0 < self.fall < 1, self, "fall", "a number in (0, 1)", ProblemError)
        one = (self.slabs is None) != (self.edges is None)
        require(one, self, "slabs", "this or edges, and not both", ProblemError)
        require(self.slabs is None or self.slabs >= 1, self, "slabs", "at least 1", ProblemError)
        if self.edges is not None:
            object.__setattr__(self, "edges", tuple(self.edges))
            rising = len(self.edges) >= 2 and all(a < b for a, b in pairwise(self.edges))
            require(rising, self, "edges", "at least two, each larger than the last", ProblemError)

    @property
    def count(self) -> int:
        """The number of slabs."""
        return self.slabs or len(self.edges or ()) - 1


@dataclass(frozen=True)
class Setup:
    """Everything that decides a run, as objects: the arguments of `distgram.solve`.

    Args:
        problem: what is solved; where coefficients are unknown, a function of them by name that
            gives it, which must not branch on their values.
        network: its description, or a flax.nnx module x (d,) -> u (m,).
        points: of every term that is left to the loss, by name, a number or a Draw; None: as many
            as `terms.default_draw` says.
        rule: a Rule or a Baseline. factorization: None: chosen by shape and memory.
        placement: moves points between steps; None: they stay.
        slabs: None: time is not cut.
        unknown: coefficients to be found, by the name of the parameter of `problem`.
        hard_constraint: whether the network goes through the problem's output transform.
        balance: whether the terms are weighed so that their rows of the Jacobian are of one size
            at the start; what is reported stays in the weights of the problem.
        seed: of the network, the points, and all that is random.
    """

    problem: Problem | Pose
    network: Network | nnx.Module = MLP()
    points: Mapping[str, int | Draw] | None = None
    rule: Method = AdaptiveRatio()
    factorization: Factorization | None = None
    placement: Placement | None = None
    slabs: Slabs | None = None
    unknown: Mapping[str, Unknown] = field(default_factory=dict)
    hard_constraint: bool = False
    balance: bool = False
    limits: Limits = Limits()
    schedule: Schedule = Schedule()
    memory: Memory = Memory()
    seed: int = 0

    def __post_init__(self):
        kinds: dict[str, tuple[type, ...]] = {
            "network": (Network, nnx.Module),
            "points": (Mapping, type(None)),
            "unknown": (Mapping,),
            "rule": (Method,),
            "factorization": (Factorization, type(None)),
            "placement": (Placement, type(None)),
            "slabs": (Slabs, type(None)),
            "limits": (Limits,),
            "schedule": (Schedule,),
            "memory": (Memory,),
        }
        for name, allowed in kinds.items():
            given = getattr(self, name)
            if not isinstance(given, allowed):
                names = " or ".join(
                    "None" if k is type(None) else f"a {k.__name__}" for k in allowed
                )
                remedy = ""
                if isinstance(given, type) and issubclass(given, allowed):
                    remedy = f": write {given.__name__}(...), an object of that class"
                raise UserError(f"solve({name}={given!r}): expected {names}{remedy}.")
        whole = isinstance(self.seed, int) and not isinstance(self.seed, bool)
        require(
            whole and 0 <= self.seed < 2**63, self, "seed", "an integer in [0, 2^63)", UserError
        )
        for name, unknown in self.unknown.items():
            if not isinstance(unknown, Unknown):
                raise ProblemError(
                    f"solve(unknown={{{name!r}: {unknown!r}}}): expected Unknown({unknown!r})."
                )
        if isinstance(self.problem, Problem):
            if self.unknown:
                raise ProblemError(
                    f"solve(unknown={sorted(self.unknown)}): expected a problem that is a function "
                    "of the unknown coefficients, as in lambda viscosity: Problem(...)."
                )
        elif not callable(self.problem):
            raise ProblemError(
                f"solve({type(self.problem).__name__}): expected a Problem, or a function of the "
                "unknown coefficients that gives one."
            )
        elif not self.unknown:
            raise ProblemError(
                "solve(function): expected unknown={name: Unknown(initial)} beside a problem that "
                "is a function of coefficients; or call the function."
            )

    @property
    def unknowns(self) -> tuple[Unknown, ...]:
        """The unknown coefficients, with their names."""
        return tuple(replace(unknown, name=name) for name, unknown in self.unknown.items())

    def pose(self, coefficients: Mapping[str, Any]) -> Problem:
        """The problem with these values of the unknown coefficients.

        Raises:
            ProblemError: the user's function fails, or does not give a Problem.
        """
        if isinstance(self.problem, Problem):
            return self.problem
        try:
            problem = self.problem(**coefficients)
        except (ProblemError, RegionError):
            raise
        except Exception as error:  # the user's function
            line = (str(error).strip().splitlines() or [""])[0]
            raise ProblemError(
                f"the problem cannot be built with {', '.join(coefficients)}: "
                f"{type(error).__name__}: {line}"
            ) from error
        if not isinstance(problem, Problem):
            raise ProblemError(f"the problem is a {type(problem).__name__}: expected a Problem.")
        return problem

    def with_values(self, found: Mapping[str, float] | None = None) -> Problem:
        """The problem with unknown coefficients at their initial values, or at those found: its
        solution is then not that of the run, and is not known. An output transform that is not
        used, and that time slabs could not go on from, is left out."""
        if isinstance(self.problem, Problem):
            if self.slabs is not None and not self.hard_constraint:
                return replace(self.problem, constraint=None)
            return self.problem
        values = {name: unknown.initial for name, unknown in self.unknown.items()}
        problem = self.pose(values | dict(found or {}))
        return replace(problem, exact=None, reference=None)


def describe(setup: Setup) -> dict[str, Any]:
    """A setup in words, as the tables of a config; `[problem] python = true` says that its objects
    were given from Python."""
    problem = setup.with_values()
    tables: dict[str, Any] = {
        "problem": {
            "name": problem.name,
            "python": True,
            "lower": list(problem.domain.lower),
            "upper": list(problem.domain.upper),
            "terms": [term.name for term in problem.terms],
        }
    }
    if not isinstance(problem.domain, Box):  # of a box its bounds say all
        tables["problem"]["domain"] = repr(problem.domain)
    network = setup.network
    model: dict[str, Any] = _words(network)
    if not isinstance(network, MLP):
        model = {"network": type(network).__name__} | model
    if isinstance(network, nnx.Module):
        model["parameters"] = sum(p.size for p in jax.tree.leaves(nnx.state(network, nnx.Param)))
    tables["model"] = model | {"hard_constraint": setup.hard_constraint}
    tables["points"] = {
        name: _words(asked if isinstance(asked, Draw) else Draw(asked))
        for name, asked in (setup.points or {}).items()
    }
    tables["rule"] = {"name": setup.rule.name} | _words(setup.rule)
    for key, chosen in (("factorization", setup.factorization), ("sampling", setup.placement)):
        if chosen is not None:
            tables[key] = {"name": chosen.name} | _words(chosen)
    tables["unknown"] = {name: _words(one) for name, one in setup.unknown.items()}
    tables["run"] = _words(setup.limits) | _words(setup.schedule)
    tables["run"] |= {"seed": setup.seed, "balance": setup.balance}
    if setup.slabs is not None:
        tables["time"] = _words(setup.slabs)
    tables["memory"] = _words(setup.memory)
    return {key: table for key, table in tables.items() if table}


def _words(setting: Any) -> dict[str, Any]:
    """The settings of an object as plain values, without those that are None."""
    if not is_dataclass(setting):
        return {}
    return _plain(asdict(setting))  # type: ignore[arg-type]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {k: _plain(v) for k, v in value.items() if v is not None}
    if isinstance(value, tuple | list):
        return [_plain(v) for v in value]
    return value if isinstance(value, bool | int | float | str) else repr(value)
