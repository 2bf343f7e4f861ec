"""Running a policy: observation in, action out, as fast as this machine can.

    policy = Runtime("runs/cp/artefacts/small")
    action = policy.act(obs)          # about 0.2 µs for a small network, C engine
    policy.status                     # which engine, and why

Needs no torch. Observations that contain NaN or infinity raise `ObservationError`, or give the fallback action when one
was set; `Status.refused` counts them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter_ns
from typing import Literal

import numpy as np

from nimbleq.deploy.c import emit_c
from nimbleq.deploy.compiler import CompileError, cached_library, find_compiler
from nimbleq.deploy.decider import Decider, as_observation, open_library, refusal
from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.graph import ACTION, Graph, Q
from nimbleq.graph.interpret import interpret
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

Engine = Literal["auto", "c", "onnxruntime", "numpy"]
_PROBES = 25


@dataclass(frozen=True)
class Status:
    """What a runtime uses.

    Attributes:
        engine: ``"c"``, ``"onnxruntime"`` or ``"numpy"``.
        ok: the fastest engine is in use, and no observation was refused.
        reason: why this engine, in words.
        latency_us: median of a few calls when it was made.
        refused: observations that were not finite so far.
    """

    engine: str
    ok: bool
    reason: str
    latency_us: float
    refused: int


class Runtime:
    """One policy, ready to decide. Not for several threads at once: give each thread its own.

    Attributes:
        graph: the policy.
        act: ``obs[*O] → int``, the greedy action (a bound C function with the C engine, so there is no Python frame).
        q_values: ``obs[*O] → float32[A]``.
    """

    def __init__(self, model: Path | str | Graph, engine: Engine = "auto", fallback_action: int | None = None) -> None:
        """Load and compile.

        Args:
            model: artefact folder, or a graph with the outputs ``q`` and ``action``.
            engine: ``auto`` takes C if there is a compiler, else ONNX Runtime if it is installed, else numpy.
            fallback_action: answer to observations that contain NaN or infinity, instead of an error.

        Raises:
            FileError: the artefact is missing or damaged.
            NimbleqError: the engine asked for does not work here; says why.
        """
        self.graph = model if isinstance(model, Graph) else load_artefact(model).graph
        if engine not in ("auto", "c", "onnxruntime", "numpy"):
            raise ConfigError(f"unknown engine {engine!r}: use auto, c, onnxruntime or numpy")
        if fallback_action is not None and not 0 <= fallback_action < self.graph.actions:
            raise ConfigError(f"fallback action {fallback_action} is not in 0..{self.graph.actions - 1}")
        fallback = -1 if fallback_action is None else fallback_action
        self._decider, self._engine, self._reason = _choose(self.graph, engine, fallback)
        self._asked = engine
        self.act = self._decider.act
        self.q_values = self._decider.q
        self._latency_us = _latency_us(self._decider, self.graph)

    @property
    def status(self) -> Status:
        """Engine, reason, latency, refusals so far."""
        ok = (self._engine == "c" or self._asked == self._engine) and self._decider.refused == 0
        return Status(self._engine, ok, self._reason, self._latency_us, self._decider.refused)

    @property
    def decider(self) -> Decider:
        """The engine itself."""
        return self._decider


def _choose(graph: Graph, engine: Engine, fallback: int) -> tuple[Decider, str, str]:
    """The first engine that works, its name, and why it was taken."""
    reasons = []
    for name in ("c", "onnxruntime", "numpy") if engine == "auto" else (engine,):
        try:
            decider, reason = _open(graph, name, fallback)
        except NimbleqError as error:
            if engine != "auto":
                raise
            reasons.append(str(error))
        else:
            return decider, name, "; ".join([*reasons, reason])
    raise AssertionError("numpy runs every graph")


def _open(graph: Graph, name: str, fallback: int) -> tuple[Decider, str]:
    if name == "c":
        compiler = find_compiler()
        if compiler is None:
            raise CompileError("no C compiler found (cc, gcc or clang)")
        library = cached_library(emit_c(graph, "policy"), compiler)
        return open_library(library, "policy", graph, fallback), f"compiled with {compiler}"
    if name == "onnxruntime":
        from nimbleq.deploy.onnx import emit_onnx
        from nimbleq.deploy.onnx_session import load_onnx_policy

        session = load_onnx_policy(emit_onnx(graph))

        def run(obs: Array) -> tuple[Array, Array]:
            answers = session(obs)
            return answers[ACTION], answers[Q]

        return BatchDecider(graph, run, fallback), "ONNX Runtime"

    def oracle(obs: Array) -> tuple[Array, Array]:
        answers = interpret(graph, obs)
        return answers[ACTION], answers[Q]

    return BatchDecider(graph, oracle, fallback), "the numpy interpreter"


class BatchDecider:
    """A `Decider` over a function that answers batches: ``obs[N, *O] → (action[N], q[N, A])``."""

    def __init__(self, graph: Graph, answer: Callable[[Array], tuple[Array, Array]], fallback: int) -> None:
        self._answer, self._fallback = answer, fallback
        self._shape = graph.obs_type.shape
        self._uint8 = not isinstance(graph.obs_type.qtype, Float32)
        self.refused = 0

    def _ready(self, obs: Array) -> Array | None:
        """The observation, or None when it is not finite."""
        ready = as_observation(obs, self._shape, self._uint8)
        if self._uint8 or np.isfinite(ready).all():
            return ready[None]
        self.refused += 1
        return None

    def act(self, obs: Array) -> int:
        """See `Decider.act`."""
        ready = self._ready(obs)
        if ready is not None:
            return int(self._answer(ready)[0][0])
        if self._fallback >= 0:
            return self._fallback
        raise refusal()

    def q(self, obs: Array) -> Array:
        """See `Decider.q`."""
        ready = self._ready(obs)
        if ready is None:
            raise refusal()
        q: Array = self._answer(ready)[1][0]
        return q

    def run(self, obs: Array) -> tuple[Array, Array]:
        """See `Decider.run`."""
        good: Array = np.all(np.isfinite(obs).reshape(len(obs), -1), axis=1)
        action, q = self._answer(np.where(good.reshape((-1,) + (1,) * (obs.ndim - 1)), obs, 0).astype(obs.dtype))
        return np.where(good, action, -1).astype(np.int32), np.where(good[:, None], q, np.nan).astype(np.float32)


def _latency_us(decider: Decider, graph: Graph) -> float:
    """Median of a few calls, the first ones left out."""
    kind = graph.obs_type
    obs = np.zeros(kind.shape, np.float32 if isinstance(kind.qtype, Float32) else np.uint8)
    times = []
    for _ in range(_PROBES):
        start = perf_counter_ns()
        decider.act(obs)
        times.append(perf_counter_ns() - start)
    return float(np.median(times[5:])) / 1e3
