"""From a checked configuration to the objects of the loop, with every check before computing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import partial

import jax
import numpy as np
from jax.sharding import Mesh

from distgram.config.methods import build_method
from distgram.config.schema import Config
from distgram.errors import ProblemError
from distgram.linalg.dual import Dual
from distgram.linalg.factorization import Factorization
from distgram.linalg.gram import Gram
from distgram.linalg.plan import Plan, Shape, plan
from distgram.linalg.randomized import Randomized
from distgram.linalg.rows import Points, Residual, make_points
from distgram.linalg.tsqr import TSQR
from distgram.net.features import Features, Stretch
from distgram.net.mlp import MLP, FlatModel, flatten
from distgram.net.unknown import Inverse, Unknown
from distgram.pde.problem import Problem, Term
from distgram.points.adaptive.placement import Placement
from distgram.points.draw import draw, draw_held_out, variance
from distgram.points.placements import at_stage, begun, build_placement, last_stage
from distgram.rules.baselines.baseline import Baseline
from distgram.rules.rule import Rule
from distgram.run.checks import check_exact, check_points, check_slabs, check_target, check_term
from distgram.run.posing import build_pose, build_problem, data_terms, open_terms, with_data
from distgram.run.slabs import Part, march, slab_edges


@dataclass(frozen=True)
class Assembled:
    """The objects of one run: the problem, the terms left to the loss, the model, the method.

    given: the config as it was given; config: with as many points as there are after `stage`
    growths, and with those of the data. Of several time slabs these objects are of the one being
    solved, the last of `parts`; `frozen` are the parameters of those before it, and `whole` is the
    problem over all of them.
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
    stage: int
    whole: Problem
    parts: tuple[Part, ...]
    frozen: tuple[np.ndarray, ...]

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms that are left to the loss."""
        return self.residual.terms

    @property
    def size(self) -> int:
        """S, the number of collocation points of all terms (equations a point not counted)."""
        return sum(self.config.points[t.name].count for t in self.terms)

    @property
    def slabs_left(self) -> int:
        """The number of time slabs after the one being solved."""
        return self.config.time.count - len(self.parts) if self.config.time else 0


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


def build_parts(
    config: Config, whole: Problem, frozen: Sequence[np.ndarray] = ()
) -> tuple[Part, ...]:
    """The time slabs with the parameters `frozen` and the next one; every one is checked first."""
    build = partial(build_model, config)
    if config.time is None:
        return (Part(whole, build(whole)),)
    if config.run.steps == 0:
        raise ProblemError("run.steps = 0 with [time]: expected at least one step a slab.")
    for key in ("unknown", "data"):
        if names := list(getattr(config, key)):
            raise ProblemError(f"{key}.{names[0]} with [time]: expected no [{key}]; leave one out.")
    whole = whole if config.model.hard_constraint else replace(whole, constraint=None)
    edges = slab_edges(whole, config.time.edges or config.time.count)
    if not frozen:
        wanted = (config.points, config.run.held_out)
        check_slabs(whole, edges, lambda slab: check_points(open_terms(config, slab), *wanted))
    return march(whole, edges, build, frozen)


def assemble(
    config: Config, mesh: Mesh, stage: int = 0, frozen: Sequence[np.ndarray] = ()
) -> Assembled:
    """Build everything and check it on abstract values and at a few points, before any solving.

    Args:
        stage: how often the points have grown; the shape of the last growth is planned as well.
        frozen: the parameters (p,) of the time slabs that are solved; the next one is built.

    Raises:
        ProblemError, ModelError, RegionError, RuleError: what is wrong, and what was expected.
    """
    whole = build_problem(config)
    parts = build_parts(config, whole, frozen)
    problem, model = parts[-1]
    terms = (*open_terms(config, problem), *data_terms(config, problem))
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
        *(placement, stage, whole, parts, tuple(frozen)),
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


def draw_points(
    run: Assembled, slab: Problem | None = None
) -> tuple[tuple[np.ndarray, np.ndarray | None], ...]:
    """The collocation points of every term and their sampling density, from the run's seed.

    Args:
        slab: the problem of another time slab than the one being solved.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a target that is not
        finite at a point.
    """
    drawn = []
    for i, term in enumerate(open_terms(run.given, slab) if slab else run.terms):
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
