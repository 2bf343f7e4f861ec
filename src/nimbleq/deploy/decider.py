"""Opening a compiled policy: through the extension where it is installed, else through ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path
from typing import Protocol, runtime_checkable

import numpy as np

from nimbleq.errors import ObservationError
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array


class Decider(Protocol):
    """A policy that answers one observation at a time."""

    @property
    def refused(self) -> int:
        """Observations refused so far."""
        ...

    def act(self, obs: Array, /) -> int:
        """The greedy action for ``obs[*O]``."""
        ...

    def q(self, obs: Array, /) -> Array:
        """``float32[A]`` for ``obs[*O]``."""
        ...

    def run(self, obs: Array, /) -> tuple[Array, Array]:
        """``obs[N, *O]`` → ``action int32[N]`` (−1: refused) and ``q float32[N, A]`` (then NaN)."""
        ...


@runtime_checkable
class TimedDecider(Decider, Protocol):
    """A policy that can time itself inside C."""

    def time_act(self, obs: Array, calls: int, /) -> Array:
        """``float64[calls]`` nanoseconds per call, going round in ``obs[K, *O]``."""
        ...

    def time_empty(self, calls: int, /) -> Array:
        """The same loop around nothing."""
        ...


def open_library(library: Path, name: str, graph: Graph, fallback: int = -1) -> Decider:
    """The policy ``name`` in a library compiled from `emit_c`.

    Args:
        fallback: action for refused observations; negative: they raise `ObservationError`.
    """
    shape, uint8 = graph.obs_type.shape, not isinstance(graph.obs_type.qtype, Float32)
    try:
        from nimbleq.native import _runtime
    except ImportError:
        return CtypesDecider(library, name, shape, uint8, graph.actions, fallback)
    return _runtime.Decider(str(library), name, shape, uint8, graph.actions, ObservationError, fallback)


class CtypesDecider:
    """The slow way (about a microsecond per call), for installations without the compiled extension."""

    def __init__(
        self, library: Path, name: str, shape: tuple[int, ...], uint8: bool, actions: int, fallback: int
    ) -> None:
        opened = ctypes.CDLL(str(library))
        self._act, self._q = opened[f"{name}_act"], opened[f"{name}_q"]
        self._shape, self._uint8 = shape, uint8
        self._actions, self._fallback = actions, fallback
        self.refused = 0

    def act(self, obs: Array) -> int:
        """See `Decider.act`."""
        ready = as_observation(obs, self._shape, self._uint8)
        action = int(self._act(ready.ctypes.data_as(ctypes.c_void_p)))
        if action >= 0:
            return action
        self.refused += 1
        if self._fallback >= 0:
            return self._fallback
        raise refusal()

    def q(self, obs: Array) -> Array:
        """See `Decider.q`."""
        ready, q = as_observation(obs, self._shape, self._uint8), np.empty(self._actions, np.float32)
        if self._q(ready.ctypes.data_as(ctypes.c_void_p), q.ctypes.data_as(ctypes.c_void_p)) < 0:
            self.refused += 1
            raise refusal()
        return q

    def run(self, obs: Array) -> tuple[Array, Array]:
        """See `Decider.run`."""
        actions, q = np.empty(len(obs), np.int32), np.full((len(obs), self._actions), np.nan, np.float32)
        for index, one in enumerate(obs):
            ready = as_observation(one, self._shape, self._uint8).ctypes.data_as(ctypes.c_void_p)
            actions[index] = self._act(ready)
            self._q(ready, q[index].ctypes.data_as(ctypes.c_void_p))
        return actions, q


def as_observation(obs: Array, shape: tuple[int, ...], uint8: bool) -> Array:
    """``obs`` as a contiguous uint8 or float32 array. Floats are rounded; bytes are never made from wider numbers.

    Raises:
        ObservationError: another shape, or numbers that do not convert.
    """
    given: Array = np.asarray(obs)
    dtype = np.dtype(np.uint8) if uint8 else np.dtype(np.float32)
    if given.dtype.kind not in "biuf" or (uint8 and not np.can_cast(given.dtype, dtype)):
        raise ObservationError(f"the observation does not convert to {dtype}")
    if given.shape != shape:
        raise ObservationError(f"the observation has shape {given.shape}, the policy takes {shape}")
    ready: Array = np.ascontiguousarray(given, dtype)
    return ready


def refusal() -> ObservationError:
    """The error for an observation that is not finite."""
    return ObservationError("the observation contains NaN or infinity, so there is no action for it")
