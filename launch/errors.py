"""What a person can mend: errors that are shown as one sentence."""

from __future__ import annotations


class ClusterError(ValueError):
    """A cluster that cannot be reached, cannot give what was asked, or lost a run for good."""


class InputError(ValueError):
    """An option whose value cannot be read: the message names it and what was expected."""
