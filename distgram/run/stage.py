"""One stage of a run: what is solved between two changes of shape, a time slab at one number of
points; with every check that comes before computing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import jax
import numpy as np
from flax import nnx
from jax.sharding import Mesh

from distgram.errors import ProblemError, RuleError
from distgram.linalg.dual import Dual
from distgram.linalg.factorization import Factorization
from distgram.linalg.gram import Gram
from distgram.linalg.plan import Plan, Shape, plan
from distgram.linalg.randomized import Randomized
from distgram.linalg.rows import Points, Residual, lay_out
from distgram.linalg.tsqr import TSQR
from distgram.net.network import FlatModel, Network, flatten
from distgram.net.unknown import Inverse
from distgram.pde.measurements import Measurements
from distgram.pde.problem import Problem, Term
from distgram.points.draw import (
    Draw,
    draw,
    draw_held_out,
    draw_validation,
    variance,
)
from distgram.points.growth import check_placement, first_draw, grown, last_growth, total
from distgram.run.checks import (
    check_exact,
    check_model,
    check_points,
    check_sizes,
    check_slabs,
    check_target,
    check_term,
)
from distgram.run.setup import Setup
from distgram.run.slabs import Guess, Marching, Part, halved, held, march, slab, slab_edges
from distgram.run.terms import open_terms, wanted

UNLIMITED_GIB = 1e9
# The factorizations whose bytes the plan knows.
PLANNED = (TSQR.name, Dual.name, Gram.name, Randomized.name)


@dataclass(frozen=True)
class Stage:
    """What is solved at one stage of a run, on one mesh.

    Args:
        setup: what the run was asked to do.
        whole: the problem over all of time. base: what the network was made for. parts: the time
            slabs so far, the last of them being solved. frozen: the parameters of those before it.
        edges: the instants between which time slabs lie, those to come included.
        growth: how often the points have grown. draws: the points of every term, so many now.
        terms: those that are left to the loss, on the regions of this stage. balance: factors of
            their weights, by name, that are not part of what is reported.
        residual: the residual system of the terms that are left to the loss.
        plan, factorization: how the spectrum of its rows is found.
        guesses: what was found in time slabs that were cut, as far as they are not over.
    """

    setup: Setup
    whole: Problem
    base: Part
    parts: tuple[Part, ...]
    frozen: tuple[np.ndarray, ...]
    edges: tuple[float, ...]
    growth: int
    draws: Mapping[str, Draw]
    terms: tuple[Term, ...]
    balance: Mapping[str, float]
    residual: Residual
    plan: Plan
    factorization: Factorization
    guesses: tuple[Guess, ...] = ()

    @property
    def problem(self) -> Problem:
        """The problem being solved: of a slab, that of the slab."""
        return self.parts[-1].problem

    @property
    def model(self) -> FlatModel:
        """Its network."""
        return self.parts[-1].model

    @property
    def mesh(self) -> Mesh:
        """The devices."""
        return self.residual.mesh

    @property
    def size(self) -> int:
        """S, the number of collocation points of all terms (equations per point not counted)."""
        return total({t.name: self.draws[t.name] for t in self.terms})

    @property
    def interval(self) -> tuple[float, float]:
        """Begin and end of the time slab being solved."""
        k = len(self.frozen)
        return self.edges[k], self.edges[k + 1]

    @property
    def share(self) -> float:
        """The part of all time that is over at the end of this slab."""
        if not self.edges:
            return 1.0
        return (self.interval[1] - self.edges[0]) / (self.edges[-1] - self.edges[0])

    @property
    def part(self) -> float:
        """The part of all time that this slab is."""
        if not self.edges:
            return 1.0
        return (self.interval[1] - self.interval[0]) / (self.edges[-1] - self.edges[0])

    @property
    def slabs_left(self) -> int:
        """The number of time slabs after the one being solved."""
        return max(len(self.edges) - 1 - len(self.parts), 0)

    @property
    def last_growth(self) -> int:
        """The number of growths until the next one would exceed the budget."""
        return last_growth(self.setup.placement, wanted(self.setup, self.terms), self.terms)

    def next_slab(self, theta: np.ndarray) -> Stage:
        """The stage of the next time slab, which begins where the parameters θ of this one end."""
        frozen = (*self.frozen, np.asarray(theta))
        stage = build_stage(self.setup, self.mesh, self.growth, frozen, self.edges, self)
        later = (guess for guess in self.guesses if guess.end > stage.interval[0])
        return replace(stage, guesses=tuple(later))

    def halved(self, theta: np.ndarray) -> Stage:
        """The stage of this time slab at half its length; it was left with the parameters θ."""
        edges = halved(self.edges, len(self.frozen))
        stage = build_stage(self.setup, self.mesh, self.growth, self.frozen, edges, self)
        return replace(stage, guesses=(*self.guesses, Guess(np.asarray(theta), *self.interval)))

    def next_growth(self) -> Stage:
        """The stage with more points."""
        return build_stage(self.setup, self.mesh, self.growth + 1, self.frozen, self.edges, self)

    def balanced(self, balance: Mapping[str, float]) -> Stage:
        """The stage with other factors of the terms' weights."""
        given = self.setup, self.mesh, self.growth, self.frozen, self.edges, self
        return build_stage(*given, balance)

    def compiles_as(self, other: Stage) -> bool:
        """Whether what is compiled for another stage serves this one: the same shapes, and systems
        that differ in what they hold fixed only."""
        same = jax.tree.structure(self.residual) == jax.tree.structure(other.residual)
        return same and self.draws == other.draws

    def draw(self, slab: Problem | None = None) -> list[tuple[np.ndarray, np.ndarray | None]]:
        """The collocation points (n, d) of every term and their sampling density over the uniform
        one, from the run's seed.

        Args:
            slab: the problem of another time slab than the one being solved.

        Raises:
            RegionError: a count that the sampler cannot give. ProblemError: a target that is not
            finite at a point.
        """
        drawn = []
        for i, term in enumerate(open_terms(self.setup, slab) if slab else self.terms):
            asked = first_draw(self.setup.placement, term, self.draws[term.name])
            x, density = draw(term, asked, [self.setup.seed, i])
            check_target(self.problem, term, x)
            drawn.append((x, density))
        return drawn

    def lay_out(
        self, term: Term, x: np.ndarray, density: np.ndarray | None, size: int = 0
    ) -> Points:
        """Points of a term, weighed, padded and sharded; with room for `size` of them."""
        return lay_out(self.mesh, term, x, density, self.residual.blocks, size)

    def points(self) -> tuple[Points, ...]:
        """The collocation points before the first step, on the mesh."""
        return tuple(
            self.lay_out(term, x, density, self.draws[term.name].count)
            for term, (x, density) in zip(self.terms, self.draw(), strict=True)
        )

    def held_out(self, key: Sequence[int]) -> tuple[Points, ...]:
        """Fresh uniform points of every term, never trained on; a fixed region gives its own."""
        count = self.setup.schedule.held_out
        return tuple(
            self.lay_out(term, draw_held_out(term, count, [*key, i, 1]), variance(term))
            for i, term in enumerate(self.terms)
        )

    def validation(self, count: int) -> tuple[Points, ...]:
        """`count` points of every term from the run's seed, the same at every step, and neither
        those trained on nor those a run is measured at."""
        drawn = (
            draw_validation(term, self.draws[term.name], count, [self.setup.seed, i, 2])
            for i, term in enumerate(self.terms)
        )
        return tuple(self.lay_out(t, *found) for t, found in zip(self.terms, drawn, strict=True))

    def check_draws(self) -> None:
        """Draw all that a run draws of its regions, and keep nothing.

        Raises:
            RegionError: a count that a sampler cannot give. ProblemError: a target that is not
            finite at a point.
        """
        self.draw()
        self.held_out([self.setup.seed])
        if self.setup.rule.validation is not None:
            self.validation(self.setup.rule.validation)


def build_stage(
    setup: Setup,
    mesh: Mesh,
    growth: int = 0,
    frozen: Sequence[np.ndarray] = (),
    edges: Sequence[float] = (),
    before: Stage | None = None,
    balance: Mapping[str, float] | None = None,
) -> Stage:
    """Build everything and check it on abstract values and at a few points, before any solving.

    Args:
        growth: how often the points have grown; the shape of the last growth is planned as well.
        frozen: the parameters (p,) of the time slabs that are solved; the next one is built.
        edges: the instants between the slabs, where they are not those of the setup.
        before: the stage before, of the same setup.
        balance: factors of the terms' weights by name; None: those of the stage before.

    Raises:
        ProblemError, ModelError, RegionError, RuleError, PlanError: what is wrong, and what was
        expected.
    """
    if before is None:
        whole, known = setup.with_values(), ()
        check_sizes(setup, whole, mesh.size)
        base = build_base(setup, whole)
    else:
        whole, base, known = before.whole, before.base, before.parts[: len(frozen)]
    edges = tuple(edges) or first_edges(setup, whole)
    parts = build_parts(setup, whole, base, frozen, edges, known)
    problem, model = parts[-1]
    if balance is None:
        balance = before.balance if before else {}
    terms, placement = open_terms(setup, problem), setup.placement
    terms = tuple(replace(t, weight=t.weight * balance.get(t.name, 1.0)) for t in terms)
    draws = wanted(setup, terms)
    check_model(problem, model)
    equations = {t.name: check_term(problem, model, t) for t in terms}
    if before is None:
        check_exact(problem)
    for at in (last_growth(placement, draws, terms), growth):
        now = grown(placement, draws, terms, at)
        rows = sum(now[name].count * m for name, m in equations.items())
        planned = plan_step(setup, Shape(rows, model.p, mesh.size))
    sizes = setup.memory.chunk, planned.blocks
    if shares(setup):
        pose = Marching(whole, base, terms)
        if before is not None and isinstance(before.residual.pose, Marching):
            pose = before.residual.pose
        residual = Residual.posed(pose, held(edges, frozen, base.model.theta0), mesh, *sizes)
    else:
        residual = Residual(terms, model, mesh, *sizes)
    factorization = build_factorization(setup, planned)
    if setup.rule.validation is not None and planned.name == "dual" and mesh.size > 1:
        raise RuleError(
            f"rule.validation = {setup.rule.validation}: the dual shards its right vectors over "
            f"{mesh.size} devices, and held-out rows need them whole: expected one device, or at "
            f"least {model.p} rows, as many as parameters."
        )
    if placement is not None:
        check_placement(placement, draws, terms, setup.rule.name, setup.rule.uses_spectrum)
    return Stage(
        *(setup, whole, base, parts, tuple(frozen), edges, growth, now),
        *(terms, balance, residual, planned, factorization),
        before.guesses if before else (),
    )


def shares(setup: Setup) -> bool:
    """Whether the time slabs differ only in what their systems hold fixed: not where all slabs
    before are part of a hard constraint, nor where a weight or held-out points know the time."""
    draws = (d for d in (setup.points or {}).values() if isinstance(d, Draw))
    known = setup.rule.validation is not None or any(d.decay is not None for d in draws)
    return setup.slabs is not None and not setup.hard_constraint and not known


def build_model(setup: Setup, problem: Problem) -> FlatModel:
    """The network for a problem, initialised from the run's seed.

    Raises:
        ProblemError: no constraint where one is asked for. ModelError: what the network raises.
    """
    if setup.hard_constraint and problem.constraint is None:
        raise ProblemError(
            f"model.hard_constraint = true: problem {problem.name!r} defines no constraint; "
            "leave it out, or give the problem a HardConstraint."
        )
    network = setup.network
    if isinstance(network, Network):
        network = network.build(problem, jax.random.key(setup.seed))
    assert isinstance(network, nnx.Module)
    if setup.unknown:
        return flatten(Inverse(network, setup.unknowns, setup.pose, setup.hard_constraint))
    return flatten(network, problem.constraint if setup.hard_constraint else None)


def first_edges(setup: Setup, whole: Problem) -> tuple[float, ...]:
    """The instants between which the time slabs of a setup lie; none where time is not cut.

    Raises:
        ProblemError: what cannot go with slabs, or cannot be cut, with the place.
    """
    if setup.slabs is None:
        return ()
    if setup.limits.steps == 0:
        raise ProblemError("run.steps = 0 with [time]: expected at least one step per slab.")
    if setup.unknown:
        name = next(iter(setup.unknown))
        raise ProblemError(f"unknown.{name} with [time]: expected no [unknown]; leave one out.")
    for term in whole.terms:
        if isinstance(term.region, Measurements):
            raise ProblemError(f"data.{term.name} with [time]: expected no [data]; leave one out.")
    edges = slab_edges(whole, setup.slabs.edges or setup.slabs.count)

    def check(problem: Problem) -> None:
        terms = open_terms(setup, problem)
        check_points(terms, wanted(setup, terms), setup.schedule.held_out)

    check_slabs(whole, edges, check)
    return edges


def build_base(setup: Setup, whole: Problem) -> Part:
    """What the network is made for: the problem, or its first time slab as the setup has it."""
    if setup.slabs is None:
        return Part(whole, build_model(setup, whole))
    begin, end = first_edges(setup, whole)[:2]
    problem = slab(whole, begin, end, None)
    return Part(problem, build_model(setup, problem))


def build_parts(
    setup: Setup,
    whole: Problem,
    base: Part,
    frozen: Sequence[np.ndarray],
    edges: Sequence[float],
    known: Sequence[Part] = (),
) -> tuple[Part, ...]:
    """The time slabs with the parameters `frozen` and the next one.

    Args: base: what the network was made for. known: the slabs that are built.
    """
    if setup.slabs is None:
        return (base,)
    return march(whole, edges, base, frozen, known)


def plan_step(setup: Setup, shape: Shape) -> Plan:
    """The factorization and the row blocks for a shape. One of a user's own class gets as many row
    blocks as TSQR would have, and no limit of memory."""
    asked, memory = setup.factorization, setup.memory
    name = "auto" if asked is None else asked.name
    if name not in ("auto", *PLANNED):
        found = plan(shape, TSQR.name, UNLIMITED_GIB, memory.row_block)
        return replace(found, name=name)
    sizes = {}
    if isinstance(asked, Randomized):
        sizes = {"width": asked.width, "capacity": asked.capacity}
    return plan(shape, name, memory.budget_gib, memory.row_block, **sizes)


def build_factorization(setup: Setup, planned: Plan) -> Factorization:
    """The factorization that was planned."""
    asked = setup.factorization
    if asked is None:
        direct = {TSQR.name: TSQR(), Dual.name: Dual(), Gram.name: Gram()}
        asked = direct.get(planned.name, Randomized())
    return asked.planned(planned, setup.seed)
