"""Parts that the fields share: what a small policy costs, and their tables in the documentation."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.process import inline
from benchmarks.record import ROOT, Record
from benchmarks.tables import into_page
from nimbleq.deploy.runtime import Runtime
from nimbleq.files import read_json, write_json
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.cost import cost
from nimbleq.rundir import RunDir


def trained(name: str, *words: object) -> tuple[RunDir, dict[str, Any]]:
    """The run ``runs/bench-domains/NAME`` and what ``nimbleq WORDS`` said of it; one that was stopped goes on."""
    run = RunDir(ROOT / "runs" / "bench-domains" / name)
    said = run.load_result("train")
    if said is None:
        said = inline(*words, "--out", run.path, *(("--resume",) if run.config.exists() else ()))
    return run, said


def compressed(run: RunDir, *words: object) -> dict[str, Any]:
    """What ``nimbleq compress WORDS`` said of a run, whether it was certified or not."""
    said = run.load_result("compress", "small")
    return inline("compress", run.path, *words, "--no-scratch", accepted=(0, 1)) if said is None else said


def in_parts(name: str, parts: Sequence[Any], work: Callable[[Any], dict[str, list[Any]]]) -> dict[str, list[Any]]:
    """The lists that ``work`` makes of each part, joined; each part is saved when it is done, so that a stop loses one.

    Args:
        name: of the file ``runs/bench-domains/NAME.json``; it must say all that the outcome depends on.
    """
    path = ROOT / "runs" / "bench-domains" / f"{name}.json"
    done: list[dict[str, list[Any]]] = read_json(path) if path.exists() else []
    for part in parts[len(done) :]:
        done.append(work(part))
        write_json(path, done)
    return {key: [value for each in done for value in each[key]] for key in done[0]}


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
