"""The gate in front of the HTTP application, without a server."""

from __future__ import annotations

import asyncio
from importlib.util import find_spec
from typing import Any

import pytest

if find_spec("kserve") is None:
    pytest.skip("needs nimbleq[serve]", allow_module_level=True)

from nimbleq.serve.admission import Admission
from nimbleq.serve.gate import Gate

PATH = "/v2/models/policy/infer"


def ask(gate: Gate, app: Any, path: str = PATH, **headers: str) -> list[dict[str, Any]]:
    """What one POST is answered; what the application raises is raised."""
    sent: list[dict[str, Any]] = []
    named = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    scope = {"type": "http", "method": "POST", "path": path, "headers": named}

    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": b"{}", "more_body": False}

    async def send(message: Any) -> None:
        sent.append(message)

    try:
        asyncio.run(Admission(app, gate, lambda: {"policy"})(scope, receive, send))
    except ZeroDivisionError:
        sent.append({"status": "raised"})
    return sent


def answering(status: int, seen: list[str], raises: bool = False) -> Any:
    async def app(scope: Any, receive: Any, send: Any) -> None:
        seen.append((await receive())["body"].decode())
        await send({"type": "http.response.start", "status": status, "headers": []})
        await send({"type": "http.response.body", "body": b"x"})
        if raises:
            raise ZeroDivisionError

    return app


def test_an_answer_passes_and_a_refusal_does_not_reach_the_application() -> None:
    gate, seen = Gate(1), list[str]()
    assert [message.get("status") for message in ask(gate, answering(200, seen))] == [200, None]
    gate.depth = 1
    refused = ask(gate, answering(200, seen))
    assert refused[0]["status"] == 503
    assert b"the queue of 1 requests is full" in refused[1]["body"]
    assert ask(gate, answering(200, seen), x_timeout_us="no")[0]["status"] == 400
    assert ask(gate, answering(200, seen), "/v2/repository/models/policy/load")[0]["status"] == 200, "no decision"
    gate.depth = 0
    assert ask(gate, answering(200, seen), x_deadline_us="1")[0]["status"] in (503, 504), "long ago"
    assert len(seen) == 2


def test_what_falls_is_answered_and_still_raised() -> None:
    """Starlette answers a fault of ours with 500, and raises it for the log."""
    gate = Gate(1)
    assert [one.get("status") for one in ask(gate, answering(500, [], raises=True))] == [500, None, "raised"]
    assert gate.depth == 0
