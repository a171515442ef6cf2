"""Partial differential equations to machine precision by natural-gradient neural networks."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from distgram.run.solution import Solution, load

__all__ = ["Solution", "load"]


def __getattr__(name: str) -> Any:
    """`load` and `Solution` when asked for: `import distgram` alone imports no jax."""
    if name in __all__:
        from distgram.run import solution

        return getattr(solution, name)
    raise AttributeError(f"module 'distgram' has no attribute {name!r}")
