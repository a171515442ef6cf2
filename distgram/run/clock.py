"""Where the seconds of a run go: each second since the clock started belongs to one named part."""

from __future__ import annotations

import time
from collections.abc import Mapping


class Clock:
    """Seconds by part. Whoever has done a part says so when it is done: `lap` gives it the time
    since the lap before, so that the parts add up to the whole and none is counted twice.

    A part counts to its end only where its results are at hand: jax returns before it has computed.

    Args:
        parts: seconds of an earlier stretch of the same run, which a resume goes on from.
    """

    def __init__(self, parts: Mapping[str, float] | None = None):
        self.parts = dict(parts or {})
        self._last = time.perf_counter()

    def start(self) -> None:
        """The next lap begins now."""
        self._last = time.perf_counter()

    def lap(self, part: str) -> None:
        """The time since the last lap was spent on `part`."""
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now
