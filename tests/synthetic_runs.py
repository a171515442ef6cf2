"""Run folders made up of curves and fields, and what their pages hold."""

from __future__ import annotations

import io
import json
import math
from html.parser import HTMLParser
from pathlib import Path

import numpy as np
from matplotlib.image import imread

EPSILON = 1e-10


def write_metrics(run: Path, steps: int, floor: float, rng: np.random.Generator) -> None:
    lines = []
    for step in range(steps + 1):
        fall = floor + 10.0 ** (-30 * step / steps) * (1 + 0.3 * rng.random())
        lines.append({
            "step": step, "seconds": 0.11 * step, "mean_square_residual": fall,
            "terms": {"interior": 0.8 * fall, "boundary": 0.2 * fall},
            "heldout_residual": 1.5 * fall if step % 5 == 0 else None,
            "heldout_terms": {"interior": fall, "boundary": 0.5 * fall} if step % 5 == 0 else None,
            "l2_error": 0.1 * math.sqrt(fall), "relative_l2_error": 0.2 * math.sqrt(fall),
            "seconds_by_part": {"steps": 0.1 * step, "measuring": 0.01 * step},
            "rank": 20 + step, "regularization": 1e-6, "step_size": 1.0, "accepted": True,
        })  # fmt: skip
    (run / "metrics.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))


def write_spectra(run: Path, steps: np.ndarray, k: int = 129) -> None:
    n = np.arange(k + 1)
    s = np.stack([30 * np.exp(-n[1:] / (2 + 2 * i / len(steps))) for i in range(len(steps))])
    # the residual outside the range of the Jacobian is where RCE levels off
    tail = 1e-2 + np.exp(-n / 12)
    rce = np.stack([10.0 ** (-9 * i / len(steps)) * tail for i in range(len(steps))])
    cap = [int(np.argmax(np.append(a <= b[1:], True))) for a, b in zip(s, rce, strict=True)]
    np.savez(
        run / "spectra.npz", step=steps, singular_values=s, rce=rce, rank=np.array(cap),
        cutoff=np.full(len(steps), 1e-6), r_cap=np.array(cap), r_eps=(rce >= EPSILON).sum(1),
    )  # fmt: skip


def write_solution(run: Path, dim: int, outputs: int, rng: np.random.Generator) -> None:
    names = np.array(["t", "x"] if dim == 2 else [f"x{i + 1}" for i in range(dim)])
    arrays = {"names": names}
    if dim == 2:
        axes = (np.linspace(0, 1, 61), np.linspace(-1, 1, 71))
        x = np.stack([g.ravel() for g in np.meshgrid(*axes, indexing="ij")], axis=-1)
        arrays |= {"axis_0": axes[0], "axis_1": axes[1]}
    else:
        x = rng.random((4000 if dim > 1 else 200, dim))
    field = np.sin(np.pi * x).sum(1) if dim != 2 else np.exp(-x[:, 0]) * np.sin(np.pi * x[:, 1])
    reference = np.stack([field / (k + 1) for k in range(outputs)], axis=-1)
    wave = np.sin(7 * x[:, :1]) * np.cos(5 * x[:, -1:])
    arrays |= {"x": x, "u": reference + 3e-15 * wave, "reference": reference}
    arrays["points_interior"] = 2 * rng.random((784, dim)) - 1
    arrays["points_boundary"] = np.concatenate([np.ones((60, 1)), rng.random((60, dim - 1))], 1)
    if dim == 2:
        arrays["points_interior"][:, 0] = rng.random(784)
    if dim > 2:
        nodes = np.linspace(np.zeros(dim), np.ones(dim), 9).T
        arrays |= {"slice_axes": np.array([[0, 1], [1, 2]]), "slice_nodes": nodes}
        plane = np.stack([np.outer(nodes[0], nodes[1] * (k + 1)) for k in range(2)])[..., None]
        arrays |= {"slice_at": nodes.mean(1), "slice_u": plane, "slice_reference": plane + 1e-12}
    np.savez(run / "solution.npz", **arrays)


def make_run(
    path: Path, dim: int = 2, outputs: int = 1, rule: str = "amstramgram", seed: int = 0,
    width: int = 32, floor: float = 1e-30,
) -> Path:  # fmt: skip
    rng = np.random.default_rng(seed)
    path.mkdir(parents=True)
    (path / "config.toml").write_text(
        f'[problem]\nname = "heat"\n[rule]\nname = "{rule}"\n[model]\nwidth = {width}\n'
        f"[run]\nseed = {seed}\n"
    )
    (path / "environment.json").write_text(json.dumps({"jax": "<b>0.10</b>"}))
    write_metrics(path, 60, floor, rng)
    write_spectra(path, np.arange(0, 61, 3))
    write_solution(path, dim, outputs, rng)
    result = {
        "problem": "heat", "rule": rule, "P": 129, "S": 874, "devices": 1, "steps": 60 + seed,
        "seconds": 6.6, "compile_seconds": 3.1, "mean_square_residual": floor,
        "heldout_residual": 1.5 * floor, "l2_error": (1 + seed) * 1e-15,
        "relative_l2_error": 2e-15, "reason": "target", "run_dir": str(path),
        "seconds_by_part": {"steps": 6.0, "measuring": 0.6},
    }  # fmt: skip
    (path / "result.json").write_text(json.dumps(result))
    return path


def ink(png: Path | bytes) -> float:
    """Fraction of pixels that are not white."""
    data = imread(io.BytesIO(png) if isinstance(png, bytes) else png)
    return float((data[..., :3] < 0.98).any(axis=-1).mean())


class Page(HTMLParser):
    """Images, tags, rows of tables, references to other files, and text of a page."""

    def __init__(self, text: str):
        super().__init__()
        self.images: list[dict[str, str]] = []
        self.tags: list[str] = []
        self.rows: list[list[str]] = []
        self.links: list[str] = []
        self.text = ""
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        values = {k: v or "" for k, v in attrs}
        self.tags.append(tag)
        if tag == "img":
            self.images.append(values)
        elif tag == "tr":
            self.rows.append([])
        elif tag == "td":
            self.rows[-1].append("")
        elif tag == "link" or "src" in values or not values.get("href", "#").startswith("#"):
            self.links.append(tag)

    def handle_data(self, data):
        self.text += data
        if self.rows and self.rows[-1] and self.tags[-1] == "td":
            self.rows[-1][-1] += data.strip()
