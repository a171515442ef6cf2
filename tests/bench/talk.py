"""The source's pictures from runs of our own, made from nothing by the command line.

    kernels-heat.png      NTK against NNTK of the heat equation's operator, initially and at the end
    cutoff-laplace2d.png  singular values against RCE at the steps 0, 40, 90, 120 and 150 of ANaGRAM
    green-interval.png    the Green's function of -u'' on an interval against the exact one

    python tests/bench/talk.py [kernels cutoff green] [--runs runs/talk] [--out tests/bench/results]

The runs stay, with their pages. The PNG files are copies in 256 colours.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

from distgram_launch.cli import main
from PIL import Image

BENCH = Path(__file__).parent
CONFIGS = BENCH.parents[1] / "configs"
SEED = 6865  # the first of the source's seeds
STEPS = "0,40,90,120,150"
WIDTH = 1400
EVERY = ("run.steps=200", "run.spectra_every=10", "run.log_every=10")


def called(*words: object) -> None:
    """`distgram WORDS...`, which is to succeed, or to end with its step budget."""
    given = [str(word) for word in words]
    print("distgram", *given, flush=True)
    if code := main(given):
        raise SystemExit(f"talk.py: exit code {code}")


def solved(config: str, runs: Path, *settings: str) -> Path:
    """The run folder of a config, solved anew."""
    run = runs / config
    sets = [word for setting in settings for word in ("--set", setting)]
    called("solve", CONFIGS / f"{config}.toml", "--out", run, "--seed", SEED, "--force", *sets)
    return run


def kernels(runs: Path) -> Path:
    """NTK and NNTK through the centre of the domain."""
    run = solved("heat", runs)
    asked = [*("--kernel", "ntk", "--kernel", "nntk"), *("--step", "initial", "--step", "final")]
    called("diagnose", run, *asked, "--at", "0.5,0.5")
    return max((run / "diagnostics").glob("ntk-nntk_*.png"), key=lambda p: p.stat().st_mtime)


def cutoff(runs: Path) -> Path:
    """The spectrum at chosen steps; that of step 1 is the one of the initial parameters."""
    run = solved("laplace2d-anagram", runs, *EVERY)
    called("report", run, "--steps", STEPS)
    return run / "figures" / "spectrum.png"


def green(runs: Path) -> Path:
    """Maps and the error against the rank."""
    import green as measured

    runs.mkdir(parents=True, exist_ok=True)
    measured.main(["--figure", str(runs / "green.png")])
    return runs / "green.png"


PICTURES = {
    "kernels": ("kernels-heat.png", kernels),
    "cutoff": ("cutoff-laplace2d.png", cutoff),
    "green": ("green-interval.png", green),
}


def small(picture: Path, to: Path) -> None:
    """A copy in 256 colours, rare ones among them, at most WIDTH pixels wide."""
    with Image.open(picture) as image:
        colours = image.convert("RGB")
        colours.thumbnail((WIDTH, 2 * WIDTH))
        colours.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE).save(
            to, optimize=True
        )


def make(names: list[str], runs: Path, out: Path) -> None:
    """The pictures of these names."""
    out.mkdir(parents=True, exist_ok=True)
    for name in names:
        began = time.perf_counter()
        file, drawn = PICTURES[name]
        small(drawn(runs), out / file)
        size, seconds = (out / file).stat().st_size, time.perf_counter() - began
        print(f"{out / file}: {size} bytes, {seconds:.0f} s", flush=True)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("names", nargs="*", choices=list(PICTURES))
    parser.add_argument("--runs", type=Path, default=Path("runs/talk"))
    parser.add_argument("--out", type=Path, default=BENCH / "results")
    options = parser.parse_args()
    make(options.names or list(PICTURES), options.runs, options.out)
