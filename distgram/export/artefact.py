"""The solution as a `jax.export` artefact: StableHLO that runs in jax alone, without distgram.

import jax
jax.config.update("jax_enable_x64", True)
u = jax.export.deserialize(open("solution.jax", "rb").read()).call
u(x)        # x (n, d) float64, any n: u (n, m); can be differentiated by reverse mode
"""

from __future__ import annotations

from pathlib import Path

import jax
import jax.numpy as jnp
from jax import export

from distgram.export import check_whole, needed
from distgram.run.solution import Solution

FILE = "solution.jax"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
DERIVATIVES = 2  # reverse passes that are stored with it


def write(solution: Solution, folder: Path) -> list[Path]:
    """Write solution.jax: x (n, d) -> u (n, m), θ within, for CPU, GPU and TPU."""
    check_whole(len(solution.parts), "jax")
    needed("flatbuffers", "jax")
    (n,) = export.symbolic_shape("n")
    theta = jnp.asarray(solution.theta)

    def u(x):
        return jax.vmap(solution.model.field(theta))(x)

    points = jax.ShapeDtypeStruct((n, solution.problem.dim), jnp.float64)
    exported = export.export(jax.jit(u), platforms=PLATFORMS)(points)
    (folder / FILE).write_bytes(exported.serialize(vjp_order=DERIVATIVES))
    return [folder / FILE]
