"""The decision server: HTTP beside an empty model on KServe's server, shared memory, and twice what it can do."""

from __future__ import annotations

import uuid
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from time import perf_counter_ns
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.load import OUTCOMES, Line, closed_loop, open_loop, raw_request
from benchmarks.networks import mlp
from benchmarks.record import Record
from benchmarks.server import free_port, server
from benchmarks.tables import header
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.interface import Interface
from nimbleq.graph.space import Box

FLOOR_HTTP, GOAL_HTTP = 2.0, 1.2
FLOOR_SHM_US, GOAL_SHM_US = 25.0, 12.0
FLOOR_IN_TIME = 0.7
"""Answers in time under overload, of what the server can do."""
TIMEOUT_S, QUEUE, LINES = 0.1, 16, 64
HTTP, SHM, OVERLOAD = "http beside an empty model", "shared memory", "twice what it can do"


def _artefact(folder: Path) -> Path:
    path, graph = folder / "policy", mlp(4, 64, 64, 2)
    obs = np.random.default_rng(0).normal(size=(4, 4)).astype(np.float32)
    save_artefact(path, graph, obs, {}, interface=Interface(Box((4,)), 2))
    return path


def _http(context: Context) -> dict[str, Any]:
    """p50 of one request after the other, ours and the empty model's in turns."""
    own, empty, rounds, turn = free_port(), free_port(), 5 if context.quick else 11, 100 if context.quick else 400
    policy = str(_artefact(context.scratch))
    with (
        server(own, "nimbleq", "serve", policy, "--port", str(own), "--grpc-port", "None"),
        server(empty, "benchmarks.peers.kserve_empty", str(empty)),
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
    port, seconds = free_port(), 2.0 if context.quick else 10.0
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
    with server(port, "nimbleq", *words):
        closed_loop(port, "policy", 8, 0.5)
        before = closed_loop(port, "policy", 8, seconds / 4).per_second
        load = open_loop(port, "policy", LINES, seconds, 2 * before, TIMEOUT_S)
        after = closed_loop(port, "policy", 8, seconds / 4).per_second
    return {
        "capacity_per_second": before, "capacity_after": after, "timeout_ms": TIMEOUT_S * 1e3, **load.to_dict()
    }  # fmt: skip


def _share_in_time(cell: dict[str, Any]) -> float:
    """Answers in time, of those of a second without overload, before and after."""
    return 2 * float(cell["per_second"]) / (float(cell["capacity_per_second"]) + float(cell["capacity_after"]))


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
        found = f"{cell['per_second']:.0f}/s in time, {_share_in_time(cell):.0%} of what it does alone"
        return f"| {name} | {offered}: {counts}; {found} | 0 late, 0 lost, ≥ {FLOOR_IN_TIME:.0%} |"

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
        if name == OVERLOAD and _share_in_time(cell) < FLOOR_IN_TIME:
            found.append(f"{name}: {_share_in_time(cell):.0%} in time, less than {FLOOR_IN_TIME:.0%}")
    return found


CASE = Case(
    "serve",
    cells=lambda _: [Cell(HTTP, _http, 30), Cell(SHM, _shm, 15), Cell(OVERLOAD, _overload, 20)],
    table=table,
    missed=missed,
)
