"""From a checked configuration to the objects of the loop, with every check before computing."""

from __future__ import annotations

from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import Mesh

from distgram.baselines import Baseline
from distgram.baselines.adam import Adam
from distgram.baselines.engd import ENGD
from distgram.baselines.lbfgs import LBFGS
from distgram.baselines.ssbroyden import SSBroyden
from distgram.collocation import draw, draw_held_out, measured, probe
from distgram.config import Config
from distgram.factorization import Factorization
from distgram.factorization.dual import Dual
from distgram.factorization.gram import Gram
from distgram.factorization.randomized import Randomized
from distgram.factorization.tsqr import TSQR
from distgram.line_search import Backtracking, GridSearch, LineSearch
from distgram.models import MLP, Features, FlatModel, flatten
from distgram.plan import Plan, Shape, plan
from distgram.posing import build_pose, build_problem, data_terms, open_terms, point_count
from distgram.problem import Problem, ProblemError, Term
from distgram.residual import Points, Residual, make_points
from distgram.rules import Rule
from distgram.rules.adaptive_ratio import AdaptiveRatio
from distgram.rules.amstramgram import AMStramGRAM
from distgram.rules.anagram import ANaGRAM
from distgram.unknown import Inverse, Unknown


@dataclass(frozen=True)
class Assembled:
    """The objects of one run: the problem, the terms left to the loss, the model, the method."""

    config: Config
    problem: Problem
    model: FlatModel
    residual: Residual
    plan: Plan
    factorization: Factorization
    method: Rule | Baseline

    @property
    def terms(self) -> tuple[Term, ...]:
        """The terms that are left to the loss."""
        return self.residual.terms

    @property
    def size(self) -> int:
        """S, the number of collocation points of all terms (equations a point not counted)."""
        return sum(point_count(self.config, t) for t in self.terms)


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


def build_method(config: Config) -> Rule | Baseline:
    """The rule or baseline a config names."""
    c = config.rule
    fields = c.model_dump(exclude={"name", "line_search"})
    search = getattr(c, "line_search", None)
    if search is not None:
        fields["line_search"] = _line_search(search)
    makers = {
        "adaptive_ratio": AdaptiveRatio,
        "anagram": ANaGRAM,
        "amstramgram": AMStramGRAM,
        "engd": ENGD,
        "adam": Adam,
        "lbfgs": LBFGS,
        "ssbroyden": SSBroyden,
    }
    return makers[c.name](**fields)


def _line_search(c) -> LineSearch:
    fields = c.model_dump(exclude={"name"})
    return GridSearch(**fields) if c.name == "grid" else Backtracking(**fields)


def assemble(config: Config, mesh: Mesh) -> Assembled:
    """Build everything and check it on abstract values and at a few points, before any solving.

    Raises:
        ProblemError, ModelError, RegionError, RuleError: what is wrong, and what was expected.
    """
    problem = build_problem(config)
    terms = (*open_terms(config, problem), *data_terms(config, problem))
    model = build_model(config, problem)
    rows = sum(point_count(config, t) * check_term(problem, model, t) for t in terms)
    check_exact(problem)
    planned = plan_step(config, Shape(rows, model.p, mesh.size))
    residual = Residual(terms, model, mesh, config.memory.chunk, planned.blocks)
    factorization = build_factorization(config, planned)
    return Assembled(config, problem, model, residual, planned, factorization, build_method(config))


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


def check_term(problem: Problem, model: FlatModel, term: Term) -> int:
    """Check shapes and finiteness of one term; its number of equations m_t."""
    where = f"problem {problem.name!r}, term {term.name!r}"
    x = jnp.zeros(term.region.dim)
    try:
        left = jax.eval_shape(lambda x: term.operator(model.field(model.theta0))(x), x)
        right = jax.eval_shape(term.target, x)
    except Exception as error:
        line = str(error).strip().splitlines()[0] if str(error).strip() else ""
        raise ProblemError(f"{where} cannot be traced: {type(error).__name__}: {line}") from error
    if left.ndim != 1 or left.shape != right.shape:
        raise ProblemError(
            f"{where}: the operator gives shape {left.shape} and the target {right.shape}: "
            "expected one shape (m,) for both, one entry an equation."
        )
    check_target(problem, term, probe(term, 64))
    return left.shape[0]


def check_target(problem: Problem, term: Term, x: np.ndarray) -> None:
    """Check that the target of a term is finite at points (n, d)."""
    finite = np.isfinite(np.asarray(jax.vmap(term.target)(jnp.asarray(x)))).all(axis=1)
    if not finite.all():
        raise ProblemError(
            f"problem {problem.name!r}, term {term.name!r}: the target is not finite at "
            f"x = {x[np.argmin(finite)].tolist()}."
        )


def check_exact(problem: Problem) -> None:
    """Check the shape of the exact solution, where there is one."""
    if problem.exact is not None:
        x = jnp.asarray(problem.domain.lower, jnp.float64)
        shape = jax.eval_shape(problem.exact, x).shape
        if shape != (problem.outputs,):
            raise ProblemError(
                f"problem {problem.name!r}: the exact solution has shape {shape}: expected "
                f"({problem.outputs},), one entry a component of u."
            )


def draw_points(run: Assembled) -> tuple[tuple[np.ndarray, np.ndarray | None], ...]:
    """The collocation points of every term and their sampling density, from the run's seed.

    Raises:
        RegionError: a count that the sampler cannot give. ProblemError: a target that is not
        finite at a point.
    """
    drawn = []
    for i, term in enumerate(run.terms):
        x, density = measured(term) or draw(
            term, run.config.points[term.name], [run.config.run.seed, i]
        )
        check_target(run.problem, term, x)
        drawn.append((x, density))
    return tuple(drawn)


def place_points(run: Assembled, drawn) -> tuple[Points, ...]:
    """Weight, pad and shard drawn points."""
    return tuple(
        make_points(run.residual.mesh, term, x, density, run.residual.blocks)
        for term, (x, density) in zip(run.terms, drawn, strict=True)
    )


def held_out_points(run: Assembled) -> tuple[Points, ...]:
    """Fresh uniform points of every term, never trained on; a fixed region gives its own again."""
    count, seed = run.config.run.held_out, run.config.run.seed
    drawn = [
        measured(t) or (draw_held_out(t, count, [seed, i, 1]), None)
        for i, t in enumerate(run.terms)
    ]
    return place_points(run, drawn)
