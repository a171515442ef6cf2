"""The network with its parameters, to be evaluated elsewhere: safetensors, or a jax artefact."""

from __future__ import annotations

import json
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import export
from jax.flatten_util import ravel_pytree

from distgram.config.saved import setup_of
from distgram.config.schema import check, copy_files, problem_copy
from distgram.config.trust import check as check_trust
from distgram.errors import ExportError
from distgram.export import needed
from distgram.linalg.precision import set_precision
from distgram.pde.problem import Problem
from distgram.run.setup import Pose
from distgram.run.slabs import Part
from distgram.run.solution import Solution, solution_of
from distgram.run.stage import build_model

MODEL, TENSORS = "model.json", "model.safetensors"
ARTEFACT = "solution.jax"
PLATFORMS = ("cpu", "cuda", "rocm", "tpu")
DERIVATIVES = 2  # reverse passes that are stored with the artefact


def write_jax(solution: Solution, folder: Path) -> list[Path]:
    """Write solution.jax: x (n, d) -> u (n, m), θ within, for CPU, GPU and TPU. It is StableHLO and
    runs in jax alone, without distgram:

    import jax
    jax.config.update("jax_enable_x64", True)
    u = jax.export.deserialize(open("solution.jax", "rb").read()).call
    u(x)        # x (n, d) float64, any n: u (n, m); can be differentiated by reverse mode
    """
    _check_whole(solution, "jax")
    needed("flatbuffers", "jax")
    (n,) = export.symbolic_shape("n")
    theta = jnp.asarray(solution.theta)

    def u(x):
        return jax.vmap(solution.model.field(theta))(x)

    points = jax.ShapeDtypeStruct((n, solution.problem.dim), jnp.float64)
    exported = export.export(jax.jit(u), platforms=PLATFORMS)(points)
    (folder / ARTEFACT).write_bytes(exported.serialize(vjp_order=DERIVATIVES))
    return [folder / ARTEFACT]


def write_safetensors(solution: Solution, folder: Path) -> list[Path]:
    """Write model.safetensors, model.json, and problem/ where the problem is a file.

    Every parameter is a tensor of its own name and shape, float64; so are the fixed frequencies of
    'fourier' features. A layer computes  W h + b  with W (n_out, n_in).
    """
    _check_whole(solution, "safetensors")
    save = needed("safetensors.numpy", "safetensors").save_file
    tensors = _named(solution.model.unravel(solution.theta)) | _named(solution.model.rest)
    config = {k: v for k, v in solution.described.items() if k != "data"}  # not needed: measured
    written = [folder / TENSORS, folder / MODEL]
    if config["problem"].get("file") is not None:
        checked = check({"problem": config["problem"]})
        config["problem"] = config["problem"] | {"file": problem_copy(checked)}
        written += copy_files(checked, folder).values()
    problem = solution.problem
    about = {
        "distgram": version("distgram"),
        "config": config,
        "inputs": list(problem.inputs),
        "outputs": problem.outputs,
        "domain": [list(problem.domain.lower), list(problem.domain.upper)],
        "tensors": {name: list(value.shape) for name, value in tensors.items()},
    }
    save(tensors, str(folder / TENSORS))
    (folder / MODEL).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return written


def read_safetensors(
    folder: Path,
    problem: Problem | Pose | None = None,
    network: Any = None,
    trust: bool = False,
) -> Solution:
    """The solution that `write_safetensors` left in a folder, to the last bit. It sets jax to
    float64.

    Args:
        problem, network: as of `distgram.load`, where the run was started from Python.
        trust: as of `distgram.load`: the problem file of the folder is executed.

    Raises:
        TrustError: that file is not this user's own, and `trust` is not given.
        ExportError: tensors that are not those of the model. OSError: a file is missing.
    """
    set_precision()
    tensors = needed("safetensors.numpy", "safetensors").load_file(str(folder / TENSORS))
    about = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    tree = about["config"]
    if "file" in tree["problem"]:
        tree["problem"]["file"] = str(folder / tree["problem"]["file"])
        check_trust(folder, tree["problem"]["file"], trust)
    setup = setup_of(tree, str(folder), problem, network)
    first = setup.with_values()
    model = build_model(setup, first)

    def stored(path, leaf):
        value = tensors.get(_name(path))
        if value is None or value.shape != leaf.shape:
            found = "none" if value is None else f"shape {value.shape}"
            raise ExportError(
                f"{folder / TENSORS}: tensor {_name(path)!r}: {found}: expected {leaf.shape}."
            )
        return jax.numpy.asarray(value)

    params, rest = (
        jax.tree_util.tree_map_with_path(stored, part)
        for part in (model.unravel(model.theta0), model.rest)
    )
    theta = np.asarray(ravel_pytree(params)[0])
    return solution_of(setup, first, (Part(first, replace(model, rest=rest)),), (theta,))


def _check_whole(solution: Solution, kind: str) -> None:
    whole = solution.setup.with_values()
    begun = whole.time is not None and solution.edges[-1:] < [whole.domain.upper[whole.time]]
    if len(solution.parts) > 1 or (solution.setup.slabs is not None and begun):
        raise ExportError(
            f"export to {kind}: this format holds one network for all of time, and the solution "
            f"has {len(solution.parts)}, each for its time slab: expected netcdf or vtk."
        )


def _named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _name(path) -> str:
    """As in weights.0, of the network's layer 0."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
