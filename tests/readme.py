"""The fenced code blocks of the READMEs, and the files that some of them are.

python tests/readme.py FOLDER    writes those files: the blocks that begin with `# NAME`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parents[1]
PAGES = (
    *("README.md", "distgram/README.md", "configs/README.md", "launch/README.md"),
    *("tests/README.md", "tests/bench/README.md", "cluster/README.md"),
)
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its page, its language, its text, the line it begins at, and the file it is, if it
    is one."""

    page: str
    language: str
    text: str
    line: int
    file: str | None


def text(page: str) -> str:
    """A page."""
    return (ROOT / page).read_text(encoding="utf-8")


def blocks() -> list[Block]:
    """All blocks, in order."""
    found = []
    for page in PAGES:
        whole = text(page)
        for match in FENCED.finditer(whole):
            named = re.match(r"# (\w+\.\w+)\n", match[2])
            line = whole.count("\n", 0, match.start()) + 2
            found.append(Block(page, match[1], match[2], line, named[1] if named else None))
    return found


def write(folder: Path) -> list[str]:
    """Write the blocks that are files; their names."""
    files = {block.file: block.text for block in blocks() if block.file}
    for name, content in files.items():
        (folder / name).write_text(content, encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])))
