"""Running a policy: what the environment gives in, what it takes out, as fast as this machine can.

    policy = Runtime("runs/cp/artefacts/small")
    action = policy.act(obs)          # about 0.2 µs for a small network, C engine
    policy.status                     # which engine, and why

Needs no torch. Observations that contain NaN or infinity raise `ObservationError`, or give the fallback action when one
was set; `Status.refused` counts them.

A policy that remembers (`nimbleq.graph.graph.Graph.units`) is told of a new episode by `Runtime.reset`; make one
runtime for each episode that runs at a time.

The policy of an artefact with a guard acts behind it: `Runtime.act` then always answers, remembers the observations
before, and is told of a new episode by `Runtime.reset`; see `nimbleq.deploy.guarded`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Any

import numpy as np

from nimbleq.deploy.decider import Decider, RememberingDecider
from nimbleq.deploy.engines import ENGINES
from nimbleq.deploy.guarded import Core, Guarded, NumpyCore
from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.graph.artefact import load_artefact, misfit, network_interface
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard, misguided
from nimbleq.graph.interface import Interface, as_mask, environment_action, mask_of
from nimbleq.types import Array

AUTO = "auto"
_PROBES = 25


@dataclass(frozen=True)
class Status:
    """What a runtime uses.

    Attributes:
        engine: one of `nimbleq.deploy.engines.ENGINES`.
        ok: the engine is fast or the one asked for, and no observation was refused.
        reason: why this engine, in words.
        latency_us: median of a few calls when it was made.
        refused: observations that were not finite so far.
        guard: what the guard counted; see `nimbleq.graph.guard.COUNTERS`. None: there is no guard.
    """

    engine: str
    ok: bool
    reason: str
    latency_us: float
    refused: int
    guard: dict[str, int] | None = None


class Runtime:
    """One policy, ready to decide. Any thread may call it; it pickles and copies, and is then opened anew.

    Attributes:
        graph: the policy.
        interface: what its environment gives and takes.
        guard: what stands between the policy and the machine; None without one.
        act: ``(obs, mask=None) → action``. Takes an observation as the environment gives it, and the mask of the legal
            actions where the environment has one (flags, or the list that the environment gives); answers as the
            environment takes it: a number, or a command of a discretized one. Where observations are the network's
            input as they are, this is a C function, without a Python frame.
        q_values: ``obs → float32[A]``, in the order of the network's actions.
    """

    act: Callable[..., Any]
    q_values: Callable[[Any], Array]

    def __init__(
        self,
        model: Path | str | Graph,
        engine: str = AUTO,
        fallback_action: int | None = None,
        interface: Interface | None = None,
        guard: Guard | None = None,
    ) -> None:
        """Load and compile.

        Args:
            model: artefact folder, or a graph with the outputs ``q`` and ``action``.
            engine: one of `nimbleq.deploy.engines.ENGINES`; ``auto`` takes the first that works here: C if there is a
                compiler, else the prebuilt engine; `Status.reason` says why.
            fallback_action: index (0 … A−1) of the action for observations that contain NaN or infinity, instead of an
                error.
            interface: of the environment, for a graph; an artefact brings its own. Without one observations are the
                network's input, and actions 0 … A−1.

        Raises:
            FileError: the artefact is missing or damaged.
            NimbleqError: the engine asked for does not work here; says why.
        """
        if isinstance(model, Graph):
            self.graph = model
        else:
            artefact = load_artefact(model)
            self.graph, interface = artefact.graph, interface or artefact.interface
            if guard is not None:
                raise ConfigError("an artefact brings its own guard: give a graph, or attach it with nimbleq guard")
            guard = artefact.guard
        if engine not in (AUTO, *ENGINES):
            raise ConfigError(f"unknown engine {engine!r}: use {AUTO}, {', '.join(ENGINES)}")
        if fallback_action is not None and not 0 <= fallback_action < self.graph.choices:
            raise ConfigError(f"fallback action {fallback_action} is not in 0..{self.graph.choices - 1}")
        if fallback_action is not None and self.graph.masked and self.graph.branches:
            raise ConfigError("an action of several dimensions with masks takes no fallback: leave fallback_action out")
        by_itself = network_interface(self.graph, () if interface is None else interface.obs.bits)
        self.interface = interface or by_itself
        if fault := misfit(self.interface, self.graph):
            raise ConfigError(fault)
        if guard is not None and fallback_action is not None:
            raise ConfigError("this policy has a guard with a fallback of its own: leave fallback_action out")
        if guard is not None and (fault := misguided(guard, self.graph)):
            raise ConfigError(f"the guard does not fit: {fault}")
        self.guard = guard
        self._asked, self._fallback = engine, fallback_action
        plain = self.interface.plain and not self.interface.mask
        self._decider, self._engine, self._reason = _choose(
            self.graph,
            engine,
            self.interface if plain else by_itself,
            -1 if fallback_action is None else fallback_action,
        )
        self._core = None if guard is None else self._cores(guard)
        self._stream = None if guard is None else self.stream()
        self.act = self._stream.act if self._stream else self._decider.act if plain else self._act
        self.q_values = self._decider.q if plain else self._q_values
        self._latency_us = _latency_us(self._decider, self.graph)
        if self.graph.units:
            self.reset()

    def stream(self) -> Guarded:
        """A further control loop of the guarded policy, with a state of its own.

        Raises:
            ConfigError: there is no guard.
        """
        if self._core is None:
            raise ConfigError("this policy has no guard: attach one with nimbleq guard")
        return Guarded(self.interface, self._core(), self.graph.masked)

    def reset(self) -> None:
        """An episode begins. Only a guard, and a policy that remembers, know anything of the one before."""
        if isinstance(self._decider, RememberingDecider):
            self._decider.reset()
        if self._stream is not None:
            self._stream.reset()

    def _cores(self, guard: Guard) -> Callable[[], Core]:
        """What makes the guard's state and networks, in the engine itself where it can."""
        if make := ENGINES[self._engine].guard:
            return make(self.graph, guard)
        deciders = {"policy": self._decider}
        for name, graph in (("larger", guard.larger), ("backup", guard.backup)):
            if graph is not None:
                deciders[name] = _choose(graph, self._asked, network_interface(graph), -1)[0]
        return lambda: NumpyCore(self.graph, guard, deciders)

    def _act(self, obs: Any, mask: Any = None) -> int | Array:
        """See `act`."""
        interface = self.interface
        legal = None
        if mask is not None:
            legal = as_mask(interface, mask)
        elif interface.mask is not None and interface.mask.startswith("obs:"):
            legal = mask_of(interface, obs)
        index = self._decider.act(interface.read(obs), legal)
        return environment_action(interface, index)

    def _q_values(self, obs: Any) -> Array:
        """See `q_values`."""
        return self._decider.q(self.interface.read(obs))

    def __reduce__(self) -> tuple[Any, ...]:
        # A compiled policy does not pickle; the graph does.
        return Runtime, (self.graph, self._asked, self._fallback, self.interface, self.guard)

    @property
    def status(self) -> Status:
        """Engine, reason, latency, refusals so far."""
        ok = (ENGINES[self._engine].fast or self._engine == self._asked) and self._decider.refused == 0
        counted = None if self._stream is None else self._stream.counters
        return Status(self._engine, ok, self._reason, self._latency_us, self._decider.refused, counted)

    @property
    def decider(self) -> Decider:
        """The engine itself: takes the network's input, answers the index of an action."""
        return self._decider


def _choose(graph: Graph, asked: str, interface: Interface, fallback: int) -> tuple[Decider, str, str]:
    """The first engine that works, its name, and why it was taken."""
    reasons = []
    for name in ENGINES if asked == AUTO else (asked,):
        try:
            if graph.units and not ENGINES[name].remembers:
                raise ConfigError(f"{name} cannot run a policy that remembers")
            decider, reason = ENGINES[name].load(graph, interface, fallback)
        except NimbleqError as error:
            if asked != AUTO:
                raise
            reasons.append(str(error))
        else:
            return decider, name, "; ".join([*reasons, reason])
    raise AssertionError("numpy runs every graph")


def _latency_us(decider: Decider, graph: Graph) -> float:
    """Median of a few calls, the first ones left out."""
    kind = graph.obs_type
    obs = np.zeros(kind.shape, np.uint8 if kind.qtype.is_integer else np.float32)
    mask = (np.ones(graph.actions, bool),) if graph.masked else ()
    times = []
    for _ in range(_PROBES):
        start = perf_counter_ns()
        decider.act(obs, *mask)
        times.append(perf_counter_ns() - start)
    return float(np.median(times[5:])) / 1e3
