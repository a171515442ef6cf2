"""Where the seconds of a run go: each second since the clock started belongs to one named part."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager


class Clock:
    """Seconds by part. Code that has finished a part calls `lap`, which counts the time since the
    last lap for this part, so that the parts add up to the whole and no second counts twice.

    Call `lap` once the results of a part are on the host: jax returns before it has computed them.

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
        """A context whose seconds count as `paused` and for no part, such as compilation."""
        began = time.perf_counter()
        yield
        self._last = time.perf_counter()
        self.paused += self._last - began
        self._began += self._last - began

    def lap(self, part: str) -> None:
        """Count the time since the last lap for `part`."""
        now = time.perf_counter()
        self.parts[part] = self.parts.get(part, 0.0) + now - self._last
        self._last = now
