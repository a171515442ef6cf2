"""The model as safetensors, and a JSON beside it from which it is built again."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path

import jax
import numpy as np
from jax.flatten_util import ravel_pytree

from distgram.config import schema as configs
from distgram.errors import ExportError
from distgram.export import check_whole, needed
from distgram.linalg.precision import set_precision
from distgram.net.unknown import coefficients
from distgram.run.assemble import build_model
from distgram.run.posing import build_problem
from distgram.run.slabs import Part
from distgram.run.solution import Solution

MODEL, TENSORS, PROBLEM = "model.json", "model.safetensors", "problem.py"


def write(solution: Solution, folder: Path) -> list[Path]:
    """Write model.safetensors, model.json, and problem.py where the problem is a file.

    Every parameter is a tensor of its own name and shape, float64; so are the fixed frequencies of
    'fourier' features. A layer computes  W h + b  with W (n_out, n_in).
    """
    check_whole(len(solution.parts), "safetensors")
    save = needed("safetensors.numpy", "safetensors").save_file
    tensors = _named(solution.model.unravel(solution.theta)) | _named(solution.model.rest)
    config, file = configs.dump(solution.config), solution.config.problem.file
    config.pop("data", None)  # what was measured is not needed to evaluate the model
    written = [folder / TENSORS, folder / MODEL]
    if file is not None:
        config["problem"]["file"] = PROBLEM
        shutil.copyfile(file, folder / PROBLEM)
        written.append(folder / PROBLEM)
    about = {
        "distgram": version("distgram"),
        "config": config,
        "inputs": list(solution.problem.inputs),
        "outputs": solution.problem.outputs,
        "domain": [list(solution.problem.domain.lower), list(solution.problem.domain.upper)],
        "tensors": {name: list(value.shape) for name, value in tensors.items()},
    }
    save(tensors, str(folder / TENSORS))
    (folder / MODEL).write_text(json.dumps(about, indent=1) + "\n", encoding="utf-8")
    return written


def read(folder: Path) -> Solution:
    """The solution that `write` left in a folder, to the last bit. It sets jax to float64.

    Raises:
        ExportError: tensors that are not those of the model. OSError: a file is missing.
    """
    set_precision()
    tensors = needed("safetensors.numpy", "safetensors").load_file(str(folder / TENSORS))
    about = json.loads((folder / MODEL).read_text(encoding="utf-8"))
    tree = about["config"]
    if "file" in tree["problem"]:
        tree["problem"]["file"] = str(folder / tree["problem"]["file"])
    config = configs.check(tree)
    model = build_model(config, build_problem(config))

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
    problem = build_problem(config, coefficients(model, theta))
    return Solution(config, problem, (Part(problem, replace(model, rest=rest)),), (theta,))


def _named(tree) -> dict[str, np.ndarray]:
    leaves = jax.tree_util.tree_leaves_with_path(tree)
    return {_name(path): np.asarray(leaf) for path, leaf in leaves}


def _name(path) -> str:
    """As in weights.0, of the network's layer 0."""
    return jax.tree_util.keystr(path, simple=True, separator=".").removesuffix(".value")
