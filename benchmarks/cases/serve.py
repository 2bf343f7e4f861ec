"""The decision server: HTTP beside an empty model on KServe's server, shared memory, and twice what it can do."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.load import OUTCOMES, Line, closed_loop, open_loop, raw_request
from benchmarks.networks import mlp
from benchmarks.record import Record
from benchmarks.tables import header
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box

FLOOR_HTTP, GOAL_HTTP = 2.0, 1.2
FLOOR_SHM_US, GOAL_SHM_US = 25.0, 12.0
TIMEOUT_S, QUEUE, LINES = 0.1, 16, 64
HTTP, SHM, OVERLOAD = "http beside an empty model", "shared memory", "twice what it can do"


def _artefact(folder: Path) -> Path:
    path, graph = folder / "policy", mlp(4, 64, 64, 2)
    obs = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    save_artefact(path, graph, obs, {}, interface=Interface(Box((4,)), 2))
    return path


@contextlib.contextmanager
def _server(port: int, *command: str) -> Iterator[None]:
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


def _free_port() -> int:
    import socket

    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port: int = probe.getsockname()[1]
        return port


def _http(context: Context) -> dict[str, Any]:
    """p50 of one request after the other, ours and the empty model's in turns."""
    own, empty, rounds, turn = _free_port(), _free_port(), 5 if context.quick else 11, 100 if context.quick else 400
    policy = str(_artefact(context.scratch))
    with (
        _server(own, "nimbleq", "serve", policy, "--port", str(own), "--grpc-port", "None"),
        _server(empty, "benchmarks.peers.kserve_empty", str(empty)),
    ):
        lines = {port: (Line(port), raw_request(port, "policy")) for port in (own, empty)}
        p50s: dict[int, list[float]] = {own: [], empty: []}
        for number in range(rounds + 1):
            taken: dict[int, list[int]] = {own: [], empty: []}
            for _ in range(turn):
                for port, (line, request) in lines.items():
                    start = perf_counter_ns()
                    if line.ask(request) != 200:
                        raise CellError("a request was refused")
                    taken[port].append(perf_counter_ns() - start)
            if number:  # the first warms up
                for port, times in taken.items():
                    p50s[port].append(float(np.median(times)) / 1e3)
    ratio = median(a / b for a, b in zip(p50s[own], p50s[empty], strict=True))
    return {"p50_us": median(p50s[own]), "empty_p50_us": median(p50s[empty]), "ratio": ratio}


def _shm(context: Context) -> dict[str, Any]:
    """Round trips of ``policy.act`` from Python, polled at both ends."""
    from nimbleq.serve.client import connect
    from nimbleq.serve.policy import Served
    from nimbleq.serve.worker import SharedMemory

    served = {"policy": Served.load("policy", _artefact(context.scratch))}
    name, obs = f"bench-{uuid.uuid4().hex[:8]}", np.ones(4, np.float32)
    p50s, p99s = [], []
    with SharedMemory(name, served), connect(name) as server:
        act = server.policy("policy").act
        for _ in range(5 if context.quick else 11):
            times = np.empty(2_000 if context.quick else 20_000)
            for index in range(len(times)):
                start = perf_counter_ns()
                act(obs)
                times[index] = perf_counter_ns() - start
            p50s.append(float(np.median(times)) / 1e3)
            p99s.append(float(np.percentile(times, 99)) / 1e3)
    return {"p50_us": median(p50s), "p50_min_us": min(p50s), "p99_us": median(p99s)}


def _overload(context: Context) -> dict[str, Any]:
    """Offer twice the measured rate, every request with a deadline."""
    port, seconds = _free_port(), 2.0 if context.quick else 10.0
    words = (
        "serve",
        str(_artefact(context.scratch)),
        "--port",
        str(port),
        "--grpc-port",
        "None",
        "--queue",
        str(QUEUE),
    )
    with _server(port, "nimbleq", *words):
        closed_loop(port, "policy", 8, 0.5)
        capacity = closed_loop(port, "policy", 8, seconds / 4).per_second
        load = open_loop(port, "policy", LINES, seconds, 2 * capacity, TIMEOUT_S)
    return {"capacity_per_second": capacity, "timeout_ms": TIMEOUT_S * 1e3, **load.to_dict()}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""

    def row(name: str, cell: dict[str, Any]) -> str:
        if name == HTTP:
            found = f"p50 {cell['p50_us']:.0f} µs, empty model {cell['empty_p50_us']:.0f} µs: {cell['ratio']:.2f}×"
            return f"| {name} | {found} | ≤ {FLOOR_HTTP}× ({GOAL_HTTP}×) |"
        if name == SHM:
            found = f"p50 {cell['p50_us']:.1f} µs (best turn {cell['p50_min_us']:.1f}), p99 {cell['p99_us']:.0f} µs"
            return f"| {name} | {found} | ≤ {FLOOR_SHM_US:g} µs ({GOAL_SHM_US:g} µs) |"
        counts = ", ".join(f"{cell[outcome]} {outcome}" for outcome in OUTCOMES)
        offered = f"{2 * cell['capacity_per_second']:.0f} requests/s, deadline {cell['timeout_ms']:.0f} ms"
        return f"| {name} | {offered}: {counts}; {cell['per_second']:.0f}/s in time | 0 late, 0 lost |"

    return "\n".join([
        "# The decision server", "", f"Policy 4-64-64-2. {record.footnote()}", "",
        header("what", "measured", "floor (goal)"), *record.rows(names, row, 3), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """Floors that are not met."""
    found = []
    for name, cell in record.cells.items():
        if "error" in cell:
            continue
        if name == HTTP and cell["ratio"] > FLOOR_HTTP:
            found.append(f"{name}: {cell['ratio']:.2f}×, more than {FLOOR_HTTP}×")
        if name == SHM and cell["p50_us"] > FLOOR_SHM_US:
            found.append(f"{name}: {cell['p50_us']:.1f} µs, more than {FLOOR_SHM_US:g} µs")
        if name == OVERLOAD and (cell["late"] or cell["lost"]):
            found.append(f"{name}: {cell['late']} late, {cell['lost']} lost")
    return found


CASE = Case(
    "serve",
    cells=lambda _: [Cell(HTTP, _http, 30), Cell(SHM, _shm, 15), Cell(OVERLOAD, _overload, 20)],
    table=table,
    missed=missed,
)
