"""Calling the environment's side of a compiled policy, through ctypes."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.targets.c.entries import entries, mask_member, numpy_type
from nimbleq.deploy.targets.c.raw import action_type, has_action
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array


class RawPolicy:
    """The policy ``name`` in a library compiled from `emit_c` and `emit_raw`, and one state of it.

    Attributes:
        obs: the network's input as it was last read.
        index: of the last action, -1 where the observation was refused.
    """

    def __init__(self, library: Path, name: str, graph: Graph, interface: Interface) -> None:
        self._graph, self._interface = graph, interface
        self._parts = () if interface.frames else entries(interface)
        self.index = -1
        self._held: list[Array] = []
        self._raw = _struct(interface, [(part.name, part.c_type, part.single) for part in self._parts])
        opened = ctypes.CDLL(str(library))
        self._decide, self._reset = opened[f"{name}_act_raw"], opened[f"{name}_reset"]
        self.obs = np.empty(interface.obs.shape, interface.obs.dtype)
        self._action = np.zeros(interface.action_shape, numpy_type(action_type(interface)))
        self.reset()

    def reset(self) -> None:
        """Start an episode."""
        self._reset(_address(self.obs))

    def act(self, raw: Any, mask: Array | None = None) -> int | Array | None:
        """The environment's action for what it gave, or for ``(before, screen, …)``; None when it is refused."""
        self._held = []
        given = self._raw(*self._members(raw))
        arguments = [_address(self.obs), ctypes.byref(given)]
        if self._graph.masked and not mask_member(self._interface):
            arguments.append(self._kept(np.asarray(mask, np.uint8)))
        if has_action(self._interface):
            arguments.append(_address(self._action))
        self.index = index = int(self._decide(*arguments))
        if index < 0:
            return None
        if not has_action(self._interface):
            return index
        return self._action.copy() if self._interface.action_shape else int(self._action)

    def run(self, raws: Sequence[Any], mask: Array | None) -> tuple[Array, Array, Array]:
        """See `nimbleq.deploy.target.RawRun`."""
        index, read, actions = [], [], []
        for at, raw in enumerate(raws):
            if self._interface.frames and raw.first:
                self.reset()
            action = self.act(raw, None if mask is None else mask[at])
            index.append(self.index)
            read.append(self.obs.copy())
            actions.append(self._action if action is None else action)
        return np.array(index), np.array(read), np.array(actions)

    def _members(self, raw: Any) -> list[Any]:
        if self._interface.frames:
            return [self._kept(np.asarray(screen, np.uint8)) for screen in raw[:2]]
        made: list[Any] = []
        for part in self._parts:
            values = part.values(raw)
            made.append(int(values[0]) if part.single else self._kept(values))
        if name := mask_member(self._interface):
            made.append(self._kept(np.asarray(raw[name], np.uint8)))
        return made

    def _kept(self, array: Array) -> ctypes.c_void_p:
        """The address of an array that lives until the next call."""
        self._held.append(np.ascontiguousarray(array))
        return _address(self._held[-1])


def _struct(interface: Interface, parts: Sequence[tuple[str, str, bool]]) -> Any:
    """The type ``NAME_raw``."""
    whole = {"int32_t": ctypes.c_int32, "int64_t": ctypes.c_int64}
    if interface.frames:
        fields: list[tuple[str, Any]] = [("before", ctypes.c_void_p), ("screen", ctypes.c_void_p)]
    else:
        fields = [(name, whole[kind] if single else ctypes.c_void_p) for name, kind, single in parts]
    fields += [("action_mask", ctypes.c_void_p)] if mask_member(interface) else []
    return type("Raw", (ctypes.Structure,), {"_fields_": fields})


def _address(array: Array) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
