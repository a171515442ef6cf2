"""How a run ended, and each of its time slabs; a run whose time is not cut is one slab."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from distgram.pde.problem import Problem
from distgram.run.reasons import SUCCESS

# How a slab ends and the next one begins, the worst first; any other reason ends the run.
SLAB_ENDS = ("stalled", "step budget", "precision floor", "target")
SHOWN = ("seconds", "mean_square_residual", "heldout_residual", "l2_error", "overfitted")


@dataclass(frozen=True)
class Result:
    """How a run ended. Residuals are weighted mean squares, L2 errors rms over the reference.

    Of a run in time slabs they are those of all slabs so far: the residuals means over time.
    `slabs` then tells how each of them ended. seconds_by_part: what the seconds of solving were
    spent on. overfitted: the terms whose held-out residual has
    parted from that on the points; unknown: estimates of coefficients by name.
    """

    problem: str
    rule: str
    P: int
    S: int
    devices: int
    steps: int
    seconds: float
    compile_seconds: float
    seconds_by_part: dict[str, float]
    mean_square_residual: float
    heldout_residual: float
    l2_error: float | None
    relative_l2_error: float | None
    reason: str
    overfitted: list[str]
    run_dir: str
    unknown: dict[str, dict[str, Any]] = field(default_factory=dict)
    signal: int | None = None
    slabs: list[dict[str, Any]] | None = None

    @property
    def success(self) -> bool:
        """Whether the run did what it was asked to."""
        return self.reason in SUCCESS

    def values(self) -> dict[str, Any]:
        """What result.json holds: all but the number of the signal; slabs and unknowns if any."""
        left_out = ["signal", *(key for key in ("slabs", "unknown") if not getattr(self, key))]
        return {key: value for key, value in asdict(self).items() if key not in left_out}


def slab_end(problem: Problem, row: dict[str, Any], reason: str, steps: int) -> dict[str, Any]:
    """How one slab ended, as JSON: its interval of time, reason, steps, seconds of the run so far,
    and the residuals and error of its solution.

    Args:
        problem: that of the slab. row: the metrics of its solution.
    """
    t, box = problem.time, problem.domain
    begin, end = (None, None) if t is None else (box.lower[t], box.upper[t])
    shown = {key: row[key] for key in SHOWN}
    return {"begin": begin, "end": end, "reason": reason, "steps": steps} | shown


def over_slabs(slabs: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The residuals over all slabs, means over time; the terms overfitted in any of them; and the
    reason that stands for all.

    A slab that has stalled does not end the run: the reason is then that of the worst slab, so
    that the run does not count as a success. A reason that did end it stands for itself.
    """
    lengths = [1.0 if slab["begin"] is None else slab["end"] - slab["begin"] for slab in slabs]

    def mean(key: str) -> float:
        weighted = (w / sum(lengths) * slab[key] for w, slab in zip(lengths, slabs, strict=True))
        return sum(weighted)

    reasons = [slab["reason"] for slab in slabs]
    if reasons[-1] in SLAB_ENDS:
        reasons.sort(key=SLAB_ENDS.index, reverse=True)
    residuals = {key: mean(key) for key in ("mean_square_residual", "heldout_residual")}
    terms = dict.fromkeys(name for slab in slabs for name in slab["overfitted"])
    return residuals | {"reason": reasons[-1], "overfitted": list(terms)}


def in_words(slabs: Sequence[dict[str, Any]], count: int) -> str:
    """How the last of these slabs ended, of `count` there are; a warning where it has stalled."""
    slab, error = slabs[-1], slabs[-1]["l2_error"]
    said = (
        f"slab {len(slabs)} of {count}, from {slab['begin']:g} to {slab['end']:g}: "
        f"{slab['reason']} after {slab['steps']} steps; mean square residual "
        f"{slab['mean_square_residual']:.3g}" + ("" if error is None else f", L2 error {error:.3g}")
    )
    if slab["reason"] != "stalled":
        return said
    return f"warning: {said}; the next begins from it, and the run counts as stalled"
