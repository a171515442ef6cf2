"""From a checked configuration to the objects of the loop, with every check before computing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import jax
import numpy as np
from jax.sharding import Mesh

from distgram.baselines import Baseline
from distgram.checks import check_exact, check_target, check_term
from distgram.collocation import draw, draw_held_out, variance
from distgram.config import Config
from distgram.factorization import Factorization
from distgram.factorization.dual import Dual
from distgram.factorization.gram import Gram
from distgram.factorization.randomized import Randomized
from distgram.factorization.tsqr import TSQR
from distgram.features import Features, Stretch
from distgram.methods import build_method
from distgram.models import MLP, FlatModel, flatten
from distgram.placements import at_stage, begun, build_placement, last_stage
from distgram.plan import Plan, Shape, plan
from distgram.posing import build_pose, build_problem, data_terms, open_terms, with_data
from distgram.problem import Problem, ProblemError, Term
from distgram.residual import Points, Residual, make_points
from distgram.rules import Rule
from distgram.sampling import Placement
from distgram.unknown import Inverse, Unknown


@dataclass(frozen=True)
class Assembled:
    """The objects of one run: the problem, the terms left to the loss, the model, the method.

    given: the config as it was given; config: with as many points as there are after `stage`
    growths, and with those of the data.
    """

    given: Config
    config: Config
    problem: Problem
    model: FlatModel
    residual: Residual
    plan: Plan
    factorization: Factorization
    method: Rule | Baseline
    placement: Placement | None
    stage: int = 0

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms that are left to the loss."""
        return self.residual.terms

    @property
    def size(self) -> int:
        """S, the number of collocation points of all terms (equations a point not counted)."""
        return sum(self.config.points[t.name].count for t in self.terms)


def build_model(config: Config, problem: Problem) -> FlatModel:
    """The network a config describes, initialised from the run's seed."""
    c = config.model
    if c.hard_constraint and problem.constraint is None:
        raise ProblemError(
            f"model.hard_constraint = true: problem {problem.name!r} defines no constraint; "
            "leave it out, or give the problem a HardConstraint."
        )
    features = Features(
        c.features,
        problem.domain.lower,
        problem.domain.upper,
        problem.periods or (None,) * problem.dim,
        c.modes,
        c.feature_scale,
        tuple(c.even),
        tuple(Stretch(s.axis, s.center, s.width) for s in c.stretch),
    )
    network = MLP(
        features,
        c.hidden,
        problem.outputs,
        key=jax.random.key(config.run.seed),
        activation=c.activation,
        initialization=c.initialization,
        gain=c.gain,
        activation_scale=c.activation_scale,
    )
    if config.unknown:
        unknowns = tuple(
            Unknown(name, u.initial, u.positive, u.scale or abs(u.initial) or 1.0)
            for name, u in config.unknown.items()
        )
        return flatten(Inverse(network, unknowns, build_pose(config), c.hard_constraint))
    return flatten(network, problem.constraint if c.hard_constraint else None)


def assemble(config: Config, mesh: Mesh, stage: int = 0) -> Assembled:
    """Build everything and check it on abstract values and at a few points, before any solving.

    Args:
        stage: how often the points have grown; the shape of the last growth is planned as well.

    Raises:
        ProblemError, ModelError, RegionError, RuleError: what is wrong, and what was expected.
    """
    problem = build_problem(config)
    terms = (*open_terms(config, problem), *data_terms(config, problem))
    model = build_model(config, problem)
    equations = {t.name: check_term(problem, model, t) for t in terms}
    check_exact(problem)
    for at in (last_stage(config, terms), stage):
        grown = with_data(at_stage(config, terms, at), terms)
        rows = sum(grown.points[name].count * m for name, m in equations.items())
        planned = plan_step(config, Shape(rows, model.p, mesh.size))
    residual = Residual(terms, model, mesh, config.memory.chunk, planned.blocks)
    factorization = build_factorization(config, planned)
    method = build_method(config, planned)
    placement = build_placement(config, terms, isinstance(method, Rule))
    return Assembled(
        *(config, grown, problem, model, residual, planned, factorization, method),
        *(placement, stage),
    )


def plan_step(config: Config, shape: Shape) -> Plan:
    """The factorization and the row blocks of a config for a shape."""
    c, memory = config.factorization, config.memory
    sizes = c.model_dump(include={"width", "capacity"})
    return plan(shape, c.name, memory.budget_gib, memory.row_block, **sizes)


def build_factorization(config: Config, planned: Plan) -> Factorization:
    """The factorization that was planned."""
    svd = getattr(config.factorization, "svd", "lapack")
    direct: dict[str | None, Factorization] = {"tsqr": TSQR(svd), "dual": Dual(), "gram": Gram()}
    if planned.name in direct:
        return direct[planned.name]
    return Randomized(planned.widths, direct.get(planned.dense), config.run.seed)


def draw_points(run: Assembled) -> tuple[tuple[np.ndarray, np.ndarray | None], ...]:
    """The collocation points of every term and their sampling density, from the run's seed.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a target that is not
        finite at a point.
    """
    drawn = []
    for i, term in enumerate(run.terms):
        wanted = begun(run.placement, term, run.config.points[term.name])
        x, density = draw(term, wanted, [run.config.run.seed, i])
        check_target(run.problem, term, x)
        drawn.append((x, density))
    return tuple(drawn)


def place_points(run: Assembled, drawn) -> tuple[Points, ...]:
    """Weight, pad and shard drawn points."""
    mesh, blocks = run.residual.mesh, run.residual.blocks
    return tuple(
        make_points(mesh, term, x, density, blocks, run.config.points[term.name].count)
        for term, (x, density) in zip(run.terms, drawn, strict=True)
    )


def held_out_points(run: Assembled, key: Sequence[int]) -> tuple[Points, ...]:
    """Fresh uniform points of every term, never trained on; a fixed region gives its own again."""
    mesh, blocks, count = run.residual.mesh, run.residual.blocks, run.config.run.held_out
    return tuple(
        make_points(mesh, t, draw_held_out(t, count, [*key, i, 1]), variance(t), blocks)
        for i, t in enumerate(run.terms)
    )
