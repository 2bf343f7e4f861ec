"""A pass: one technique, a frozen value that turns a graph into another."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from nimbleq.compress.passes.context import Context
from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph

Pass = Callable[[Graph, Context], Graph]
"""A pass is hashable and compares by value, so that recipes with the same beginning share it; ``str`` names it."""


@dataclass(frozen=True)
class PassRow:
    """A row of `PASSES`.

    Attributes:
        make: the pass from the text of its setting (``0.5`` in ``prune=0.5``; empty where there is none).
        purpose: what it does, in one line.
        example: a setting that can be given; empty where the pass takes none.
    """

    make: Callable[[str], Pass]
    purpose: str
    example: str = ""


def without_setting(made: Pass) -> Callable[[str], Pass]:
    """`PassRow.make` of a pass that takes no setting."""

    def make(setting: str) -> Pass:
        if setting:
            raise ConfigError(f"the pass {made} takes no setting, not {setting!r}")
        return made

    return make
