"""The page of a run that goes on: a shell, and the part of it that is asked for again and again."""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from typing import Any

from matplotlib.figure import Figure

from distgram.report.curves import TOTAL, draw_curves, dress, legend
from distgram.report.html import POLICY, Block, Note, Picture, Table, number, picture, render
from distgram.report.page import quantities
from distgram.store.run_folder import QUANTITIES

POINTS = 600  # of a curve, at most
EVERY_MS = 5000  # a drawing takes a quarter of a second of a core that the run may want


def shell(title: str) -> str:
    """The page, which asks for `now` every EVERY_MS milliseconds until the run has ended."""
    nonce = secrets.token_urlsafe(16)
    policy = f"{POLICY}; script-src 'nonce-{nonce}'; connect-src 'self'"
    return render("live.html", title=title, every=EVERY_MS, nonce=nonce, policy=policy)


def now(rows: Sequence[dict[str, Any]]) -> str:
    """HTML of the rows of metrics so far: the last one, the convergence, where the time went."""
    if not rows:
        return render("sections.html", sections={"Convergence": [Note("No step is logged yet.")]})
    last = rows[-1]
    by_term = [
        [term, number(value), number((last.get("heldout_terms") or {}).get(term))]
        for term, value in (last.get("terms") or {}).items()
    ]
    sections: dict[str, list[Block]] = {
        "Convergence": [_convergence(rows)],
        "The last logged step": [quantities(last)],
        "By term": [Table(["term", "mean square residual", "held-out"], by_term)],
    }
    if spent := [[part, f"{s:.3g}"] for part, s in (last.get("seconds_by_part") or {}).items()]:
        sections["Time"] = [Table(["part", "seconds"], spent)]
    return render("sections.html", sections=sections)


def _convergence(rows: Sequence[dict[str, Any]]) -> Picture:
    thin = [*rows[:: -(-len(rows) // POINTS)], rows[-1]]
    figure = Figure(figsize=(10, 4.4), layout="constrained")
    ax = figure.subplots()
    handles = draw_curves(ax, thin, TOTAL, "step")
    dress(ax, "step")
    legend(figure, handles)
    last = ", ".join(f"{QUANTITIES[key]} {number(rows[-1].get(key))}" for key, *_ in TOTAL)
    words = f"Convergence against steps; at step {rows[-1]['step']}: {last}."
    return picture(figure, words)
