"""Where the seconds of a run go: each second since the clock started belongs to one named part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Seconds by part. Whoever has done a part says so when it is done: `lap` gives it the time
    since the lap before, so that the parts add up to the whole and none is counted twice.

    A part counts to its end only where its results are at hand: jax returns before it has computed.

    Args:
        seconds, parts: of an earlier stretch of the same run, which a resume goes on from.
    """

    def __init__(self, seconds: float = 0.0, parts: Mapping[str, float] | None = None):
        self.parts, self.paused = dict(parts or {}), 0.0
        self._last = time.perf_counter()
        self._began = self._last - seconds

    @property
    def seconds(self) -> float:
        """Seconds of solving so far: those of an earlier stretch count, pauses do not."""
        return time.perf_counter() - self._began

    @property
    def elapsed(self) -> float:
        """Seconds so far, pauses included: what a person waits for."""
        return self.seconds + self.paused

    @contextmanager
    def pause(self) -> Iterator[None]:
        """What is done inside is not solving: its seconds go to `paused`, and to no part."""
        began = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self.paused += self._last - began
        self._began += self._last - began

    def lap(self, part: str) -> None:
        """The time since the last lap was spent on `part`."""
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now
