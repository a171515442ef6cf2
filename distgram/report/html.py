"""How a page is made: blocks of content, put into templates that escape every text.

A page is one file that fetches nothing. Its Content-Security-Policy allows images within it and the
one style sheet by its hash, and no script at all: a run folder may come from anybody.
"""

from __future__ import annotations

import base64
import hashlib
import io
import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from jinja2 import Environment, PackageLoader, StrictUndefined
from matplotlib.figure import Figure

from distgram.store import storage

DPI = 150

_TEMPLATES = Environment(
    loader=PackageLoader("distgram.report"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_STYLE = _TEMPLATES.get_template("style.css").render()
_STYLE_HASH = base64.b64encode(hashlib.sha256(_STYLE.encode()).digest()).decode()
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'sha256-{_STYLE_HASH}'; base-uri 'none'; "
    "form-action 'none'"
)
_DRAWING = threading.Lock()  # matplotlib's fonts are shared by all threads


@dataclass(frozen=True)
class Picture:
    """A PNG file with what it shows in words.

    Args:
        kind: 'lines' on white, which a dark page inverts, or 'map', whose colours it keeps.
    """

    png: bytes
    words: str
    kind: str = "map"
    template: ClassVar[str] = "picture"

    @property
    def width(self) -> int:
        """Its width on a page, in CSS pixels, at which the letters of all figures are alike."""
        pixels = int.from_bytes(self.png[16:20], "big")  # of the IHDR chunk
        return round(pixels * 100 / DPI)

    @property
    def base64(self) -> str:
        """The file as it stands in a data URI."""
        return base64.b64encode(self.png).decode()


@dataclass(frozen=True)
class Table:
    """Rows of texts under a header."""

    header: Sequence[str]
    rows: Sequence[Sequence[str]]
    template: ClassVar[str] = "table"


@dataclass(frozen=True)
class Note:
    """A paragraph.

    Args:
        kind: 'soft' for an aside, 'warn' for a warning.
    """

    text: str
    kind: str = "soft"
    template: ClassVar[str] = "note"


@dataclass(frozen=True)
class Code:
    """Text as it is typed.

    Args:
        kind: 'command' breaks long lines, 'listing' scrolls.
    """

    text: str
    kind: str = "listing"
    template: ClassVar[str] = "code"


Block = Picture | Table | Note | Code


def picture(figure: Figure, words: str, kind: str = "lines") -> Picture:
    """A figure, drawn."""
    png = io.BytesIO()
    with _DRAWING:
        figure.savefig(png, format="png", dpi=DPI)
    return Picture(png.getvalue(), words, kind)


def page(title: str, lead: Sequence[Block], sections: Mapping[str, Sequence[Block]]) -> str:
    """A page: `lead` below the title, then the sections by their headings, with links to them."""
    return render("page.html", title=title, lead=lead, sections=sections, policy=POLICY)


def render(template: str, **values: Any) -> str:
    """A file of templates/, filled in."""
    return _TEMPLATES.get_template(template).render(values)


def save(path: Path, text: str) -> Path:
    """Write a page to a file, whole or not at all; the file."""
    # a lone surrogate, which JSON may hold, is no character
    storage.of(path).write(path, text.encode(errors="xmlcharrefreplace"))
    return path


def number(value: Any) -> str:
    """A value for reading: three digits of a float, 'not known' for None, a list as its items."""
    if value is None:
        return "not known"
    if isinstance(value, list | tuple):
        return ", ".join(map(number, value)) or "none"
    return f"{value:.3g}" if isinstance(value, float) else str(value)
