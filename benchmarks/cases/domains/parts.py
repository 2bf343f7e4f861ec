"""Parts that the fields share: what a small policy costs, and their tables in the documentation."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks.record import ROOT, Record
from benchmarks.tables import into_page
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost


def size_of(artefact: Path) -> dict[str, Any]:
    """``size_bytes`` and ``macs`` of an artefact, and how long its engine takes from Python."""
    graph = load_artefact(artefact).graph
    spent, status = cost(graph), Runtime(artefact).status
    return {"size_bytes": spent.size_bytes, "macs": spent.macs, "engine": status.engine, "call_us": status.latency_us}


def into_docs(name: str, page: str, table: Callable[[Record], str]) -> Callable[[Record, Path], None]:
    """Draws the table into ``docs/page.md``, between the marks of ``name``, where results are the committed ones."""

    def draw(record: Record, results: Path) -> None:
        if results == ROOT / "benchmarks" / "results":
            into_page(ROOT / "docs" / f"{page}.md", name, table(record))

    return draw
