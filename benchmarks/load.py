"""A load of HTTP requests: how many are answered in time, late, refused, lost.

One thread and raw requests over open connections, so that the client needs little of the machine which it shares with
the server.
"""

from __future__ import annotations

import asyncio
import json
import socket
import time
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

OUTCOMES = ("in time", "late", "refused", "expired", "lost")
_STATUS = {200: "in time", 503: "refused", 504: "expired"}
OBS: dict[str, Any] = {"inputs": [{"name": "obs", "datatype": "FP32", "shape": [1, 4], "data": [0.1, 0.2, 0.3, 0.4]}]}


@dataclass
class Load:
    """What came of a load.

    Attributes:
        outcomes: how many of each of `OUTCOMES`.
        seconds: of those in time, from sending to the answer.
        took: seconds of the whole.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    took: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers in time."""
        return self.outcomes["in time"] / self.took

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        p50, p99 = (float(np.percentile(self.seconds, share) * 1e3) if self.seconds else None for share in (50, 99))
        counts = {name: self.outcomes[name] for name in OUTCOMES}
        return counts | {"seconds": self.took, "p50_ms": p50, "p99_ms": p99, "per_second": self.per_second}


def raw_request(port: int, model: str, headers: Mapping[str, str] | None = None) -> bytes:
    """The bytes of one decision for `OBS`."""
    body = json.dumps(OBS).encode()
    lines = [
        f"POST /v2/models/{model}/infer HTTP/1.1", f"host: localhost:{port}", "content-type: application/json",
        f"content-length: {len(body)}", *(f"{name}: {value}" for name, value in (headers or {}).items()),
    ]  # fmt: skip
    return "\r\n".join(lines).encode() + b"\r\n\r\n" + body


class Line:
    """One open connection, used by one request at a time, without an event loop."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("localhost", port))
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def ask(self, request: bytes) -> int:
        """Send it and wait for the status."""
        self._socket.sendall(request)
        held = self._socket.recv(65536)
        while not _complete(held):
            held += self._socket.recv(65536)
        return int(held[9:12])


def _complete(held: bytes) -> bool:
    head, found, body = held.partition(b"\r\n\r\n")
    length = next((line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:")), b":0")
    return bool(found) and len(body) >= int(length.split(b":")[1])


def closed_loop(port: int, model: str, lines: int, seconds: float) -> Load:
    """``lines`` clients, each of which asks again as soon as it has its answer: what the server can do."""
    return asyncio.run(_run(port, model, lines, seconds, None, None))


def open_loop(port: int, model: str, lines: int, seconds: float, per_second: float, timeout_s: float) -> Load:
    """Requests at a fixed rate, whether the server keeps up or not, each with a deadline.

    Args:
        lines: open connections; one that still waits sends its next request late.
    """
    return asyncio.run(_run(port, model, lines, seconds, per_second, timeout_s))


async def _run(
    port: int, model: str, lines: int, seconds: float, per_second: float | None, timeout_s: float | None
) -> Load:  # fmt: skip
    load, began = Load(), time.monotonic()

    async def client(index: int) -> None:
        reader, writer = await asyncio.open_connection("localhost", port)
        step = 0.0 if per_second is None else lines / per_second
        due = began + step * index / lines
        while (now := time.monotonic()) < began + seconds:
            if now < due:
                await asyncio.sleep(due - now)
            due = max(due, time.monotonic() - step) + step
            await _one(port, model, reader, writer, timeout_s, load)
        writer.close()

    await asyncio.gather(*(client(index) for index in range(lines)))
    load.took = time.monotonic() - began
    return load


async def _one(
    port: int, model: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, timeout_s: float | None,
    load: Load,
) -> None:  # fmt: skip
    sent, moment = time.monotonic(), time.time()
    headers = {} if timeout_s is None else {"x-deadline-us": f"{(moment + timeout_s) * 1e6:.0f}"}
    writer.write(raw_request(port, model, headers))
    try:
        head = await reader.readuntil(b"\r\n\r\n")
        length = next(line for line in head.lower().split(b"\r\n") if line.startswith(b"content-length:"))
        await reader.readexactly(int(length.split(b":")[1]))
    except (asyncio.IncompleteReadError, ConnectionError):
        load.outcomes["lost"] += 1
        return
    took = time.monotonic() - sent
    outcome = _STATUS.get(int(head[9:12]), "lost")
    if outcome == "in time" and timeout_s is not None and took > timeout_s:
        outcome = "late"
    load.outcomes[outcome] += 1
    if outcome == "in time":
        load.seconds.append(took)
