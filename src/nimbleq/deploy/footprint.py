"""What a policy takes of its targets before anybody flashes it: flash, RAM, stack, instructions."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Collection
from pathlib import Path

from nimbleq.deploy.target import Footprint
from nimbleq.deploy.targets import TARGETS
from nimbleq.errors import ConfigError, NimbleqError
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.types import Array, Tick, no_tick


def footprint(target: str, graph: Graph, obs: Array, guard: Guard | None = None) -> Footprint:
    """Compile ``graph``, behind its ``guard``, and, where an emulator is here, run it on a few of ``obs[N, *O]``.

    Raises:
        ConfigError: see `known`.
        NoCompilerError: the compiler for it is not installed.
        UnsupportedOpError: the target cannot express an op.
    """
    measure = known(target)
    with tempfile.TemporaryDirectory(prefix="nimbleq-footprint-") as folder:
        return measure(graph, guard, obs, Path(folder))


def known(target: str) -> Callable[[Graph, Guard | None, Array, Path], Footprint]:
    """How the footprint of ``target`` is measured.

    Raises:
        ConfigError: there is no such target, or its footprint is not measured.
    """
    measures = {name: row.footprint for name, row in TARGETS.items() if row.footprint is not None}
    if target not in measures:
        raise ConfigError(f"flash and RAM are not measured for {target!r}: use one of {', '.join(measures)}")
    return measures[target]


def footprints(
    graph: Graph, obs: Array, targets: Collection[str] | None = None, tick: Tick = no_tick, guard: Guard | None = None
) -> tuple[tuple[Footprint, ...], dict[str, str]]:
    """Those of every target that can be compiled for here, and why the others cannot.

    Args:
        targets: which; None: all.
        guard: that the policy acts behind.
    """
    found, missing = [], {}
    names = [name for name, row in TARGETS.items() if row.footprint and (targets is None or name in targets)]
    for index, name in enumerate(names):
        try:
            found.append(footprint(name, graph, obs, guard))
        except NimbleqError as error:
            missing[name] = str(error)
        tick(index + 1, len(names), name)
    return tuple(found), missing


def exceeded(found: Collection[Footprint], max_flash: int | None, max_ram: int | None) -> str | None:
    """In words, which limit in bytes is exceeded first; None where all hold.

    Flash is code, constants and starting values; RAM static memory and stack.
    """
    for one in found:
        flash, ram = one.text_bytes + one.data_bytes, one.ram_bytes + (one.stack_bytes or 0)
        if max_flash is not None and flash > max_flash:
            return f"{one.target} needs {flash} bytes of flash, more than {max_flash}"
        if max_ram is not None and ram > max_ram:
            return f"{one.target} needs {ram} bytes of RAM and stack, more than {max_ram}"
    return None
