"""uvicorn's protocol that refuses as soon as it has read the headers, without a server."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from functools import partial
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("kserve") is None:
    pytest.skip("needs nimbleq[serve]", allow_module_level=True)

from prometheus_client import REGISTRY
from uvicorn import Config
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol
from uvicorn.server import ServerState

from nimbleq.serve.admission import Admission
from nimbleq.serve.gate import Gate
from nimbleq.serve.protocol import RefusingProtocol


class Wire(asyncio.Transport):
    """What is written to a client."""

    def __init__(self) -> None:
        super().__init__()
        self.written, self.closed = b"", False

    def write(self, data: Any) -> None:
        self.written += data

    def close(self) -> None:
        self.closed = True

    def is_closing(self) -> bool:
        return self.closed

    def pause_reading(self) -> None: ...
    def resume_reading(self) -> None: ...

    def statuses(self) -> list[int]:
        return [int(part[:3]) for part in self.written.split(b"HTTP/1.1 ")[1:]]


class Place:
    """An application behind a gate; it answers with the length of the body when it is told to."""

    def __init__(self, limit: int, protocol: Any = RefusingProtocol) -> None:
        self.gate, self.sizes, self.go = Gate(limit), list[int](), asyncio.Event()
        self._admission = Admission(self._app, self.gate, lambda: {"policy"})
        extra = {"admission": self._admission} if protocol is RefusingProtocol else {}
        config = Config(self._admission, log_config=None, lifespan="off", http=partial(protocol, **extra))
        config.load()
        self._make = partial(config.http_protocol_class, config=config, server_state=ServerState(), app_state={})

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        self.sizes.append(len((await receive())["body"]))
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"1")]})
        await send({"type": "http.response.body", "body": b"x"})

    def connect(self) -> tuple[Any, Wire]:
        made, wire = self._make(), Wire()
        made.connection_made(wire)
        return made, wire


def post(size: int, *lines: str, version: str = "1.1") -> bytes:
    """The head of a request for a decision."""
    head = [f"POST /v2/models/policy/infer HTTP/{version}", "host: here", f"content-length: {size}", *lines]
    return "\r\n".join([*head, "", ""]).encode()


def run(main: Callable[[], Coroutine[Any, Any, None]]) -> None:
    asyncio.run(asyncio.wait_for(main(), 20))


async def settled() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


def refused(why: str) -> float:
    labels = {"model": "policy", "transport": "http", "why": why}
    return REGISTRY.get_sample_value("nimbleq_refused_total", labels) or 0.0


def test_a_refusal_needs_no_body_and_counts() -> None:
    async def main() -> None:
        place, before = Place(1), refused("full")
        place.go.set()
        connection, wire = place.connect()
        place.gate.depth = 1
        connection.data_received(post(10_000_000))
        assert wire.statuses() == [503], "before a byte of the body, and before the loop runs anything else"
        assert refused("full") == before + 1
        for _ in range(10):
            connection.data_received(b"0" * 1_000_000)
            assert not connection.cycle.body, "it is not kept"
        place.gate.depth = 0
        connection.data_received(post(3) + b"abc")
        await settled()
        assert wire.statuses() == [503, 200], "the connection stays open"
        assert place.sizes == [3]
        assert not wire.closed

    run(main)


def test_what_comes_at_once_gets_its_places_at_once() -> None:
    """None of the surplus reaches the application, though it has not run in between."""

    async def main() -> None:
        place = Place(2)
        wires = []
        for _ in range(5):
            connection, wire = place.connect()
            connection.data_received(post(2) + b"{}")
            wires.append(wire)
        assert [wire.statuses() for wire in wires] == [[], [], [503], [503], [503]]
        assert place.gate.depth == 2
        place.go.set()
        await settled()
        assert [wire.statuses()[0] for wire in wires] == [200, 200, 503, 503, 503]
        assert place.gate.depth == 0

    run(main)


def test_who_sends_slowly_has_no_place_yet() -> None:
    async def main() -> None:
        place = Place(1)
        place.go.set()
        slow, slow_wire = place.connect()
        slow.data_received(post(4) + b"ab")
        await settled()
        assert place.gate.depth == 0
        fast, fast_wire = place.connect()
        fast.data_received(post(2) + b"{}")
        await settled()
        assert fast_wire.statuses() == [200]
        place.gate.depth = 1
        slow.data_received(b"cd")
        await settled()
        assert slow_wire.statuses() == [503], "full since: refused when it is whole"
        place.gate.depth = 0
        gone, _ = place.connect()
        gone.data_received(post(4))
        await settled()
        gone.connection_lost(None)
        await settled()
        assert place.gate.depth == 0
        assert place.sizes == [2]

    run(main)


def test_the_rest_of_a_refused_body_gets_no_place(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("nimbleq.serve.admission.MOST_BYTES", 8)

    async def main() -> None:
        place = Place(1)
        connection, wire = place.connect()
        connection.data_received(post(12) + b"0123456789")
        await settled()
        assert wire.statuses() == [400]
        connection.data_received(b"ab")
        await settled()
        assert place.gate.depth == 0

    run(main)


def test_many_behind_one_are_refused_in_order() -> None:
    async def main() -> None:
        place = Place(4)
        connection, wire = place.connect()
        connection.data_received(post(2) + b"{}" + post(0, "x-timeout-us: no") * 1500)
        await settled()
        assert wire.statuses() == [], "after the first one's answer"
        place.go.set()
        while len(wire.statuses()) < 1501:
            await asyncio.sleep(0.001)
        assert wire.statuses() == [200] + [400] * 1500

    run(main)


def test_nothing_is_begun_behind_a_refusal_that_closes() -> None:
    async def main() -> None:
        place = Place(4)
        place.go.set()
        connection, wire = place.connect()
        connection.data_received(post(2, "connection: close", "x-timeout-us: no") + b"{")
        await settled()
        assert wire.statuses() == [400]
        connection.shutdown()
        assert not wire.closed, "the rest of the body would reset the connection, and the client lose the response"
        connection.data_received(b"}" + post(2) + b"{}")
        await settled()
        assert wire.statuses() == [400]
        assert wire.closed
        assert place.sizes == []
        assert place.gate.depth == 0

    run(main)


@pytest.mark.parametrize("version", ["1.0", "1.1"])
@pytest.mark.parametrize("connection", ["keep-alive", "close"])
@pytest.mark.parametrize(
    ("lines", "status"),
    [((), 503), (("x-deadline-us: 1",), 504), (("x-timeout-us: -1",), 400), (("stopping: yes",), 503)],
)
def test_it_says_what_the_application_says(
    lines: tuple[str, ...], status: int, connection: str, version: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for clock in ("time.monotonic", "nimbleq.serve.admission.monotonic"):
        monkeypatch.setattr(clock, lambda: 5.0)
    monkeypatch.setattr("time.time", lambda: 100.0)

    async def main() -> None:
        wires = []
        for protocol in (RefusingProtocol, HttpToolsProtocol):
            place = Place(1, protocol)
            place.gate.depth, place.gate.stopping = int(not lines), lines == ("stopping: yes",)
            made, wire = place.connect()
            made.data_received(post(2, f"connection: {connection}", *lines, version=version) + b"{}")
            await settled()
            wires.append(wire)
        assert wires[0].statuses() == [status]
        assert wires[0].written == wires[1].written
        assert wires[0].closed == wires[1].closed

    asyncio.run(main())
