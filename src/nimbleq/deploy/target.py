"""What a target is: a row of `nimbleq.deploy.targets.TARGETS`.

A new target is a file beside `targets/__init__.py` and a line in its table: `export`, `verify`, `bench`, `doctor`, the
command line and its help go through the table.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any, Self

import numpy as np

from nimbleq.deploy.decider import Decider
from nimbleq.deploy.guarded import Core
from nimbleq.deploy.periods import Periods
from nimbleq.graph.artefact import Artefact
from nimbleq.graph.golden import Golden
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

Files = Mapping[str, bytes]
"""Name → content of what a target writes. A name may lie in a folder: ``cortex-m4/policy.c``."""
Run = Callable[[Array, Array | None], tuple[Array | None, Array | None]]
"""``obs[N, *O], mask[N, A] → (action int[N], q float32[N, A])``; the mask is None where the policy takes none, and
either answer where the files do not give it. A `Decider.run` is one."""
RawRun = Callable[[Sequence[Any], Array | None], tuple[Array, Array, Array]]
"""Observations as the environment gives them, ``mask[N, A]`` → ``(index int[N], input [N, *O], action[N, *A])``: the
index of the action (−1: refused), what the network read, and the action as the environment takes it."""
GuardRun = Callable[[Periods], tuple[Array, Array, Array]]
"""Periods of control loops → ``(standby int[N], action int[N], faults int[N])`` of the guard; the first is what it has
standing by before the observation comes."""
Timer = Callable[[int], Array]
"""``calls → float64[calls]`` nanoseconds of each."""


@dataclass(frozen=True)
class NoOptions:
    """Of a target that is written in one way only."""


@dataclass(frozen=True)
class Source:
    """What a target writes.

    Attributes:
        graph: the policy, outputs ``q`` and ``action``.
        origin: where it comes from (artefact and digest), for comments and metadata.
        q_meaning: what the action values are; see `nimbleq.graph.artefact.Artefact.q_meaning`.
        interface: what the environment gives and takes; None where nobody knows.
        digest: of the artefact; empty where there is none, then no mark is written.
        golden: observations and their answers; None where there are none, then no self-test is written.
        guard: what stands between the network and the machine; None without one.
    """

    graph: Graph
    origin: str = ""
    q_meaning: str = ""
    interface: Interface | None = None
    digest: str = ""
    golden: Golden | None = None
    guard: Guard | None = None

    @classmethod
    def of(cls, artefact: Artefact) -> Self:
        """The policy of an artefact."""
        origin = f"artefact {artefact.path.name}, digest {artefact.digest}"
        return cls(
            artefact.graph, origin, artefact.q_meaning, artefact.interface, artefact.digest, artefact.golden,
            artefact.guard,
        )  # fmt: skip


@dataclass(frozen=True)
class Footprint:
    """What one policy takes of a target, its code and what that needs of the compiler's library included.

    Attributes:
        target: its name.
        text_bytes: code and constants; with ``data_bytes`` the flash.
        data_bytes: variables that start with a value.
        ram_bytes: static memory.
        stack_bytes: measured while deciding, below the caller's frame; None where it could not be run.
        instructions: of one decision, in ``unit``; None where they were not counted.
        unit: ``instructions`` of an emulator, which says nothing of time, or ``cycles``.
        compiler: and what it optimized for.
        energy_nj: an estimate of one decision: ``instructions`` × what one takes by a data sheet, a cycle each; None
            where there is no such figure.
        energy_by: that figure and where it is from.
    """

    target: str
    text_bytes: int
    data_bytes: int
    ram_bytes: int
    stack_bytes: int | None
    instructions: int | None
    unit: str
    compiler: str
    energy_nj: float | None = None
    energy_by: str = ""


@dataclass(frozen=True)
class Engine:
    """How `nimbleq.deploy.runtime.Runtime` decides in this process: a row of `nimbleq.deploy.engines.ENGINES`.

    Attributes:
        name: what people choose: ``Runtime(policy, engine=name)``.
        load: ``(graph, interface, fallback) → (decider, reason)``: the fastest way on this machine, and in words which
            it is; see `nimbleq.deploy.decider` for ``fallback``. Raises `NimbleqError` where there is none.
        timers: ``(decider, obs[K, *O], mask[K, A] or None) → {name in the table of bench: timer}``.
        fast: it decides in machine code of its own, at the speed that is promised.
        guard: ``(graph, guard) → a maker of cores``, each with a state of its own, where the engine runs the guard;
            None: `NumpyCore` does.
        remembers: its deciders keep what a policy remembers; others cannot run one that does.
    """

    name: str
    load: Callable[[Graph, Interface, int], tuple[Decider, str]]
    timers: Callable[[Decider, Array, Array | None], Mapping[str, Timer]]
    fast: bool = False
    guard: Callable[[Graph, Guard], Callable[[], Core]] | None = None
    remembers: bool = False


def nothing_missing() -> None:
    """Of a target that needs nothing."""


@dataclass(frozen=True, kw_only=True)
class Target:
    """One target.

    Attributes:
        name: on the command line and in manifests.
        purpose: what it is, in one phrase for the help of ``--to``.
        options: frozen dataclass of how it is written; every field has a default, and is ``--NAME.FIELD`` on the
            command line.
        emit: ``(source, name, options) → files``; ``name`` is of the policy. Raises `UnsupportedOpError` where the
            target cannot do an op.
        open: ``(source, files, name, folder) → {label: run}``: every way to run the files on this machine, with
            ``folder`` to build in. Labels begin with the target's name.
        raw: like ``open``, for observations as the environment gives them; no runs where those are what the network
            reads, and None where the target leaves them to its user.
        exact: integer policies give the interpreter's integers; False: the target rounds by itself.
        cannot_emit, cannot_open: why it cannot be written, or run, on this machine, and what to do; None when it can.
        timed: its runs answer in this process, so that `bench` can time them; False where starting an emulator or a
            program would be timed instead.
        most: observations that one verification runs, where running takes long; None: all.
        footprint: ``(graph, guard or None, obs[N, *O], folder) → Footprint``, measured by compiling and running in
            ``folder``.
        guard: like ``open``, for the guard of a policy that has one; None: such a policy is refused.
        remembers: it writes policies that remember; others refuse them.
        engine: for rows that `Runtime` can decide with; None: it is run by `verify` and `bench` only.
    """

    name: str
    purpose: str
    emit: Callable[[Source, str, Any], Files]
    open: Callable[[Source, Files, str, Path], Mapping[str, Run]]
    exact: bool
    raw: Callable[[Source, Files, str, Path], Mapping[str, RawRun]] | None = None
    options: type = NoOptions
    cannot_emit: Callable[[], str | None] = nothing_missing
    cannot_open: Callable[[], str | None] = nothing_missing
    timed: bool = True
    most: int | None = None
    footprint: Callable[[Graph, Guard | None, Array, Path], Footprint] | None = None
    guard: Callable[[Source, Files, str, Path], Mapping[str, GuardRun]] | None = None
    engine: Engine | None = None
    remembers: bool = False


def python_timer(call: Callable[..., object], obs: Array, mask: Array | None = None) -> Timer:
    """The clock around ``call(obs)`` or ``call(obs, mask)``, going round in ``obs[K, *O]`` and ``mask[K, A]``."""
    singles = [(np.ascontiguousarray(one), *(() if mask is None else (mask[index],))) for index, one in enumerate(obs)]

    def run(count: int) -> Array:
        times = np.empty(count)
        clock, size = perf_counter_ns, len(singles)
        for index in range(count):
            one = singles[index % size]
            start = clock()
            call(*one)
            times[index] = clock() - start
        return times

    return run
