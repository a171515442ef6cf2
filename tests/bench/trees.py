"""Steps of the default rule in two trees of this repository, in turn, on the same problems.

Two processes take the same steps from the same parameters, one after the other, so that other work
on the machine meets both; the least time of each step over some passes counts, compilation apart.
The parts are each compiled alone: the rows [J | r], the losses of one trial and of thirteen, rows
and triangle, and the SVD of the triangle with its vectors, whether the step has one or not.

    python tests/bench/trees.py BEFORE AFTER [--steps 40] [--passes 3] [--cases wave-sin] [--json]
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path

CASES = ("wave-sin", "wave-tanh", "kdv", "kovasznay", "laplace5d")


def stage_of(case: str):
    """The stage of a case; the operators of the wave equation are written as a user would."""
    import distgram as dg
    from distgram.linalg.mesh import make_mesh
    from distgram.net.mlp import MLP
    from distgram.pde.problem import Problem, Term
    from distgram.pde.registry import get
    from distgram.run.setup import Setup
    from distgram.run.stage import build_stage

    name, _, activation = case.partition("-")
    activation = activation or "tanh"
    problem = get(name)
    if name == "wave":
        box = dg.Box((0.0, 0.0), (1.0, 1.0))

        def operator(u):
            u_tt, u_xx = dg.partial(u, 0, 2), dg.partial(u, 1, 2)
            return lambda x: u_tt(x) - 4.0 * u_xx(x)

        given = {term.name: term for term in problem.terms} | {"interior": Term(operator, 0.0, box)}
        problem = Problem(box, given, name="wave", inputs=("t", "x"), time=0)
    counts = {"wave": (3000, 768), "kdv": (3000, 768), "kovasznay": (1200, 600)}
    first, rest = counts.get(name, (14222, 1778))
    others = [term.name for term in problem.terms if term.name != "interior"]
    points = {"interior": first} | dict.fromkeys(others, rest // len(others))
    points |= {"gauge": 1} if "gauge" in others else {}  # the pressure at a corner
    features = {"kdv": "periodic"}.get(name, "normalize")
    network = MLP([64] if name == "laplace5d" else [24, 24], activation, features=features)
    return build_stage(Setup(problem, network, points), make_mesh(1))


def serve(case: str) -> None:
    """Take a step, or time the parts, for each line that is read; print what it took."""
    import jax
    import jax.numpy as jnp
    from jax import lax

    from distgram.linalg.precision import set_precision
    from distgram.linalg.tsqr import TSQR, spectrum_of_triangle
    from distgram.run.solve import compiled_step
    from distgram.run.state import start

    set_precision()
    stage = stage_of(case)
    state, residual = start(stage), stage.residual
    theta, points = state.theta, state.points
    began = time.perf_counter()
    step = compiled_step(stage, state)
    print(json.dumps({"P": stage.model.p, "S": stage.size, "compile": time.perf_counter() - began}))

    def jacobian(theta, points):
        block = residual.block(theta, points)
        return lax.optimization_barrier(block)[0]  # all of it is computed, one row is looked at

    def seconds(function, *args):
        began = time.perf_counter()
        jax.block_until_ready(function(*args))
        return time.perf_counter() - began

    reduce = jax.jit(lambda theta, points: TSQR().reduce(residual.rows(theta, points)))
    losses = jax.jit(lambda thetas, points: residual.rows(theta, points).losses(thetas))
    triangle = reduce(theta, points)
    parts = {
        "rows": (jax.jit(jacobian), theta, points),
        "loss": (losses, jnp.stack([theta]), points),
        "13 losses": (losses, jnp.stack([theta] * 13), points),
        "rows and QR": (reduce, theta, points),
        "SVD": (jax.jit(spectrum_of_triangle), triangle),
    }
    for function, *args in parts.values():
        seconds(function, *args)
    now = (state.theta, state.method)
    for line in sys.stdin:
        answer = {}
        if line.strip() == "parts":
            answer = {name: seconds(*part) for name, part in parts.items()}
        elif line.strip() == "begin":
            now = (state.theta, state.method)
        else:
            began = time.perf_counter()
            out = jax.block_until_ready(step(residual, now[0], now[1], points))
            answer = {"step": time.perf_counter() - began, "loss": float(out[2].loss)}
            now = out[:2]
        print(json.dumps(answer), flush=True)


class Tree:
    """A process that takes steps with the code of one tree."""

    def __init__(self, root: Path, case: str):
        variables = {"PYTHONPATH": str(root), "OPENBLAS_NUM_THREADS": "1"}
        command = [sys.executable, str(Path(__file__).resolve()), "--serve", case]
        self._process = subprocess.Popen(
            command, stdin=-1, stdout=-1, text=True, env=os.environ | variables
        )
        self.about = self._read()

    def _read(self) -> dict:
        assert self._process.stdout is not None
        return json.loads(self._process.stdout.readline())

    def ask(self, what: str) -> dict:
        """What the process answers."""
        assert self._process.stdin is not None
        print(what, file=self._process.stdin, flush=True)
        return self._read()

    def close(self) -> None:
        """Let the process end."""
        self._process.communicate()


def compare(case: str, roots: list[Path], steps: int, passes: int) -> list[dict]:
    """Of each tree: sizes, seconds of compiling and of a step, the loss at the end, parts."""
    trees = [Tree(root, case) for root in roots]
    least = [[float("inf")] * steps for _ in trees]
    parts: list[dict] = [{} for _ in trees]
    ends = [0.0] * len(trees)
    for _ in range(passes):
        for tree in trees:
            tree.ask("begin")
        for i in range(steps):
            for k, tree in enumerate(trees):
                answer = tree.ask("step")
                least[k][i], ends[k] = min(least[k][i], answer["step"]), answer["loss"]
        for k, tree in enumerate(trees):
            found = tree.ask("parts")
            parts[k] = {name: min(s, parts[k].get(name, s)) for name, s in found.items()}
    for tree in trees:
        tree.close()
    out = zip(trees, least, ends, parts, strict=True)
    return [t.about | {"step": sum(s) / steps, "loss": e, "parts": p} for t, s, e, p in out]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("trees", nargs="*", type=Path, help="before and after")
    parser.add_argument("--steps", type=int, default=40, help="from the initial parameters")
    parser.add_argument("--passes", type=int, default=3, help="over the same steps")
    parser.add_argument("--cases", nargs="+", choices=CASES, default=CASES)
    parser.add_argument("--json", action="store_true", help="last line: one JSON object")
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve)
        return
    found = {}
    for case in options.cases:
        found[case] = compare(case, options.trees, options.steps, options.passes)
        ratio = found[case][0]["step"] / found[case][-1]["step"]
        print(f"{case}: a step is {ratio:.2f} times faster", flush=True)
        for tree, each in zip(options.trees, found[case], strict=True):
            parts = ", ".join(f"{name} {1e3 * s:.0f}" for name, s in each["parts"].items())
            print(
                f"  {tree}: P {each['P']}, S {each['S']}, compiled in {each['compile']:.1f} s; "
                f"{1e3 * each['step']:.0f} ms a step, loss {each['loss']:.1e}; ms: {parts}",
                flush=True,
            )
    if options.json:
        print(json.dumps(found))


if __name__ == "__main__":
    main()
