"""The engine in this package: programs for kernels that are compiled already and chosen for the processor."""

from __future__ import annotations

from collections.abc import Mapping

from nimbleq.deploy.decider import Decider, TimedDecider, open_program
from nimbleq.deploy.prebuilt.lower import NAME, lower
from nimbleq.deploy.target import Engine, Timer, python_timer
from nimbleq.errors import NimbleqError
from nimbleq.graph.graph import Graph
from nimbleq.graph.interface import Interface
from nimbleq.types import Array


def _load(graph: Graph, interface: Interface, fallback: int) -> tuple[Decider, str]:
    try:
        from nimbleq.native import _runtime
    except ImportError as error:
        raise NimbleqError(f"the prebuilt engine was not built when nimbleq was installed ({error})") from None
    isa = _runtime.isas()[0]
    program = lower(graph, isa, interface.obs.mostly_bits)
    return open_program(program, isa, graph, interface, fallback), f"the prebuilt engine, {isa} kernels"


def _timers(decider: Decider, obs: Array, mask: Array | None) -> Mapping[str, Timer]:
    """From Python, and inside C."""
    assert isinstance(decider, TimedDecider)
    return {
        "nimbleq-python-prebuilt": python_timer(decider.act, obs, mask),
        "nimbleq-prebuilt": lambda calls: decider.time_act(obs, calls, mask),
    }


PREBUILT = Engine(NAME, _load, _timers, fast=True)
