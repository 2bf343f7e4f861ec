"""Folding: everything that can be merged without changing an action."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.compress.passes.base import PassRow, without_setting
from nimbleq.compress.passes.context import Context
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrite import fold, for_deployment


@dataclass(frozen=True)
class Fold:
    """Everything that can be merged without changing an action."""

    def __call__(self, graph: Graph, context: Context) -> Graph:
        return fold(for_deployment(graph))

    def __str__(self) -> str:
        return "fold"


ROW = PassRow(without_setting(Fold()), "merge layers without changing an action")
