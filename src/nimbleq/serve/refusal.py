"""Requests that are refused, and why."""

from __future__ import annotations

from enum import Enum

from nimbleq.errors import NimbleqError


class Why(Enum):
    """Why a request is refused: a label of the metrics, and the HTTP status.

    gRPC's status follows in `nimbleq.serve.http`, the byte on the wire of the shared memory in `nimbleq.serve.record`.
    """

    INVALID = ("invalid", 400)
    CONFLICT = ("conflict", 409)
    FULL = ("full", 503)
    STOPPING = ("stopping", 503)
    EXPIRED = ("expired", 504)

    @property
    def label(self) -> str:
        """Of the metrics."""
        return self.value[0]

    @property
    def status(self) -> int:
        """Of HTTP."""
        return self.value[1]


class RefusedError(NimbleqError):
    """A request that the server does not answer with a decision.

    Args:
        why: the kind.
        message: one line for the person who sent it.
    """

    def __init__(self, why: Why, message: str) -> None:
        super().__init__(message)
        self.why = why
