"""What a policy costs on a target, for ``nimbleq compress --target NAME`` with ``--max-cost``, ``--max-flash`` …"""

from __future__ import annotations

from functools import partial

import numpy as np

from nimbleq.compress.search.limits import Measure
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import ConfigError
from nimbleq.graph.golden import random_masks
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

_ROWS = 256


def decision_us(graph: Graph, obs: Array, interface: Interface | None = None) -> float | None:
    """Median time of one decision in C, in microseconds, timed inside C; None without a compiler.

    Args:
        obs: ``[K, *O]`` as the network reads them.
        interface: of the environment; its binary observations are read as such.
    """
    from nimbleq.deploy.decider import TimedDecider
    from nimbleq.deploy.runtime import Runtime

    decider = Runtime(graph, interface=interface).decider
    if not isinstance(decider, TimedDecider):
        return None
    masks = random_masks(np.random.default_rng(0), len(obs), graph) if graph.masked else None
    decider.time_act(obs, 1_000, masks)
    return float(np.median(decider.time_act(obs, 5_000, masks))) / 1e3


def _here(graph: Graph) -> tuple[float, str]:
    spent = decision_us(graph, _plain(graph))
    if spent is None:
        raise ConfigError("--target c measures decisions, and there is no C compiler on this machine: install one")
    return spent, "µs"


def _counted(target: str, graph: Graph) -> tuple[float, str]:
    from nimbleq.deploy.footprint import footprint

    found = footprint(target, graph, _plain(graph))
    if found.instructions is None:
        raise ConfigError(f"--target {target} counts what a decision executes, and its emulator is not installed here")
    return float(found.instructions), found.unit


def _memory(target: str, graph: Graph) -> tuple[int, int]:
    from nimbleq.deploy.footprint import footprint

    found = footprint(target, graph, _plain(graph))
    return found.text_bytes + found.data_bytes, found.ram_bytes + (found.stack_bytes or 0)


def _plain(graph: Graph) -> Array:
    """Observations of a plain kind, ``[256, *O]``: what a decision costs hardly depends on them."""
    kind = graph.obs_type
    draws = np.random.default_rng(0).standard_normal((_ROWS, *kind.shape))
    if isinstance(kind.qtype, Float32):
        return draws.astype(np.float32)
    return (np.abs(draws) * 80).clip(0, 255).astype(np.uint8)


HERE = "c"
MEASURES: dict[str, Measure] = {
    HERE: Measure(HERE, _here),
    **{
        name: Measure(name, partial(_counted, name), partial(_memory, name))
        for name, row in TARGETS.items()
        if row.footprint is not None
    },
}
"""Target → how a decision's cost on it is measured."""
