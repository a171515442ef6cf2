"""One self-contained HTML page: style inside, images as base64, nothing fetched from anywhere."""

from __future__ import annotations

import base64
import re
from collections.abc import Sequence
from html import escape
from pathlib import Path
from typing import Any

DPI = 150

CSS = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #57606a; --page: #fff; --line: #d0d7de;
  --card: #f6f8fa; --warn: #9a3412; --first: #0072b2; --second: #d55e00; --third: #007a59; }
@media screen and (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9da7b3;
  --page: #14181d; --line: #343b44; --card: #1d232a; --warn: #fdba74; --first: #56b4e9;
  --second: #ff8c42; --third: #34d399; }
  img.lines { filter: invert(.9) hue-rotate(180deg); } img.map { filter: brightness(.9); } }
body { margin: 2rem auto; max-width: 72rem; padding: 0 1rem; color: var(--ink);
  background: var(--page); font: 16px/1.5 system-ui, sans-serif; overflow-wrap: break-word; }
h1 { margin-bottom: 0; } h2 { margin-top: 2.4rem; scroll-margin-top: 1rem; }
a { color: var(--first); } nav { margin: 1rem 0; } nav a { margin-right: 1rem; }
.soft, figcaption { color: var(--soft); }
.warn { color: var(--warn); border-left: 4px solid; padding-left: .8rem; }
figure { margin: 1.2rem 0; } figure img { max-width: 100%; background: #fff; padding: .6rem;
  box-sizing: border-box; border: 1px solid var(--line); border-radius: 6px; }
.wide { overflow-x: auto; } table { border-collapse: collapse; }
th, td { text-align: left; padding: .3rem .9rem .3rem 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-variant-numeric: tabular-nums; }
pre { background: var(--card); padding: .8rem; overflow-x: auto; border-radius: 6px; }
pre.command { white-space: pre-wrap; } nav a { display: inline-block; }
svg[role=img] { width: 100%; height: auto; background: var(--card); border-radius: 6px; }
svg text { fill: var(--ink); } svg path { fill: none; stroke-width: 2; stroke-linejoin: round; }
.axis { stroke: var(--soft); } svg .grid { stroke: var(--line); stroke-width: 1; }
.first { stroke: var(--first); } .second { stroke: var(--second); }
.third { stroke: var(--third); stroke-dasharray: 7 4; }
.cut { stroke: var(--soft); stroke-dasharray: 5 4; } .frame[hidden] { display: none; }
.ring { fill: var(--page); stroke: var(--ink); stroke-width: 2; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.6rem; padding: 0; }
.controls { display: flex; gap: 1rem; align-items: center; } .controls input { flex: 1; }
.controls button { font: inherit; min-width: 5rem; padding: .3rem .8rem; }
@media print { body { margin: 0; max-width: none; font-size: 10.5pt; } nav, .film { display: none; }
  figure, tr { break-inside: avoid; } h2 { break-after: avoid; }
  pre { white-space: pre-wrap; background: none; border: 1px solid var(--line); }
  figure img { border: 0; padding: 0; max-height: 23cm; } .wide { overflow: visible; } }
"""


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table of texts, which are escaped. What is wider than the page scrolls in its own frame."""
    lines = ["".join(f'<th scope="col">{escape(cell)}</th>' for cell in header)]
    lines += ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows]
    body = "".join(f"<tr>{line}</tr>" for line in lines)
    return f'<div class="wide" tabindex="0"><table>{body}</table></div>'


def image(path: Path, text: str, kind: str = "map") -> str:
    """A PNG file as a data URI, with its alternative text.

    Args:
        kind: "lines" on white, which a dark page inverts, or "map", whose colours it keeps.
    """
    data = base64.b64encode(path.read_bytes()).decode()
    return (
        f'<figure><img class="{kind}" alt="{escape(text)}" src="data:image/png;base64,{data}">'
        f"<figcaption>{escape(text)}</figcaption></figure>"
    )


def sections(parts: dict[str, str]) -> list[str]:
    """Headed parts, title -> HTML, after a list of links to them."""
    names = {title: re.sub(r"\W+", "-", title.lower()) for title in parts}
    links = "".join(f'<a href="#{name}">{escape(title)}</a>' for title, name in names.items())
    headed = [f'<h2 id="{names[t]}">{escape(t)}</h2>{html}' for t, html in parts.items()]
    return [f'<nav aria-label="on this page">{links}</nav>', *headed]


def number(value: Any) -> str:
    """A value for reading: three digits of a float, 'not known' for None, a list as its items."""
    if value is None:
        return "not known"
    if isinstance(value, list | tuple):
        return ", ".join(map(str, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def html(title: str, body: Sequence[str]) -> str:
    """The parts of `body`, which are HTML, as one page that reads well in dark, light and print."""
    return (
        '<!doctype html><html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{CSS}</style></head><body><main>"
        + "\n".join(body)
        + "</main></body></html>\n"
    )


def write(path: Path, title: str, body: Sequence[str]) -> Path:
    """Write the page `html` to a file, whole or not at all; the file."""
    partial = path.with_name(path.name + ".tmp")
    partial.write_text(html(title, body), encoding="utf-8")
    partial.replace(path)
    return path
