"""Curves on a logarithmic axis as SVG text, which a page colours by its own light or dark theme.

A curve that is drawn many times (a film) or every few seconds (a run going on) costs no drawing
library here, and a few kilobytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from html import escape

import numpy as np

WIDTH, HEIGHT = 960, 420
LEFT, RIGHT, TOP, BOTTOM = 70, 14, 14, 46
DECADES = 40  # at most so many are shown below the largest value
FONT = 14
MARKS = {  # around the point that the group is moved to
    "circle": '<circle class="ring" r="6"/>',
    "triangle": '<path class="ring" d="M0 -7l7 12h-14z"/>',
}


@dataclass(frozen=True)
class Plot:
    """A panel whose x axis is linear from x0 to x1, and y the decades from `low` to `high`."""

    x0: float
    x1: float
    low: float
    high: float

    @classmethod
    def around(cls, x: np.ndarray, y: np.ndarray) -> Plot:
        """The panel that holds all positive finite y."""
        shown = y[np.isfinite(y) & (y > 0)]
        low, high = (np.log10(v) for v in (shown.min(), shown.max())) if shown.size else (-1, 1)
        low, margin = max(low, high - DECADES), 0.04 * (high - low) + 0.1
        x0, x1 = (float(x.min()), float(x.max())) if x.size else (0.0, 1.0)
        return cls(x0, x1 if x1 > x0 else x0 + 1.0, float(low - margin), float(high + margin))

    def at(self, x: np.ndarray, y: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Pixels of points; those that a logarithmic axis cannot show are nan."""
        with np.errstate(divide="ignore", invalid="ignore"):
            decade = np.where(y > 0, np.log10(y), np.nan)
        decade = np.where(np.isfinite(decade), np.maximum(decade, self.low), np.nan)
        across = (WIDTH - LEFT - RIGHT) * (x - self.x0) / (self.x1 - self.x0)
        up = (HEIGHT - TOP - BOTTOM) * (self.high - decade) / (self.high - self.low)
        return LEFT + across, TOP + up

    def curve(self, x: np.ndarray, y: np.ndarray, kind: str) -> str:
        """A path of class `kind` through the points; what cannot be shown leaves a gap."""
        px, py = self.at(np.asarray(x, float), np.asarray(y, float))
        words, pen, here = [], "M", (-1, -1)
        for a, b in zip(px.tolist(), py.tolist(), strict=True):
            if math.isnan(b):
                pen = "M"
                continue
            there = (round(a), round(b))
            if pen == "M":
                words.append(f"M{there[0]} {there[1]}")
            elif there != here:
                words.append(f"l{there[0] - here[0]} {there[1] - here[1]}")
            pen, here = "l", there
        return f'<path class="{kind}" d="{"".join(words)}"/>' if words else ""

    def level(self, y: float, kind: str) -> str:
        """A horizontal line, nothing where it lies outside the panel."""
        if not (math.isfinite(y) and y > 0 and self.low <= math.log10(y) <= self.high):
            return ""
        return self.curve(np.array([self.x0, self.x1]), np.array([y, y]), kind)

    def rise(self, x: float, kind: str) -> str:
        """A vertical line, nothing where it lies outside the panel."""
        if not self.x0 <= x <= self.x1:
            return ""
        a = round(float(self.at(np.array([x]), np.ones(1))[0][0]))
        return f'<path class="{kind}" d="M{a} {TOP}V{HEIGHT - BOTTOM}"/>'

    def mark(self, x: float, y: float, kind: str) -> str:
        """One of MARKS, nothing where it cannot be shown."""
        a, b = (v[0] for v in self.at(np.array([x]), np.array([y])))
        return "" if math.isnan(b) else _mark(kind, a, b)

    def axes(self, x_label: str, y_label: str) -> str:
        """Frame, ticks, grid lines and labels."""
        parts, foot = [], HEIGHT - BOTTOM
        every = max(1, math.ceil((self.high - self.low) / 8))
        for decade in range(math.ceil(self.low), math.floor(self.high) + 1):
            if decade % every == 0:
                b = round(float(self.at(np.zeros(1), np.array([10.0**decade]))[1][0]))
                parts.append(f'<path class="grid" d="M{LEFT} {b}H{WIDTH - RIGHT}"/>')
                power = f'10<tspan dy="-6" font-size="{FONT - 4}">{decade}</tspan>'
                parts.append(f'<text x="{LEFT - 8}" y="{b + 5}" text-anchor="end">{power}</text>')
        for tick in _ticks(self.x0, self.x1):
            a = round(float(self.at(np.array([tick]), np.ones(1))[0][0]))
            parts.append(f'<path class="axis" d="M{a} {foot}v5"/>')
            parts.append(f'<text x="{a}" y="{foot + 20}" text-anchor="middle">{tick:g}</text>')
        middle = (LEFT + WIDTH - RIGHT) // 2
        parts.append(f'<path class="axis" d="M{LEFT} {TOP}V{foot}H{WIDTH - RIGHT}"/>')
        parts.append(
            f'<text x="{middle}" y="{HEIGHT - 6}" text-anchor="middle">{escape(x_label)}</text>'
        )
        turned = f"translate(16 {(TOP + foot) // 2}) rotate(-90)"
        parts.append(f'<text transform="{turned}" text-anchor="middle">{escape(y_label)}</text>')
        return "".join(parts)


def _mark(kind: str, a: float, b: float) -> str:
    return f'<g transform="translate({a:.0f} {b:.0f})">{MARKS[kind]}</g>'


def picture(parts: str, text: str) -> str:
    """The parts of a plot as one image, with its alternative text."""
    return (
        f'<svg role="img" aria-label="{escape(text)}" viewBox="0 0 {WIDTH} {HEIGHT}" '
        f'font-size="{FONT}">{parts}</svg>'
    )


def legend(entries: dict[str, str]) -> str:
    """What each class of line, and each of MARKS, stands for: class -> words."""
    lines = "".join(
        '<li><svg aria-hidden="true" width="28" height="16">'
        + (_mark(kind, 14, 8) if kind in MARKS else f'<path class="{kind}" d="M1 8H27"/>')
        + f"</svg> {escape(words)}</li>"
        for kind, words in entries.items()
    )
    return f'<ul class="legend">{lines}</ul>'


def _ticks(low: float, high: float, most: int = 8) -> list[float]:
    """Round numbers from low to high: 1, 2 or 5 times a power of ten apart."""
    step = 10.0 ** math.floor(math.log10((high - low) / most))
    step *= next(f for f in (1, 2, 5, 10) if (high - low) / (f * step) <= most)
    first = math.ceil(low / step - 1e-9)
    return [round(k * step, 12) for k in range(first, math.floor(high / step + 1e-9) + 1)]
