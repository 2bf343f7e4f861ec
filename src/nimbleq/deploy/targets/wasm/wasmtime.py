"""Running a module in wasmtime, which also counts what it executes."""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from nimbleq.deploy.target import RawRun, Run
from nimbleq.deploy.targets.wasm.raw import raw_run
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array

OBSERVATIONS = 8
"""Over which instructions are averaged."""
FUEL = 1 << 62


class _Module:
    """A module that is loaded, see `RawMemory`.

    Raises:
        RuntimeError: it has imports.
    """

    def __init__(self, module: bytes, counting: bool = False) -> None:
        wasmtime: Any = import_module("wasmtime")
        config = wasmtime.Config()
        config.consume_fuel = counting
        engine = wasmtime.Engine(config)
        self.store = wasmtime.Store(engine)
        if counting:
            self.store.set_fuel(FUEL)
        loaded = wasmtime.Module(engine, module)
        if loaded.imports:
            raise RuntimeError(f"the module imports {loaded.imports[0].name}")
        self.exports = wasmtime.Instance(self.store, loaded, []).exports(self.store)
        self.memory = self.exports["memory"]

    def call(self, export: str) -> int:
        """What the function answers; 0 for none."""
        return int(self.exports[export](self.store) or 0)

    def write(self, export: str, data: bytes) -> None:
        """Bytes to where ``export`` says."""
        self.memory.write(self.store, data, self.call(export))

    def read(self, export: str, count: int) -> bytes:
        """So many bytes from where ``export`` says."""
        at = self.call(export)
        return bytes(self.memory.read(self.store, at, at + count))


class _Policy(_Module):
    """A module that answers what its network reads."""

    def __init__(self, module: bytes, graph: Graph, counting: bool = False) -> None:
        super().__init__(module, counting)
        self.graph = graph
        self.obs_at, self.values_at = self.exports["obs"](self.store), self.exports["values"](self.store)
        self.mask_at = self.exports["mask"](self.store) if graph.masked else None

    def give(self, obs: Array, mask: Array | None) -> None:
        dtype = np.uint8 if self.graph.obs_type.qtype.is_integer else np.float32
        self.memory.write(self.store, np.ascontiguousarray(obs, dtype).tobytes(), self.obs_at)
        if mask is not None:
            self.memory.write(self.store, np.asarray(mask, np.uint8).tobytes(), self.mask_at)

    def act(self) -> int:
        return int(self.exports["act"](self.store))

    def q(self) -> Array:
        self.exports["q"](self.store)
        found = self.memory.read(self.store, self.values_at, self.values_at + 4 * self.graph.actions)
        return np.frombuffer(found, np.float32)


def run(module: bytes, graph: Graph) -> Run:
    """A `Run` in this process."""
    policy = _Policy(module, graph)

    def answers(obs: Array, mask: Array | None) -> tuple[Array, Array]:
        actions, q = np.empty(len(obs), np.int32), np.empty((len(obs), graph.actions), np.float32)
        for index in range(len(obs)):
            policy.give(obs[index], None if mask is None else mask[index])
            actions[index], q[index] = policy.act(), policy.q()
        return actions, q

    return answers


def run_raw(module: bytes, interface: Interface, masked: bool) -> RawRun:
    """A `RawRun` in this process."""
    return raw_run(_Module(module), interface, masked)


def measured(module: bytes, graph: Graph, obs: Array) -> tuple[int, int]:
    """Bytes of the module's memory, and instructions of one decision (wasmtime's fuel: one each, some free)."""
    policy = _Policy(module, graph, counting=True)
    mask = np.ones(graph.actions, np.uint8) if graph.masked else None
    spent = []
    for one in obs[:OBSERVATIONS]:
        policy.give(one, mask)
        before = policy.store.get_fuel()
        policy.act()
        spent.append(before - policy.store.get_fuel())
    return int(policy.memory.data_len(policy.store)), round(float(np.mean(spent)))
