"""Latency of one decision beside torch eager, ONNX Runtime, OpenVINO, ExecuTorch, LiteRT and generated C.

Random weights (about half of the activations are zero after a ReLU), batch 1, one thread on one core, engines in turns.
``make bench-deploy`` writes the table, the picture and the page ``docs/latency.md``. A peer that is not installed, or
that cannot do a network, is listed with its reason.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from subprocess import SubprocessError
from typing import Any, Literal

import numpy as np
import torch

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases.decide_plot import write_plot
from benchmarks.networks import int_mlp, mlp, nature
from benchmarks.peers.deciders import DECIDERS
from benchmarks.record import ROOT, Record
from benchmarks.statistics import PAIRS
from benchmarks.tables import header, into_page
from nimbleq.deploy.agreement import is_integer
from nimbleq.deploy.bench import Bench, bench
from nimbleq.deploy.engines.prebuilt import PREBUILT
from nimbleq.deploy.target import Timer
from nimbleq.deploy.targets.c.target import C
from nimbleq.errors import NimbleqError
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

OURS = ("nimbleq-c", "nimbleq-python", "nimbleq-python-prebuilt")
EMPTY = ("empty-c", "empty-python")
ENGINES = (*OURS, *DECIDERS, *EMPTY)
PAGE = ROOT / "docs" / "latency.md"
PICTURE = "decide.svg"
Arithmetic = Literal["float", "int8"]


@dataclass(frozen=True)
class Network:
    """A row of `NETWORKS`.

    Attributes:
        floats, integers: make the two forms.
        floor_us: of C, for each.
    """

    floats: Callable[[], Graph]
    integers: Callable[[], Graph]
    floor_us: tuple[float, float]


NETWORKS = {
    "4-64-64-2": Network(partial(mlp, 4, 64, 64, 2), partial(int_mlp, 4, 64, 64, 2), (0.12, 0.06)),
    "8-256-256-4": Network(partial(mlp, 8, 256, 256, 4), partial(int_mlp, 8, 256, 256, 4), (1.5, 0.7)),
    "Nature CNN": Network(nature, partial(nature, integer=True), (280.0, 55.0)),
}
PUBLISHED = (
    ("a Q4 policy of 7.5 kB", "Cortex-M4F", "70–90 µs", "petrouil.com"),
    ("CMSIS-NN, CIFAR-10 network of 24.7 M operations", "Cortex-M7, 216 MHz", "99.1 ms", "arXiv 1801.06601"),
    ("TFLM with CMSIS-NN beside ExecuTorch", "Cortex-M55", "159 kB beside 53 kB of RAM", "pytorch/executorch #17651"),
)
"""What, where, figure, source: boards that are not here."""


def networks() -> dict[str, tuple[Graph, Graph]]:
    """Name → the network in float32 and in int8."""
    return {name: (row.floats(), row.integers()) for name, row in NETWORKS.items()}


def observations(graph: Graph, count: int = 64) -> Array:
    """Random ``obs[count, *O]``."""
    rng = np.random.default_rng(1)
    shape = (count, *graph.obs_type.shape)
    if isinstance(graph.obs_type.qtype, Float32):
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, 256, shape).astype(np.uint8)


def measure(graph: Graph, rounds: int = 11) -> Bench:
    """One network, every engine that works here: ``rows`` hold engine and ``p50_us``."""
    return timed(graph, rounds)[0]


def timed(graph: Graph, rounds: int) -> tuple[Bench, dict[str, str]]:
    """The measurement, and why peers are missing."""
    torch.set_num_threads(1)
    obs, kind = observations(graph), "int8" if is_integer(graph) else "float"
    timers, missing = dict[tuple[str, str], Timer](), dict[str, str]()
    for name, peer in DECIDERS.items():
        if kind not in peer.of:
            continue
        try:
            timers[name, "artefact"] = peer.time(graph, obs)
        except ImportError as error:
            missing[name] = f"not installed ({error})"
        except (CellError, NimbleqError, RuntimeError, SubprocessError) as error:
            missing[name] = str(error).strip().splitlines()[0]
    return bench({"artefact": graph}, obs, targets=(C.name, PREBUILT.name), timers=timers, rounds=rounds), missing


def cell(name: str, kind: Arithmetic, context: Context) -> dict[str, Any]:
    """One network in one arithmetic."""
    row = NETWORKS[name]
    graph = row.floats() if kind == "float" else row.integers()
    found, missing = timed(graph, PAIRS if context.quick else 11)
    return slim(found.to_dict()) | {"macs": cost(graph).macs, "missing": missing}


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles in place of histograms."""
    rows = [{key: value for key, value in row.items() if key != "histogram"} for row in result["rows"]]
    return result | {"rows": rows}


def cell_name(name: str, kind: Arithmetic) -> str:
    """Of a network in one arithmetic."""
    return name if kind == "float" else f"{name} {kind}"


KINDS: tuple[Arithmetic, ...] = ("float", "int8")
CELLS = {cell_name(name, kind): (name, kind) for name in NETWORKS for kind in KINDS}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return "\n".join(["# One decision, p50 / p99.9 in µs", "", *_lines(record, names), ""])


def _lines(record: Record, names: Sequence[str]) -> list[str]:
    def row(name: str, found: dict[str, Any]) -> str:
        rows = {each["engine"]: each for each in found["rows"]}
        times = [f"{rows[e]['p50_us']:.3g} / {rows[e]['p999_us']:.3g}" if e in rows else "–" for e in ENGINES]
        peers = {e: found["ratios"][e] for e in DECIDERS if e in found["ratios"]}
        best = min(peers, key=lambda e: peers[e], default="")
        ratio = f"{peers[best]:.1f}× ({best})" if best else "–"
        network, kind = CELLS[name]
        floor = NETWORKS[network].floor_us[kind == "int8"]
        return f"| {name} | {found.get('macs', '–')} | {' | '.join(times)} | {floor} | {ratio} |"

    missing = {
        f"{engine}: {why}" for name in names if record.finished(name)
        for engine, why in record.cells[name].get("missing", {}).items()
    }  # fmt: skip
    return [
        f"Ratios are medians over interleaved rounds, on one core. {record.footnote()}",
        "",
        header("network", "MACs", *ENGINES, "floor of C", "fastest peer ÷ C"),
        *record.rows(names, row, len(ENGINES) + 4),
        "",
        *(["Not measured: " + "; ".join(sorted(missing)) + ".", ""] if missing else []),
        "Published, not measured here:",
        "",
        header("what", "on", "takes", "source"),
        *(f"| {' | '.join(line)} |" for line in PUBLISHED),
    ]


def draw(record: Record, results: Path) -> None:
    """The picture, and the page of the documentation where the results are those that are committed."""
    finished = {name: record.cells[name]["rows"] for name in CELLS if record.finished(name)}
    if finished:
        write_plot(finished, ENGINES, results / PICTURE)
    if results == ROOT / "benchmarks" / "results":
        into_page(PAGE, "decide", "\n".join(_lines(record, list(CELLS))))


CASE = Case(
    "decide",
    cells=lambda _: [Cell(name, partial(cell, *which), 120) for name, which in CELLS.items()],
    table=table,
    draw=draw,
)
