"""A server in a process of its own."""

from __future__ import annotations

import contextlib
import socket
import subprocess
import sys
import time
from collections.abc import Iterator

from benchmarks.case import CellError
from benchmarks.load import Line


@contextlib.contextmanager
def server(port: int, *command: str) -> Iterator[None]:
    """A process that listens at ``port``, until the block ends."""
    process = subprocess.Popen([sys.executable, "-m", *command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        for _ in range(1200):
            with contextlib.suppress(OSError):
                Line(port)
                break
            if process.poll() is not None:
                said = process.stderr.read().decode() if process.stderr else ""
                raise CellError(f"{command[0]} ended: {said[-300:]}")
            time.sleep(0.05)
        yield
    finally:
        process.terminate()
        process.wait(40)


def free_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port
