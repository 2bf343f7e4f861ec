"""Latency of one decision, engine beside engine on the same core.

Engines take turns in rounds, so that a machine that slows down slows all of them. `nimbleq-c` is timed inside C, call
by call; the others from Python, with the clock around each call, which is how they would be called.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.engines import ENGINES
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Run, Source, Target, Timer, python_timer
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import NimbleqError
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.golden import random_masks
from nimbleq.graph.graph import Graph
from nimbleq.types import Array, Tick, no_tick

ROUNDS = 7
CALLS = 2000
SECONDS_PER_TURN = 0.25
_BINS = 40


@dataclass(frozen=True)
class Row:
    """Latency of one engine.

    Attributes:
        engine: ``nimbleq-c`` (timed in C), ``nimbleq-python``, ``onnxruntime``, ``empty-c`` and ``empty-python`` (the
            timed loops around nothing), or what the caller named.
        what: which graph, e.g. ``"artefact"`` or ``"teacher"``.
        p50_us, p99_us, p999_us: percentiles over all rounds.
        calls: timed calls.
        histogram: ``{"edges_us": [...], "counts": [...]}``, logarithmic bins.
    """

    engine: str
    what: str
    p50_us: float
    p99_us: float
    p999_us: float
    calls: int
    histogram: dict[str, list[float]]


@dataclass(frozen=True)
class Bench:
    """Attributes:
    rows: one per engine.
    ratios: engine → median over the rounds of its p50 ÷ that of ``nimbleq-c`` (else ``nimbleq-python``) on the first
        graph.
    rounds: how many rounds were run.
    cpu: the core that all of it ran on; None where a process cannot be bound to a core.
    """

    rows: tuple[Row, ...]
    ratios: dict[str, float]
    rounds: int
    cpu: int | None

    def to_dict(self) -> dict[str, Any]:
        """JSON values."""
        return asdict(self) | {"rows": [asdict(row) for row in self.rows]}


def bench(
    graphs: Mapping[str, Graph],
    obs: Array,
    others: Mapping[tuple[str, str], Callable[[Array], object]] | None = None,
    *,
    targets: Collection[str] | None = None,
    timers: Mapping[tuple[str, str], Timer] | None = None,
    rounds: int = ROUNDS,
    calls: int = CALLS,
    bits: tuple[tuple[int, int], ...] = (),
    tick: Tick = no_tick,
) -> Bench:
    """Time one decision of every graph with every engine here, and ``others`` among them.

    Args:
        graphs: what it is (``"artefact"``, ``"teacher"``) → policy; the first one is what ratios refer to.
        obs: ``[K, *O]`` observations to go round in (branches and caches then see what they would in use).
        others: (engine, what) → function of one observation ``[*O]``; e.g. torch eager.
        targets: targets and engines to time, of the ones that work here; None: all.
        timers: (engine, what) → its own timer; e.g. of code that times itself.
        rounds: at least 5 make the median ratio mean something.
        calls: per engine and round; fewer for engines that would take longer than a quarter of a second.
        bits: what the environment declares to be binary; see `nimbleq.types.ObsSpec`.
    """
    timers = dict(timers or {})
    for what, graph in graphs.items():
        timers |= {(engine, what): timer for engine, timer in _engines(graph, obs, targets, bits).items()}
    timers |= {key: python_timer(call, obs) for key, call in (others or {}).items()}
    first = next(iter(graphs))
    timers["empty-python", first] = python_timer(_nothing, obs)
    with _one_core() as cpu:
        counts = {key: _warm_up(timer, calls) for key, timer in timers.items()}
        times: dict[tuple[str, str], list[Array]] = {key: [] for key in timers}
        for index in range(rounds):
            for key, timer in timers.items():
                times[key].append(timer(counts[key]) / 1e3)
            tick(index + 1, rounds, "")
    rows = tuple(_row(*key, np.concatenate(samples)) for key, samples in times.items())
    base = times.get(("nimbleq-c", first), times["nimbleq-python", first])
    ratios = {
        engine if what == first else f"{engine} ({what})": float(
            np.median([np.median(one) / np.median(ours) for one, ours in zip(samples, base, strict=True)])
        )
        for (engine, what), samples in times.items()
    }
    return Bench(rows, ratios, rounds, cpu)


def _engines(
    graph: Graph, obs: Array, targets: Collection[str] | None, bits: tuple[tuple[int, int], ...]
) -> dict[str, Timer]:
    """The engines that run one graph on this machine."""
    mask = random_masks(np.random.default_rng(0), len(obs), graph).astype(bool) if graph.masked else None
    timers: dict[str, Timer] = {
        "nimbleq-python": python_timer(Runtime(graph, interface=network_interface(graph, bits)).decider.act, obs, mask)
    }
    of_targets = [row.engine for row in TARGETS.values()]
    for name, engine in ENGINES.items():
        if engine not in of_targets and (targets is None or name in targets):
            with suppress(NimbleqError):
                timers |= engine.timers(engine.load(graph, network_interface(graph, bits), -1)[0], obs, mask)
    for name, row in TARGETS.items():
        wanted = row.timed and (targets is None or name in targets)
        if wanted and not row.cannot_emit() and not row.cannot_open():
            with suppress(NimbleqError):  # the target does not work here, or cannot do this graph
                timers |= _timers(row, graph, obs, mask, bits)
    return timers


def _timers(
    row: Target, graph: Graph, obs: Array, mask: Array | None, bits: tuple[tuple[int, int], ...]
) -> Mapping[str, Timer]:
    """Engine → timer, of one target."""
    if row.engine is not None:
        return row.engine.timers(row.engine.load(graph, network_interface(graph, bits), -1)[0], obs, mask)
    source = Source(graph)
    files = row.emit(source, "policy", row.options())
    with tempfile.TemporaryDirectory(prefix="nimbleq-bench-") as folder:
        return {
            label: python_timer(_one_at_a_time(run), obs, mask)
            for label, run in row.open(source, files, "policy", Path(folder)).items()
        }


def _one_at_a_time(run: Run) -> Callable[..., object]:
    return lambda obs, mask=None: run(obs[None], None if mask is None else mask[None])


def _nothing(obs: Array) -> None:
    """What the empty loop calls."""


def _warm_up(timer: Timer, calls: int) -> int:
    """Runs the engine until it is warm; how many calls to make per round."""
    timer(5)
    typical = max(float(np.median(timer(20))), 1.0)
    count = int(np.clip(SECONDS_PER_TURN * 1e9 / typical, 20, calls))
    timer(min(count, 200))
    return count


def _row(engine: str, what: str, times_us: Array) -> Row:
    p50, p99, p999 = (float(value) for value in np.percentile(times_us, [50, 99, 99.9]))
    positive = np.maximum(times_us, 1e-3)
    edges = np.geomspace(positive.min() * 0.999, positive.max() * 1.001, _BINS + 1)
    counts, _ = np.histogram(positive, edges)
    histogram = {"edges_us": [float(edge) for edge in edges], "counts": [float(count) for count in counts]}
    return Row(engine, what, p50, p99, p999, len(times_us), histogram)


@contextmanager
def _one_core() -> Iterator[int | None]:
    """Binds this thread to the last core it may use."""
    if not hasattr(os, "sched_setaffinity"):
        yield None
        return
    allowed = os.sched_getaffinity(0)
    cpu = max(allowed)
    os.sched_setaffinity(0, {cpu})
    try:
        yield cpu
    finally:
        os.sched_setaffinity(0, allowed)
