"""Live returns that clients report, and what the field monitor makes of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Protocol

from fastapi import FastAPI, Request
from fastapi.responses import JSONResponse

from nimbleq.errors import ConfigError
from nimbleq.serve.refusal import RefusedError, Why

MOST_RETURNS = 10_000
"""Of one request."""


class Watching(Protocol):
    """A field monitor; see `nimbleq.compress.certify.monitor.Monitor`."""

    wealth: float
    alarm: int | None
    episodes: int

    def add(self, total: float) -> bool: ...
    def to_dict(self) -> dict[str, Any]: ...


MonitorOf = Callable[[Path], Watching | None]
"""Artefact → a new monitor of what it was certified for; None where it is not certified."""


def no_monitor(path: Path) -> Watching | None:
    """Of a server that watches nothing."""
    return None


def add_route(app: FastAPI, monitors: Mapping[str, Watching | None]) -> None:
    """``POST /v2/models/NAME/returns`` takes ``{"returns": [number, …]}`` and answers with the monitor's state."""

    async def report(name: str, request: Request) -> JSONResponse:
        if name not in monitors:
            return JSONResponse({"error": f"Model with name {name} does not exist."}, 404)
        try:
            return JSONResponse(_told(monitors[name], await _returns(request)))
        except RefusedError as error:
            return JSONResponse({"error": str(error)}, error.why.status)

    app.add_api_route("/v2/models/{name}/returns", report, methods=["POST"])


async def _returns(request: Request) -> list[float]:
    try:
        body = await request.json()
    except ValueError:
        body = None
    values = body.get("returns") if isinstance(body, dict) else None
    numbers = isinstance(values, list) and all(isinstance(one, int | float) and one == one for one in values)
    if not numbers or not values or len(values) > MOST_RETURNS:
        raise RefusedError(Why.INVALID, f'a report is {{"returns": [number, ...]}} with 1 to {MOST_RETURNS} numbers')
    return [float(one) for one in values]


def _told(monitor: Watching | None, returns: list[float]) -> dict[str, Any]:
    if monitor is None:
        raise RefusedError(Why.CONFLICT, "this policy is not certified, so there is nothing to monitor")
    try:
        for total in returns:
            monitor.add(total)
    except ConfigError as error:
        raise RefusedError(Why.INVALID, str(error)) from None
    return monitor.to_dict()
