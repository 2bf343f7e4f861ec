"""The gate in front of KServe's HTTP application, before it parses anything."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from time import monotonic
from typing import Any

from nimbleq.serve import metrics
from nimbleq.serve.deadline import HEADERS, deadline_of, of_headers
from nimbleq.serve.gate import TICKET, Gate, Ticket
from nimbleq.serve.refusal import RefusedError, Why

Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Message, Receive, Send], Awaitable[None]]

MOST_BYTES = 64 << 20
"""Of one request."""
CLOSE = (b"connection", b"close")
"""The header that ends a connection."""
_HEADERS = frozenset(name.encode() for name in HEADERS)
_BY_STATUS = {why.status: why for why in (Why.INVALID, Why.CONFLICT, Why.EXPIRED)}


class Admission:
    """ASGI middleware: decisions pass the gate, everything else (health, metrics, metadata) passes at once.

    Attributes:
        gate: that they pass.
    """

    def __init__(self, app: App, gate: Gate, names: Callable[[], Any]) -> None:
        self._app, self.gate, self._names = app, gate, names

    def check(self, scope: Message) -> None:
        """Refuse a decision as soon as its headers are known, or stamp it with its `Ticket`.

        Raises:
            RefusedError: see `Gate.check`.
        """
        if not _decides(scope):
            return
        arrived = monotonic()
        given = {name.decode(): value.decode("latin-1") for name, value in scope["headers"] if name in _HEADERS}
        ticket = Ticket(arrived, deadline_of(of_headers(given), arrived))
        self.gate.check(ticket)
        scope["ticket"] = ticket

    def refused(self, scope: Message, error: RefusedError) -> list[Message]:
        """The response of a refused request, which is counted."""
        metrics.refused(self._model(scope), "http", error.why)
        body = b'{"error": %b}' % json.dumps(str(error)).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        if error.why is Why.STOPPING:
            headers.append(CLOSE)
        return [
            {"type": "http.response.start", "status": error.why.status, "headers": headers},
            {"type": "http.response.body", "body": body},
        ]

    async def __call__(self, scope: Message, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if not _decides(scope):
            await self._app(scope, receive, send)
            return
        messages: list[Message] = []
        try:
            if "ticket" not in scope:
                self.check(scope)
            ticket: Ticket = scope["ticket"]
            await self._answer(scope, ticket, receive, messages)
        except RefusedError as error:
            messages = self.refused(scope, error)
        except Exception:  # Starlette has put its answer there, and passes it on to be logged
            await _send(send, messages)
            raise
        else:
            status = messages[0]["status"] if messages else 200
            if status == 200:
                metrics.answered(self._model(scope), "http", ticket.arrived)
            elif status in _BY_STATUS:
                metrics.refused(self._model(scope), "http", _BY_STATUS[status])
        await _send(send, messages)

    async def _answer(self, scope: Message, ticket: Ticket, receive: Receive, messages: list[Message]) -> None:
        """Put what the application answers into ``messages``: it is held back until it is known to be in time."""

        async def replay() -> Message:
            return {"type": "http.request", "body": body, "more_body": False}

        async def keep(message: Message) -> None:
            messages.append(message)

        try:
            body = await _whole(receive)  # before its turn: a slow sender holds up nobody
            async with self.gate.turn(ticket):
                token = TICKET.set(ticket)
                try:
                    await self._app(scope, replay, keep)
                finally:
                    TICKET.reset(token)
        finally:
            del scope["ticket"]  # so that the rest of a refused body gets it no place
            self.gate.leave(ticket)
        if messages and messages[0]["status"] == 200:
            ticket.check("comes too late")

    def _model(self, scope: Message) -> str:
        """For the counts; empty where there is no such one."""
        asked = scope["path"].split("/models/")[-1].split("/")[0]
        return asked if asked in self._names() else ""


def _decides(scope: Message) -> bool:
    """Whether it asks for a decision."""
    if scope["type"] != "http" or scope["method"] != "POST":
        return False
    path: str = scope["path"]
    return path.endswith(("/infer", ":predict"))


async def _send(send: Send, messages: Iterable[Message]) -> None:
    for message in messages:
        await send(message)


async def _whole(receive: Receive) -> bytes:
    """The body of a request."""
    parts, size = [], 0
    while True:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise RefusedError(Why.INVALID, "the client went away before the end of its request")
        parts.append(message.get("body", b""))
        size += len(parts[-1])
        if size > MOST_BYTES:
            raise RefusedError(Why.INVALID, f"the request is larger than {MOST_BYTES >> 20} MiB")
        if not message.get("more_body", False):
            return b"".join(parts)
