"""The bounded queue in front of the decisions: one at a time, in order; late and surplus work refused.

A deadline is the client's: the last tenth of the time that it gave is left for the way back to it. A request is refused
at once where those before it would take half of its time, and later where less is left than a decision usually takes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from nimbleq.serve.deadline import NEVER
from nimbleq.serve.refusal import RefusedError, Why

BACK = 0.1
"""Share of the time until the deadline that the answer has for its way to the client."""


WAITING = 0.5
"""Most of the time until its deadline that a request may be expected to wait."""
SHARE = 0.1
"""Of the last decision in what one usually takes."""


@dataclass
class Ticket:
    """One request.

    Attributes:
        arrived: when the server got it (`time.monotonic`).
        deadline: when its answer is worthless, on the same clock.
        queued: whether it has a place in the queue.
    """

    arrived: float
    deadline: float = NEVER
    queued: bool = False

    def check(self, what: str = "was not computed", seconds: float = 0.0) -> None:
        """Refuse it if an answer ``seconds`` from now would not reach the client before the deadline."""
        if self.deadline == NEVER:
            return
        left = self.deadline - time.monotonic()
        if left > seconds + BACK * (self.deadline - self.arrived):
            return
        when = f"passed {-left * 1e3:.1f} ms ago" if left <= 0 else f"is in {left * 1e3:.1f} ms"
        raise RefusedError(Why.EXPIRED, f"the deadline {when}: the decision {what}")


TICKET: ContextVar[Ticket | None] = ContextVar("ticket", default=None)
"""Of the HTTP request that is being answered; see `nimbleq.serve.admission`. None in a gRPC request."""


class Gate:
    """A queue of at most ``limit`` requests, the one that is being answered included.

    A request is counted and stamped as soon as the event loop has read it; while one is answered, all others only wait.
    So the queue is this one, not the loop's, and what is in it is known.

    Attributes:
        limit: most requests at once.
        depth: requests in it.
        stopping: nothing more is let in.
        usual: seconds that one turn has taken of late.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.depth, self.stopping, self.usual = limit, 0, False, 0.0
        self._turn = asyncio.Lock()

    def check(self, ticket: Ticket) -> None:
        """Refuse what would not get a place in the queue now.

        Raises:
            RefusedError: the server stops, the queue is full, or the deadline passed or would pass in it.
        """
        if self.stopping:
            raise RefusedError(Why.STOPPING, "the server is stopping: ask another one")
        if self.depth >= self.limit:
            raise RefusedError(Why.FULL, f"the queue of {self.limit} requests is full: try again later")
        ticket.check()
        wait, left = self.depth * self.usual, ticket.deadline - time.monotonic()
        if wait > WAITING * left:
            text = f"the queue takes about {wait * 1e3:.0f} ms of {left * 1e3:.0f} until the deadline: try again later"
            raise RefusedError(Why.FULL, text)

    def enter(self, ticket: Ticket) -> None:
        """Give it a place in the queue, or refuse it (see `check`)."""
        self.check(ticket)
        ticket.queued, self.depth = True, self.depth + 1

    def leave(self, ticket: Ticket) -> None:
        """Take its place back, if it has one."""
        self.depth -= ticket.queued
        ticket.queued = False

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for the turn of ``ticket``; the body answers it.

        Raises:
            RefusedError: it gets no place (see `check`), or its deadline passed while it waited.
        """
        if not ticket.queued:
            self.enter(ticket)
        try:
            async with self._turn:
                began = time.monotonic()
                await asyncio.sleep(0)  # the loop reads what has come, which then waits or is refused
                self.usual *= 1 - SHARE  # also when it is refused: one slow decision is forgotten
                ticket.check(seconds=self.usual)
                yield
                self.usual += SHARE * (time.monotonic() - began)
        finally:
            self.leave(ticket)

    async def drained(self) -> None:
        """Wait until everything that was let in is answered."""
        while self.depth:
            await asyncio.sleep(0.002)
