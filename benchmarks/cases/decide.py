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
from nimbleq.deploy.agreement import is_integer
from nimbleq.deploy.bench import Bench, bench
from nimbleq.deploy.engines.prebuilt import PREBUILT
from nimbleq.deploy.targets.c.target import C
from nimbleq.deploy.targets.onnx.emit import emit_onnx
from nimbleq.deploy.targets.onnx.session import load_onnx_policy
from nimbleq.deploy.targets.onnx.target import ONNX, session_call
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

ENGINES = ("nimbleq-c", "nimbleq-python", "nimbleq-python-prebuilt", "onnxruntime", "torch", "empty-c", "empty-python")
FLOORS_US = {
    "4-64-64-2": 0.15, "4-64-64-2 int8": 0.15, "8-256-256-4": 2.4, "8-256-256-4 int8": 0.8,
    "Nature CNN": 280.0, "Nature CNN int8": 60.0,
}  # fmt: skip


def networks() -> dict[str, tuple[Graph, Graph]]:
    """The networks of the table: name → in float32, in int8."""
    return {
        "4-64-64-2": (mlp(4, 64, 64, 2), int_mlp(4, 64, 64, 2)),
        "8-256-256-4": (mlp(8, 256, 256, 4), int_mlp(8, 256, 256, 4)),
        "Nature CNN": (nature(), nature(integer=True)),
    }


def graphs() -> dict[str, Graph]:
    """The rows of the table."""
    pairs = networks().items()
    return {name: graph for row, (real, integer) in pairs for name, graph in ((row, real), (f"{row} int8", integer))}


def observations(graph: Graph, count: int = 64) -> Array:
    """Random ``obs[count, *O]``."""
    rng = np.random.default_rng(1)
    shape = (count, *graph.obs_type.shape)
    if isinstance(graph.obs_type.qtype, Float32):
        return rng.normal(size=shape).astype(np.float32)
    return rng.integers(0, 256, shape).astype(np.uint8)


def measure(graph: Graph, rounds: int = 11) -> Bench:
    """One network, every engine."""
    torch.set_num_threads(1)
    others: dict[tuple[str, str], Callable[[Array], object]] = {}
    integer = is_integer(graph)
    # Torch and ONNX want the scaling of an image as an op of its own.
    peer = graph if integer or isinstance(graph.obs_type.qtype, Float32) else nature(scaled=True)
    if not ONNX.cannot_emit() and not ONNX.cannot_open():
        others["onnxruntime", "artefact"] = session_call(load_onnx_policy(emit_onnx(peer)))
    if not integer:
        module = to_module(peer).eval()

        def torch_eager(obs: Array) -> int:
            with torch.inference_mode():
                return int(module(torch.from_numpy(obs)[None]).argmax())

        others["torch", "artefact"] = torch_eager
    return bench({"artefact": graph}, observations(graph), others, targets=(C.name, PREBUILT.name), rounds=rounds)


def cell(name: str, context: Context) -> dict[str, Any]:
    """One row, measured."""
    return slim(measure(graphs()[name], PAIRS if context.quick else 11).to_dict())


def slim(result: dict[str, Any]) -> dict[str, Any]:
    """Percentiles in place of histograms."""
    rows = [{key: value for key, value in row.items() if key != "histogram"} for row in result["rows"]]
    return result | {"rows": rows}


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    policies = graphs()

    def row(name: str, cell: dict[str, Any]) -> str:
        rows = {each["engine"]: each for each in cell["rows"]}
        times = [f"{rows[e]['p50_us']:.3g} / {rows[e]['p999_us']:.3g}" if e in rows else "–" for e in ENGINES]
        ratios = [f"{cell['ratios'][e]:.0f}×" if e in cell["ratios"] else "–" for e in ("onnxruntime", "torch")]
        return (
            f"| {name} | {cost(policies[name]).macs} | {' | '.join(times)} | {FLOORS_US[name]} | {' | '.join(ratios)} |"
        )

    return "\n".join([
        "# One decision, p50 / p99.9 in µs", "",
        f"Median ratios over interleaved rounds. {record.footnote()}", "",
        header("network", "MACs", *ENGINES, "floor", "ORT ÷ C", "torch ÷ C"),
        *record.rows(names, row, len(ENGINES) + 5), "",
    ])  # fmt: skip


CASE = Case(
    "decide",
    cells=lambda _: [Cell(name, partial(cell, name), 60) for name in graphs()],
    table=table,
)
