"""A load of HTTP requests: how many are answered in time, late, refused, lost.

One thread and raw requests over open connections, so that the client needs little of the machine which it shares with
the server.
"""

from __future__ import annotations

import json
import selectors
import socket
import time
from collections import Counter
from collections.abc import Mapping, Sequence
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
        stall: longest time in seconds in which the client itself did not look at its connections.
    """

    outcomes: Counter[str] = field(default_factory=Counter)
    seconds: list[float] = field(default_factory=list)
    took: float = 0.0
    stall: float = 0.0

    @property
    def per_second(self) -> float:
        """Answers in time."""
        return self.outcomes["in time"] / self.took

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        p50, p99 = (float(np.percentile(self.seconds, share) * 1e3) if self.seconds else None for share in (50, 99))
        counts = {name: self.outcomes[name] for name in OUTCOMES}
        return counts | {"seconds": self.took, "p50_ms": p50, "p99_ms": p99, "per_second": self.per_second,
                         "stall_ms": self.stall * 1e3}  # fmt: skip


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
    return _run([_Client(port, model, 0.0, 0.0, None) for _ in range(lines)], seconds)


def open_loop(port: int, model: str, lines: int, seconds: float, per_second: float, timeout_s: float) -> Load:
    """Requests at a fixed rate, whether the server keeps up or not, each with a deadline.

    Args:
        lines: open connections; one that still waits sends its next request late.
    """
    step = lines / per_second
    return _run([_Client(port, model, step * index / lines, step, timeout_s) for index in range(lines)], seconds)


class _Client:
    """One open connection that asks every ``step`` seconds, from ``first`` on, or as soon as it has its answer.

    Where the server says that it closes the connection, it asks no more.
    """

    def __init__(self, port: int, model: str, first: float, step: float, timeout_s: float | None) -> None:
        self.socket = socket.create_connection(("localhost", port))
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._port, self._model, self._timeout, self._step = port, model, timeout_s, step
        self.due, self.waits, self._sent, self._held = first, False, 0.0, b""
        self.open = True

    def send(self, now: float) -> None:
        """The next request."""
        headers = {} if self._timeout is None else {"x-deadline-us": f"{(time.time() + self._timeout) * 1e6:.0f}"}
        self.due = max(self.due + self._step, now)
        self.waits, self._sent, self._held = True, time.monotonic(), b""
        self.socket.sendall(raw_request(self._port, self._model, headers))

    def receive(self, load: Load) -> None:
        """What came of it, if it is all there."""
        try:
            part = self.socket.recv(65536)
        except ConnectionError:
            part = b""
        self._held += part
        if part and not _complete(self._held):
            return
        took, self.waits = time.monotonic() - self._sent, False
        self.open = bool(part) and b"connection: close" not in self._held.partition(b"\r\n\r\n")[0].lower()
        outcome = _STATUS.get(int(self._held[9:12]), "lost") if part else "lost"
        if outcome == "in time" and self._timeout is not None and took > self._timeout:
            outcome = "late"
        load.outcomes[outcome] += 1
        if outcome == "in time":
            load.seconds.append(took)


def _run(clients: Sequence[_Client], seconds: float) -> Load:
    """Let them ask for so long, then wait for what is still out; what does not come within 10 s is lost."""
    load, began = Load(), time.monotonic()
    looked = began
    for client in clients:
        client.due += began
    with selectors.DefaultSelector() as selector:
        for client in clients:
            selector.register(client.socket, selectors.EVENT_READ, client)
        while (now := time.monotonic()) < began + seconds or any(client.waits for client in clients):
            load.stall, looked = max(load.stall, now - looked), now
            if now > began + seconds + 10:
                load.outcomes["lost"] += sum(client.waits for client in clients)
                break
            if now < began + seconds:
                for client in clients:
                    if client.open and not client.waits and client.due <= now:
                        client.send(now)
            for key, _ in selector.select(0.0005):
                key.data.receive(load)
                if not key.data.open:
                    selector.unregister(key.fileobj)
    load.took = time.monotonic() - began
    for client in clients:
        client.socket.close()
    return load
