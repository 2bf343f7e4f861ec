"""Calling a compiled guard, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nimbleq.deploy.periods import Periods
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import COUNTERS
from nimbleq.types import Array

_LATE = COUNTERS.index("late")


class CGuard:
    """A `nimbleq.deploy.guarded.Core`: the guard ``name`` in a library compiled from `emit_c` and `emit_guard`.

    The interpreter's lock is held, because a large policy works in static memory.
    """

    def __init__(self, library: Path, name: str, graph: Graph) -> None:
        opened = ctypes.PyDLL(str(library))
        # Not smaller than the struct, whose first members are counts and faults.
        self._state = np.zeros(4 * graph.obs_type.size + graph.actions + 64, np.uint32)
        self._obs = np.zeros(graph.obs_type.shape, np.uint8 if graph.obs_type.qtype.is_integer else np.float32)
        self._mask = np.zeros(graph.actions, np.uint8)
        self._masked = graph.masked
        pointers = [array.ctypes.data_as(ctypes.c_void_p) for array in (self._state, self._obs, self._mask)]
        self._guard, self._given, self._flags = pointers
        self._act: Callable[..., int] = opened[f"{name}_guard_act"]
        self._standby = {True: opened[f"{name}_guard_standby"], False: opened[f"{name}_guard_standby_later"]}
        self._reset = opened[f"{name}_guard_reset"]
        opened[f"{name}_guard_init"](self._guard)

    def reset(self) -> None:
        """An episode begins."""
        self._reset(self._guard)

    def act(self, obs: Array | None, mask: Array | None = None) -> int:
        """Index of the action."""
        given = None
        if obs is not None:
            self._obs[...], given = obs, self._given
        if not self._masked:
            return self._act(self._guard, given)
        flags = None
        if mask is not None:
            self._mask[...], flags = mask, self._flags
        return self._act(self._guard, given, flags)

    def run(self, periods: Periods) -> tuple[Array, Array, Array]:
        """Standby actions, actions and faults ``int64[N]`` of each; see `nimbleq.deploy.target.GuardRun`."""
        found = np.empty((3, len(periods.obs)), np.int64)
        for at, obs in enumerate(periods.obs):
            if periods.begins[at]:
                self.reset()
            mask = periods.mask[at] if periods.mask is not None and periods.masked[at] else None
            standby, action = self.standby(), self.act(obs if periods.came[at] else None, mask)
            found[:, at] = standby, action, self.faults
        return found[0], found[1], found[2]

    def standby(self, held: bool = True) -> int:
        """Index of the action if nothing else comes in time; without ``held`` that of a later period."""
        action: int = self._standby[held](self._guard)
        return action

    def late(self) -> None:
        """Count a decision that came too late."""
        self._state[_LATE] += 1

    @property
    def faults(self) -> int:
        """Of the last period."""
        return int(self._state[len(COUNTERS)])

    @property
    def counters(self) -> dict[str, int]:
        """Counter → number."""
        return dict(zip(COUNTERS, self._state[: len(COUNTERS)].tolist(), strict=True))
