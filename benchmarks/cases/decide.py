"""Latency of one decision beside torch eager and ONNX Runtime.

Random weights (about half of the activations are zero after a ReLU), batch 1, one thread, engines interleaved.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np
import torch

from benchmarks.case import Case, Cell, Context
from benchmarks.networks import int_mlp, mlp, nature
from benchmarks.record import Record
from benchmarks.statistics import PAIRS
from benchmarks.tables import header
from nimbleq.bridge.torch_graph import to_module
from nimbleq.deploy.bench import bench
from nimbleq.deploy.targets.c.target import C
from nimbleq.deploy.targets.onnx.emit import emit_onnx
from nimbleq.deploy.targets.onnx.session import load_onnx_policy
from nimbleq.deploy.targets.onnx.target import ONNX, session_call
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

ENGINES = ("nimbleq-c", "nimbleq-python", "onnxruntime", "torch", "empty-c", "empty-python")
FLOORS_US = {
    "4-64-64-2": 0.15, "4-64-64-2 int8": 0.15, "8-256-256-4": 2.4, "8-256-256-4 int8": 0.8,
    "Nature CNN": 280.0, "Nature CNN int8": 60.0,
}  # fmt: skip


def networks() -> dict[str, Graph]:
    """The networks of the table."""
    return {
        "4-64-64-2": mlp(4, 64, 64, 2),
        "4-64-64-2 int8": int_mlp(4, 64, 64, 2),
        "8-256-256-4": mlp(8, 256, 256, 4),
        "8-256-256-4 int8": int_mlp(8, 256, 256, 4),
        "Nature CNN": nature(),
        "Nature CNN int8": nature(integer=True),
    }


def observations(graph: Graph, count: int = 64) -> Array:
    """Random ``obs[count, *O]``."""
    rng = np.random.default_rng(1)
    shape = (count, *graph.obs_type.shape)
    if isinstance(graph.obs_type.qtype, Float32):
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, 256, shape).astype(np.uint8)


def measure(name: str, context: Context) -> dict[str, Any]:
    """One network, every engine."""
    torch.set_num_threads(1)
    graph, integer = networks()[name], "int8" in name
    others: dict[tuple[str, str], Callable[[Array], object]] = {}
    image = not isinstance(graph.obs_type.qtype, Float32)
    # Torch and ONNX want the scaling of an image as an op of its own.
    peer = nature(scaled=True) if image and not integer else graph
    if not ONNX.cannot_emit() and not ONNX.cannot_open():
        others["onnxruntime", "artefact"] = session_call(load_onnx_policy(emit_onnx(peer)))
    if not integer:
        module = to_module(peer).eval()

        def torch_eager(obs: Array) -> int:
            with torch.inference_mode():
                return int(module(torch.from_numpy(obs)[None]).argmax())

        others["torch", "artefact"] = torch_eager
    rounds = PAIRS if context.quick else 11
    return slim(bench({"artefact": graph}, observations(graph), others, targets=(C.name,), rounds=rounds).to_dict())


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles in place of histograms."""
    rows = [{key: value for key, value in row.items() if key != "histogram"} for row in result["rows"]]
    return result | {"rows": rows}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    graphs = networks()

    def row(name: str, cell: dict[str, Any]) -> str:
        rows = {each["engine"]: each for each in cell["rows"]}
        times = [f"{rows[e]['p50_us']:.3g} / {rows[e]['p999_us']:.3g}" if e in rows else "–" for e in ENGINES]
        ratios = [f"{cell['ratios'][e]:.0f}×" if e in cell["ratios"] else "–" for e in ("onnxruntime", "torch")]
        return (
            f"| {name} | {cost(graphs[name]).macs} | {' | '.join(times)} | {FLOORS_US[name]} | {' | '.join(ratios)} |"
        )

    return "\n".join([
        "# One decision, p50 / p99.9 in µs", "",
        f"Median ratios over interleaved rounds. {record.footnote()}", "",
        header("network", "MACs", *ENGINES, "floor", "ORT ÷ C", "torch ÷ C"),
        *record.rows(names, row, len(ENGINES) + 5), "",
    ])  # fmt: skip


CASE = Case(
    "decide",
    cells=lambda _: [Cell(name, partial(measure, name), 60) for name in networks()],
    table=table,
)
