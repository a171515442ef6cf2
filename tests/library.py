"""A config as the objects of the library, for tests of the rooms below the command line."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from jax.sharding import Mesh

from distgram.config.build import setup
from distgram.config.schema import Config, dump
from distgram.run.ends import Result
from distgram.run.hooks import Listener
from distgram.run.solve import Step, natural_gradient_step, objective_step, run
from distgram.run.stage import Stage, build_stage
from distgram.store.storage import Folder


def stage_of(
    config: Config, mesh: Mesh, growth: int = 0, frozen: Sequence[np.ndarray] = ()
) -> Stage:
    """The stage of a config on a mesh."""
    return build_stage(setup(config), mesh, growth, frozen)


def step_of(stage: Stage) -> Step:
    """The step of a stage, not yet compiled."""
    return (natural_gradient_step if stage.setup.rule.uses_spectrum else objective_step)(stage)


def solve_in(
    config: Config,
    mesh: Mesh,
    run_dir: Folder | None,
    resume: bool = False,
    watch: Callable[[dict[str, Any]], None] = lambda row: None,
    say: Callable[[str], None] = lambda line: None,
    alive: Callable[[bool], None] = lambda compiling: None,
) -> Result:
    """Solve a config on a mesh; run_dir was made before."""
    listener = Listener(watch, say, alive)
    solution = run(
        setup(config),
        mesh,
        run_dir=run_dir,
        resume=resume,
        described=dump(config),
        listener=listener,
    )
    assert solution.result is not None
    return solution.result
