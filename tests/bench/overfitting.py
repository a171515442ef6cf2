"""Overfitting reproduced and cured: the two pictures side by side, from two configs.

    python tests/bench/overfitting.py [--configs A B] [--steps n] [--out runs/overfitting]

Each config is solved in a process of its own (one that has ended is not solved again), then
|residual| on a dense grid is drawn with the points over it, in <out>/overfitting.png, and the
figures of both are printed.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path

import distgram
from distgram.config.schema import load
from distgram.report.maps import residual, residual_maps
from distgram.store.read import Run

ROOT = Path(__file__).resolve().parents[2]
DEFAULT = [ROOT / "configs" / f"allen_cahn-{name}.toml" for name in ("overfit", "cured")]
SHOWN = ("mean_square_residual", "heldout_residual", "l2_error")


def solved(config: Path, out: Path, steps: int | None) -> Path:
    """The run folder of a config, solved if it has not been."""
    folder = out / config.stem
    if not (folder / "result.json").is_file():
        command = [
            sys.executable,
            "-m",
            "distgram_launch.cli",
            "solve",
            str(config),
            "--out",
            str(folder),
        ]
        command += ["--force"] + ([] if steps is None else ["--set", f"run.steps={steps}"])
        subprocess.run(command, cwd=ROOT, check=False)  # the result says how it ended
    return folder


def main() -> None:
    """Solve both, draw, print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--configs", nargs="+", type=Path, default=DEFAULT)
    parser.add_argument("--steps", type=int, help="in place of the configs' own")
    parser.add_argument("--out", type=Path, default=ROOT / "runs" / "overfitting")
    arguments = parser.parse_args()
    maps = {}
    for config in arguments.configs:
        folder = solved(config, arguments.out, arguments.steps)
        result = json.loads((folder / "result.json").read_text())
        term = next(iter(load(config).points))
        maps[config.stem] = residual_maps(
            distgram.load(folder), Run(folder).arrays("solution.npz")
        )[term]
        figures = ", ".join(f"{key} {result[key]:.2e}" for key in SHOWN)
        print(
            f"{config.stem}: S = {result['S']}, {figures}, rms residual on the dense grid "
            f"{maps[config.stem].rms:.2e}, overfitted: {', '.join(result['overfitted']) or 'no'}"
        )
    path = arguments.out / "overfitting.png"
    residual(maps).savefig(path, dpi=150)
    print(path)


if __name__ == "__main__":
    main()
