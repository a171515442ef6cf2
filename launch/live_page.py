"""The page of a run that goes on: a shell, and the part of it that is asked for again and again."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import Any

import numpy as np

from distgram.report import page
from distgram.report.figures import series
from distgram.report.page import number
from distgram.report.svg import Plot, legend, picture
from distgram.store.run_folder import QUANTITIES

CURVES = {
    "first": ("mean_square_residual", "mean square residual"),
    "third": ("heldout_residual", "held-out mean square residual"),
    "second": ("l2_error", "L2 error"),
}
POINTS = 600  # of a curve, at most
EVERY_MS = 2000

SHELL = """<h1>{title}</h1>
<p id="state" class="soft" aria-live="polite">starting</p>
<nav aria-label="pages"><a href="/report">the whole report, as of now</a></nav>
<div id="now"></div>
<script>
(() => {{
  const state = document.getElementById("state"), now = document.getElementById("now");
  let timer = 0;
  const ask = async () => {{
    try {{
      const got = await (await fetch("/now")).json();
      state.textContent = got.state;
      now.innerHTML = got.html;
      if (got.ended) clearInterval(timer);
    }} catch {{
      state.textContent = "distgram watch --web has ended; what is below no longer changes";
      clearInterval(timer);
    }}
  }};
  timer = setInterval(ask, {every});
  ask();
}})();
</script>"""


def shell(title: str) -> str:
    """The page, which asks for `now` every EVERY_MS milliseconds until the run has ended."""
    return page.html(title, [SHELL.format(title=escape(title), every=EVERY_MS)])


def now(rows: Sequence[dict[str, Any]]) -> str:
    """HTML of the rows of metrics so far: the last one, the convergence, where the time went."""
    if not rows:
        return "<p>No step has been logged yet.</p>"
    last = rows[-1]
    shown = {k: v for k, v in last.items() if not isinstance(v, dict)}
    quantities = page.table(
        ["quantity", "value"],
        [[QUANTITIES.get(k, k.replace("_", " ")), number(v)] for k, v in shown.items()],
    )
    by_term = [
        [term, number(value), number((last.get("heldout_terms") or {}).get(term))]
        for term, value in (last.get("terms") or {}).items()
    ]
    terms = page.table(["term", "mean square residual", "held-out"], by_term)
    spent = [[part, f"{s:.3g}"] for part, s in (last.get("seconds_by_part") or {}).items()]
    return (
        f"<figure>{_convergence(rows)}</figure>"
        + f"<h2>The last logged step</h2>{quantities}<h2>By term</h2>{terms}"
        + (f"<h2>Time</h2>{page.table(['part', 'seconds'], spent)}" if spent else "")
    )


def _convergence(rows: Sequence[dict[str, Any]]) -> str:
    thin = rows[:: -(-len(rows) // POINTS)]
    if thin[-1] is not rows[-1]:
        thin = [*thin, rows[-1]]
    curves = {kind: series(thin, key, "step") for kind, (key, _) in CURVES.items()}
    x, y = (np.concatenate(part) for part in zip(*curves.values(), strict=True))
    plot = Plot.around(x, y)
    drawn = "".join(plot.curve(*curve, kind) for kind, curve in curves.items())
    last = ", ".join(f"{name} {number(rows[-1].get(key))}" for key, name in CURVES.values())
    text = f"Convergence against steps; at step {rows[-1]['step']}: {last}."
    entries = {kind: name for kind, (_, name) in CURVES.items() if curves[kind][0].size}
    caption = f"<figcaption>{escape(text)}</figcaption>"
    return picture(plot.axes("step", "") + drawn, text) + legend(entries) + caption
