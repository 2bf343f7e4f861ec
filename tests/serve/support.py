"""Artefacts to serve, and a server in a process of its own."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.networks import mlp
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.guard import Envelope, Guard
from nimbleq.graph.interface import Interface
from nimbleq.graph.rewrites.mask import with_mask
from nimbleq.graph.space import Box, Dict, Discrete

JSON = {"content-type": "application/json"}
OBS = np.array([0.1, 0.2, 0.3, 0.4], np.float32)


def plain(path: Path, seed: int = 0) -> Path:
    """Four numbers, two actions."""
    return _saved(path, Interface(Box((4,)), 2), seed)


def masked(path: Path) -> Path:
    """Four numbers, three actions, masks beside the observation."""
    return _saved(path, Interface(Box((4,)), 3, mask="info:action_mask"))


def nested(path: Path) -> Path:
    """A Dict of numbers, a digit and the mask; two commands of two numbers each."""
    space = Dict((("position", Box((2,))), ("gear", Discrete(3, start=1)), ("action_mask", Box((2,), "int8"))))
    commands = np.array([[0.5, -1.0], [2.0, 3.0]])
    return _saved(path, Interface(space, 2, commands=commands, mask="obs:action_mask"))


def _saved(path: Path, interface: Interface, seed: int = 0) -> Path:
    size = interface.obs.shape[0]
    graph = mlp(size, 16, interface.actions, seed=seed)
    obs = np.random.default_rng(0).normal(size=(4, size)).astype(np.float32)
    save_artefact(path, with_mask(graph) if interface.mask else graph, obs, {"seed": seed}, interface=interface)
    return path


def free_port() -> int:
    """Nobody listens there."""
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


@dataclass
class Running:
    """A server in a process of its own.

    Attributes:
        process: that it is.
        port, grpc_port: where it listens.
    """

    process: subprocess.Popen[str]
    port: int
    grpc_port: int

    def get(self, path: str) -> Any:
        """The JSON or text at ``path``; an error has ``status``."""
        return self.send(urllib.request.Request(f"http://localhost:{self.port}{path}"))

    def post(self, path: str, body: Any = None, **headers: str) -> Any:
        """The same for a POST."""
        data = body if isinstance(body, bytes) else json.dumps(body or {}).encode()
        headers = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.send(urllib.request.Request(f"http://localhost:{self.port}{path}", data, {**JSON, **headers}))

    def send(self, request: urllib.request.Request) -> Any:
        """What comes back; refusals as ``{"status", "error"}``."""
        try:
            with urllib.request.urlopen(request, timeout=20) as response:
                text = response.read().decode()
        except urllib.error.HTTPError as error:
            return {"status": error.code, **json.loads(error.read())}
        return json.loads(text) if text.startswith(("{", "[")) else text

    def infer(self, name: str, inputs: dict[str, Any], outputs: tuple[str, ...] = (), **parameters: Any) -> Any:
        """A decision, as JSON."""
        return self.post(f"/v2/models/{name}/infer", request(inputs, outputs, **parameters))

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Its exit code."""
        self.process.send_signal(number)
        return self.process.wait(40)


def request(inputs: dict[str, Any], outputs: tuple[str, ...] = (), **parameters: Any) -> dict[str, Any]:
    """The JSON of one request."""
    types = {"f": "FP32", "i": "INT64", "b": "BOOL"}
    arrays = {name: np.asarray(value) for name, value in inputs.items()}
    tensors = [
        {"name": name, "shape": list(one.shape) or [1], "datatype": types[one.dtype.kind], "data": one.ravel().tolist()}
        for name, one in arrays.items()
    ]
    named = [{"name": name} for name in outputs]
    return {"inputs": tensors, "parameters": parameters} | ({"outputs": named} if outputs else {})


def values(answer: Any) -> dict[str, Any]:
    """Output → its numbers."""
    return {one["name"]: np.array(one["data"]).reshape(one["shape"]) for one in answer["outputs"]}


@contextlib.contextmanager
def serving(*words: str | Path) -> Iterator[Running]:
    """``nimbleq serve WORDS`` until the block ends."""
    port, grpc_port = free_port(), free_port()
    command = [sys.executable, "-m", "nimbleq", "serve", *map(str, words), "--port", str(port)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen(
        [*command, "--grpc-port", str(grpc_port)], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, env=env
    )
    running = Running(process, port, grpc_port)
    try:
        _wait_until_ready(running)
        yield running
    finally:
        if process.poll() is None:
            process.kill()
        process.communicate()


def _wait_until_ready(running: Running) -> None:
    until = time.monotonic() + 120
    while time.monotonic() < until:
        if running.process.poll() is not None:
            raise AssertionError(running.process.communicate()[0])
        with contextlib.suppress(OSError):
            running.get("/v2/health/ready")
            return
        time.sleep(0.05)
    raise AssertionError("the server did not become ready")


def guarded(path: Path) -> Path:
    """Four numbers, two actions, behind a guard whose fallback is action 1; certified to return 100."""
    envelope = Envelope([-1.0] * 4, [1.0] * 4, [0.2] * 4, [3] * 4)
    graph = mlp(4, 16, 2)
    certificate = {
        "certified": True, "keep": 1.0, "teacher_return_mean": 100.0, "random_return_mean": 0.0,
        "return_range": [0.0, 200.0],
    }  # fmt: skip
    save_artefact(path, graph, OBS[None], {}, certificate, Interface(Box((4,)), 2), guard=Guard(1, envelope))
    return path
