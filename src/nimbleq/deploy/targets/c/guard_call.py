"""Calling a compiled guard, through ctypes."""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np

from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import COUNTERS
from nimbleq.types import Array


class CGuard:
    """The guard ``name`` in a library compiled from `emit_c` and `emit_guard`, and one state of it."""

    def __init__(self, library: Path, name: str, graph: Graph) -> None:
        opened = ctypes.CDLL(str(library))
        self._act, self._standby = opened[f"{name}_guard_act"], opened[f"{name}_guard_standby"]
        self._reset, self._masked = opened[f"{name}_guard_reset"], graph.masked
        self._dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32
        # Not smaller than the struct, whose first members are counts and faults.
        self._state = np.zeros(4 * graph.obs_type.size + graph.actions + 64, np.uint32)
        opened[f"{name}_guard_init"](_address(self._state))

    def reset(self) -> None:
        """An episode begins."""
        self._reset(_address(self._state))

    def act(self, obs: Array | None, mask: Array | None = None) -> int:
        """Index of the action."""
        given = None if obs is None else np.ascontiguousarray(obs, self._dtype)
        arguments = [_address(self._state), None if given is None else _address(given)]
        legal = None if mask is None else np.ascontiguousarray(mask, np.uint8)
        if self._masked:
            arguments.append(None if legal is None else _address(legal))
        return int(self._act(*arguments))

    def standby(self) -> int:
        """Index of the action if nothing else comes in time."""
        return int(self._standby(_address(self._state)))

    @property
    def faults(self) -> int:
        """Of the last period."""
        return int(self._state[len(COUNTERS)])

    @property
    def counters(self) -> dict[str, int]:
        """Counter → number."""
        return dict(zip(COUNTERS, self._state[: len(COUNTERS)].tolist(), strict=True))


def _address(array: Array) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
