"""The bounded queue and deadlines, without a server."""

import asyncio
import math
import time
from typing import Any

import pytest

from nimbleq.serve.deadline import NEVER, deadline_of, of_headers
from nimbleq.serve.gate import Gate, Ticket
from nimbleq.serve.refusal import RefusedError, Why


def test_the_earlier_of_two_deadlines_counts() -> None:
    now = time.monotonic()
    assert deadline_of({}, now) == NEVER
    assert deadline_of({"timeout": 5000}, now) == pytest.approx(now + 0.005)
    absolute = (time.time() + 3.0) * 1e6
    assert deadline_of({"deadline": absolute}, now) == pytest.approx(now + 3.0, abs=0.05)
    assert deadline_of({"timeout": "5e3", "deadline": str(absolute)}, now) == pytest.approx(now + 0.005)
    assert of_headers({"x-timeout-us": "7", "host": "a"}) == {"timeout": "7"}


@pytest.mark.parametrize("value", [0, -1, "soon", math.nan, math.inf, True, None, ""])
def test_a_deadline_is_a_positive_number(value: Any) -> None:
    with pytest.raises(RefusedError, match="positive number of microseconds"):
        deadline_of({"timeout": value}, 0.0)


def run(limit: int, tickets: list[Ticket], work_seconds: float = 0.0) -> list[Any]:
    """The order in which the tickets are answered, and why others are not."""

    async def main() -> list[Any]:
        gate, log = Gate(limit), []

        async def one(index: int, ticket: Ticket) -> None:
            try:
                async with gate.turn(ticket):
                    time.sleep(work_seconds)  # decisions never give way to other tasks
                    log.append(index)
            except RefusedError as error:
                log.append((index, error.why))

        await asyncio.gather(*(one(index, ticket) for index, ticket in enumerate(tickets)))
        assert gate.depth == 0
        return log

    return asyncio.run(main())


def test_first_come_first_served_and_the_surplus_refused_at_once() -> None:
    tickets = [Ticket(time.monotonic()) for _ in range(5)]
    assert run(3, tickets, 0.001) == [(3, Why.FULL), (4, Why.FULL), 0, 1, 2]


def test_what_expires_while_it_waits_is_not_computed() -> None:
    now = time.monotonic()
    tickets = [Ticket(now), Ticket(now, now + 0.01), Ticket(now, now + 10)]
    assert run(5, tickets, 0.03) == [0, (1, Why.EXPIRED), 2]


def test_nothing_is_begun_that_would_come_too_late() -> None:
    now = time.monotonic()
    with pytest.raises(RefusedError, match=r"the deadline is in \d+\.\d ms: the decision comes too late"):
        Ticket(now - 0.95, now + 0.05).check("comes too late")  # in the last tenth
    Ticket(now - 0.5, now + 0.5).check("comes too late")
    Ticket(now - 0.5).check(seconds=1e9)
    with pytest.raises(RefusedError, match="was not computed"):
        Ticket(now, now + 1.0).check(seconds=0.95)


def test_an_idle_server_refuses_nothing_that_is_in_time() -> None:
    gate, now = Gate(4), time.monotonic()
    gate.usual = 100.0
    gate.check(Ticket(now, now + 10.0))
    with pytest.raises(RefusedError) as late:
        gate.check(Ticket(now - 2.0, now - 1.0))
    assert late.value.why is Why.EXPIRED
    gate.depth = 1
    with pytest.raises(RefusedError, match="takes about 100000 ms") as full:
        gate.check(Ticket(now, now + 10.0))
    assert full.value.why is Why.FULL


def test_a_slow_decision_is_forgotten() -> None:
    gate = Gate(4)
    gate.usual = 10.0

    async def refused() -> int:
        for count in range(200):
            try:
                async with gate.turn(Ticket(time.monotonic(), time.monotonic() + 1.0)):
                    return count
            except RefusedError:
                continue
        return 200

    assert 0 < asyncio.run(refused()) < 50


def test_a_stopping_gate_answers_what_it_let_in() -> None:
    async def main() -> list[str]:
        gate, log = Gate(4), []

        async def one() -> None:
            async with gate.turn(Ticket(0.0)):
                await asyncio.sleep(0.02)
                log.append("answered")

        tasks = [asyncio.create_task(one()) for _ in range(3)]
        await asyncio.sleep(0)
        gate.stopping = True
        with pytest.raises(RefusedError, match="stopping"):
            async with gate.turn(Ticket(0.0)):
                pass
        await gate.drained()
        await asyncio.gather(*tasks)
        return log

    assert asyncio.run(main()) == ["answered"] * 3


def test_a_cancelled_request_leaves_the_queue() -> None:
    async def main() -> int:
        gate = Gate(4)

        async def one() -> None:
            async with gate.turn(Ticket(0.0)):
                await asyncio.sleep(1)

        tasks = [asyncio.create_task(one()) for _ in range(2)]
        await asyncio.sleep(0)
        for task in reversed(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        return gate.depth

    assert asyncio.run(main()) == 0
