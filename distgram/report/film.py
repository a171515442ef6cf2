"""The flattening as a film in the page: every recorded spectrum a frame, a slider moves through.

Pure SVG and a few lines of script inside the page. In print, and without script, the figure of
chosen steps stands for it.
"""

from __future__ import annotations

import numpy as np

from distgram.report.figures import Arrays
from distgram.report.spectra import r_cap, r_eps
from distgram.report.svg import MARKS, Plot, legend

FRAMES = 60  # at most; a run with more recorded spectra shows every second, third, ...
POINTS = 400  # of a curve, at most
DECADES = 20

ENTRIES = {
    "first": "singular values Δₙ",
    "second": "reconstruction errors RCEₙ",
    "cut": "cutoff on Δ (across), rank of the step (upright)",
    "circle": "r∩, crossing",
    "triangle": "rε",
}


def film(spectra: Arrays) -> str:
    """HTML of the film; '' for fewer than two spectra."""
    steps = spectra.get("step", np.zeros(0))
    if len(steps) < 2:
        return ""
    rows = np.unique(np.linspace(0, len(steps) - 1, min(FRAMES, len(steps))).round().astype(int))
    s, rce = spectra["singular_values"], spectra["rce"]
    n = np.arange(rce.shape[1])
    plot = Plot.around(n, np.concatenate([s[rows].ravel(), rce[rows].ravel()]))
    plot = Plot(plot.x0, plot.x1, max(plot.low, plot.high - DECADES), plot.high)
    kept = np.unique(np.linspace(0, len(n) - 1, min(POINTS, len(n))).round().astype(int))
    frames, words = [], []
    for row in rows:
        cap, eps = r_cap(spectra, row), r_eps(spectra, row)
        parts = [
            plot.curve(n[kept[kept > 0]], s[row][kept[kept > 0] - 1], "first"),
            plot.curve(n[kept], rce[row][kept], "second"),
            plot.level(float(spectra["cutoff"][row]), "cut"),
            plot.rise(float(spectra["rank"][row]), "cut") if spectra["rank"][row] >= 0 else "",
            plot.mark(cap, float(s[row][cap - 1]), "circle") if cap > 0 else "",
            plot.mark(eps, float(rce[row][eps]), "triangle") if eps and eps < len(n) else "",
        ]
        frames.append("".join(parts))
        words.append(_words(spectra, row, cap, eps))
    drawn = "".join(
        f'<g class="frame"{" hidden" if i else ""} data-words="{words[i]}">{frame}</g>'
        for i, frame in enumerate(frames)
    )
    entries = {k: words for k, words in ENTRIES.items() if k not in MARKS or MARKS[k] in drawn}
    return FILM.format(
        picture=plot.axes("n", "Δₙ, RCEₙ") + drawn,
        legend=legend(entries),
        last=len(frames) - 1,
        said=words[0],
    )


def _words(spectra: Arrays, row: int, cap: int, eps: int | None) -> str:
    """A frame in words."""
    rank, loss = int(spectra["rank"][row]), float(spectra["rce"][row][0]) ** 2
    return (
        f"Step {int(spectra['step'][row])}: rank {rank if rank >= 0 else 'none'}"
        f" of {spectra['singular_values'].shape[1]}, r∩ {cap}"
        + (f", rε {eps}" if eps is not None else "")
        + f", mean square residual before the step {loss:.2g}"
    )


FILM = """<figure class="film"><svg role="img" aria-label="Singular values and reconstruction errors
at one recorded step; the slider below chooses it, and the line under it says what is seen."
viewBox="0 0 960 420" font-size="14">{picture}</svg>{legend}
<div class="controls"><button type="button" aria-label="play the film">play</button>
<input type="range" min="0" max="{last}" value="0" aria-label="recorded step"></div>
<figcaption aria-live="polite">{said}</figcaption></figure>
<script>
(() => {{
  const film = document.currentScript.previousElementSibling;
  const frames = film.querySelectorAll(".frame"), slider = film.querySelector("input");
  const play = film.querySelector("button"), said = film.querySelector("figcaption");
  let timer = 0;
  const show = () => frames.forEach((frame, i) => {{
    frame.toggleAttribute("hidden", i !== slider.valueAsNumber);
    if (i === slider.valueAsNumber) said.textContent = frame.dataset.words;
  }});
  const stop = () => {{ clearInterval(timer); timer = 0; play.textContent = "play"; }};
  const next = () => {{
    slider.valueAsNumber += 1;
    show();
    if (slider.value === slider.max) stop();
  }};
  slider.addEventListener("input", () => {{ stop(); show(); }});
  play.addEventListener("click", () => {{
    if (timer) return stop();
    if (slider.value === slider.max) slider.value = 0;
    show();
    play.textContent = "pause";
    timer = setInterval(next, 250);
  }});
}})();
</script>"""
