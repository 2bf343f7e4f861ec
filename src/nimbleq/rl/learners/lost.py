"""The error of a data-parallel learner."""

from __future__ import annotations

from nimbleq.errors import NimbleqError


class LearnersLostError(NimbleqError):
    """A process of the gang died: all of them start again from the last checkpoint."""
