"""Factorizations: from the sharded rows [J | r] to their spectrum."""

from __future__ import annotations

import abc
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, ClassVar

from distgram.linalg.rows import Rows
from distgram.linalg.spectrum import Determined, LinearModel, Spectrum

if TYPE_CHECKING:
    from distgram.linalg.plan import Plan

# Marks the fields of a factorization that a plan fills in: they are no settings.
PLANNED = {"planned": True}

Needs = Callable[[Spectrum], Determined]


class Factorization(abc.ABC):
    """One way to the spectrum of the residual Jacobian. Called inside jit.

    A class of one's own gives `__call__`; the plan gives it as many row blocks as TSQR would have.
    Settings are attributes.

    name: what a config and a plan call it; by default the name of its class.
    """

    name: ClassVar[str]

    def __init_subclass__(cls, **given: Any):
        super().__init_subclass__(**given)
        if "name" not in vars(cls):
            cls.name = cls.__name__

    def planned(self, plan: Plan, seed: int) -> Factorization:
        """The factorization for the shape of a plan: itself, unless its sizes are planned."""
        return self

    def init(self, rows: Rows) -> Any:
        """What one step hands to the next: nothing, but for those that start warm."""
        return ()

    @abc.abstractmethod
    def __call__(self, rows: Rows, needs: Needs, state: Any) -> tuple[Spectrum, Any]:
        """The spectrum of the weighted rows, and the state after it.

        Args:
            needs: what the rule needs of a spectrum. A factorization that finds the triplets
                from the largest on stops where it is met; the others give all.
        """

    def linear_model(self, rows: Rows, needs: Needs, state: Any) -> tuple[LinearModel, Any]:
        """What a rule needs that only regularizes, and the state after it: by default the spectrum;
        a factorization that comes to less work without singular values leaves them out."""
        return self(rows, needs, state)
