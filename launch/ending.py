"""How a run ended: its exit code, the words for it, and its report."""

from __future__ import annotations

from pathlib import Path

from distgram.config.build import limits as limits_of
from distgram.config.schema import Config
from distgram.report import report
from distgram.run.ends import Result
from distgram.store.run_folder import ended
from distgram.store.storage import Folder


def ending(result: Result, config: Config, run_dir: Folder) -> tuple[int, list[str]]:
    """Write the report of a run; its exit code, and the lines that say how it ended."""
    said = [
        f"{ended(result.values())}: {result.steps} steps in {result.seconds:.1f} s (and "
        f"{result.compile_seconds:.1f} s of compiling); mean square residual "
        f"{result.mean_square_residual:.3g}, held-out {result.heldout_residual:.3g}"
        + ("" if result.l2_error is None else f", L2 error {result.l2_error:.3g}")
        + f"; {estimated(result.error_estimate)}"
    ]
    said += [_estimate(name, **found) for name, found in result.unknown.items()]
    if result.overfitted:
        said.append(
            f"warning: overfitted in {', '.join(result.overfitted)}: the held-out residual is far "
            "above that on the collocation points; the equation may hold at those only; more or "
            "better placed points would help ([points], [sampling])"
        )
    if result.signal is not None:
        code = 128 + result.signal
        said.append(
            f"stopped by signal {result.signal}; the state is saved: `distgram resume {run_dir}`"
        )
    elif result.reason == "stop requested":
        code = 0
        said.append(f"stopped as asked; the state is saved: `distgram resume {run_dir}`")
    else:
        missed = target_missed(result, config)
        code = 0 if result.success and missed is None else 1
        said += [missed] if missed else []
    if not isinstance(run_dir, Path):  # figures are drawn from files
        said.append(f"`distgram fetch {run_dir}` copies it here, for `distgram report`")
        return code, said
    try:
        said.append(f"report: {report(run_dir)}")
    except OSError as error:
        said.append(
            f"the report could not be written ({error.strerror or error}): make room, "
            f"then `distgram report {run_dir}` writes it"
        )
        code = 2 if result.signal is None else code
    return code, said


def estimated(error: float | None) -> str:
    """The estimate of the relative error in words."""
    return "no estimate of the error" if error is None else f"estimated relative error {error:.1g}"


def _estimate(
    name: str, value: float, sd: float | None, low: float | None, high: float | None
) -> str:
    if sd is None:
        return f"{name} = {value:.6g}; the noise of the data is not known"
    return f"{name} = {value:.6g} ± {sd:.2g}, 95 % from {low:.6g} to {high:.6g}"


def target_missed(result: Result, config: Config) -> str | None:
    """What was asked for and not reached, in words; None where all is well."""
    limits, residual = limits_of(config), result.mean_square_residual
    if result.reason == "target":
        residual /= 4  # the step that ended the loop saw it rounded another way than the last row
    asked = [
        ("L2 error", result.l2_error, "run.target_l2", limits.target_l2),
        ("mean square residual", residual, "run.target_residual", limits.target_residual),
        ("estimated relative error", result.error_estimate, "run.tolerance", limits.tolerance),
    ]
    asked = [a for a in asked if a[3] is not None]
    if not asked or any(value is not None and value <= goal for _, value, _, goal in asked):
        return None
    what, value, key, goal = asked[0]
    reached = "not known" if value is None else f"{value:.3g}"
    return f"the target was not reached: {what} {reached}, {key} = {goal:g}"
