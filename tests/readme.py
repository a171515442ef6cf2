"""The fenced code blocks of README.md, and the files that some of them are.

python tests/readme.py FOLDER    writes those files: the blocks that begin with `# NAME`
"""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import NamedTuple

README = Path(__file__).parents[1] / "README.md"
FENCED = re.compile(r"^```(\w+)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


class Block(NamedTuple):
    """A block: its language, its text, the line it begins at, and the file it is, if it is one."""

    language: str
    text: str
    line: int
    file: str | None


def blocks() -> list[Block]:
    """All blocks, in order."""
    page = README.read_text(encoding="utf-8")
    found = []
    for match in FENCED.finditer(page):
        named = re.match(r"# (\w+\.\w+)\n", match[2])
        line = page.count("\n", 0, match.start()) + 2
        found.append(Block(match[1], match[2], line, named[1] if named else None))
    return found


def write(folder: Path) -> list[str]:
    """Write the blocks that are files; their names."""
    files = {block.file: block.text for block in blocks() if block.file}
    for name, text in files.items():
        (folder / name).write_text(text, encoding="utf-8")
    return list(files)


if __name__ == "__main__":
    print(*write(Path(sys.argv[1])))
