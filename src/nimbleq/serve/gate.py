"""The bounded queue in front of the decisions: one at a time, in order; late and surplus work refused."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass

from nimbleq.serve.deadline import NEVER
from nimbleq.serve.refusal import RefusedError, Why


@dataclass
class Ticket:
    """One request.

    Attributes:
        arrived: when the server got it (`time.monotonic`).
        deadline: when its answer is worthless, on the same clock.
    """

    arrived: float
    deadline: float = NEVER

    def check(self, what: str = "was not computed") -> None:
        """Refuse it if its deadline has passed."""
        late = time.monotonic() - self.deadline
        if late >= 0:
            raise RefusedError(Why.EXPIRED, f"the deadline passed {late * 1e3:.1f} ms ago: the decision {what}")


class Gate:
    """A queue of at most ``limit`` requests, the one that is being answered included.

    A request is counted and stamped as soon as the event loop has read it; while one is answered, all others only wait.
    So the queue is this one, not the loop's, and what is in it is known.

    Attributes:
        limit: most requests at once.
        depth: requests in it.
        stopping: nothing more is let in.
    """

    def __init__(self, limit: int) -> None:
        self.limit, self.depth, self.stopping = limit, 0, False
        self._turn = asyncio.Lock()

    @asynccontextmanager
    async def turn(self, ticket: Ticket) -> AsyncIterator[None]:
        """Wait for the turn of ``ticket``; the body answers it.

        Raises:
            RefusedError: the server stops, the queue is full, or the deadline passed while it waited.
        """
        self.check_open()
        if self.depth >= self.limit:
            raise RefusedError(Why.FULL, f"the queue of {self.limit} requests is full: try again later")
        self.depth += 1
        try:
            async with self._turn:
                await asyncio.sleep(0)  # the loop reads what has come, which then waits or is refused
                ticket.check()
                yield
        finally:
            self.depth -= 1

    def check_open(self) -> None:
        """Refuse what comes after the stop."""
        if self.stopping:
            raise RefusedError(Why.STOPPING, "the server is stopping: ask another one")

    async def drained(self) -> None:
        """Wait until everything that was let in is answered."""
        while self.depth:
            await asyncio.sleep(0.002)
