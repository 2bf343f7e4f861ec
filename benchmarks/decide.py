"""Latency of one decision beside torch eager and ONNX Runtime: the table of `benchmarks/results/decide.md`.

    python -m benchmarks.decide [--quick]

Random weights (about half of the activations are zero after a ReLU), batch 1, one thread, engines interleaved.
"""

from __future__ import annotations

import argparse
import os
from pathlib import Path

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np
import torch

from benchmarks.networks import int_mlp, mlp, nature
from nimbleq.bridge.torch_graph import to_module
from nimbleq.deploy.bench import Bench, bench, onnx_engine
from nimbleq.files import write_bytes, write_json
from nimbleq.graph.cost import cost
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array

RESULTS = Path(__file__).parent / "results"
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


def measure(graph: Graph, integer: bool, rounds: int) -> Bench:
    """One network, every engine."""
    others = {}
    image = not isinstance(graph.obs_type.qtype, Float32)
    # Torch and ONNX want the scaling of an image as an op of its own.
    peer = nature(scaled=True) if image and not integer else graph
    session = onnx_engine(peer)
    if session is not None:
        others["onnxruntime", "artefact"] = session
    if not integer:
        module = to_module(peer).eval()

        def torch_eager(obs: Array) -> int:
            with torch.inference_mode():
                return int(module(torch.from_numpy(obs)[None]).argmax())

        others["torch", "artefact"] = torch_eager
    return bench({"artefact": graph}, observations(graph), others, onnx=False, rounds=rounds)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="five rounds instead of eleven")
    quick = parser.parse_args().quick
    torch.set_num_threads(1)
    results, lines = {}, [
        "| network | MACs | " + " | ".join(ENGINES) + " | floor | ORT ÷ C | torch ÷ C |",
        "|" + "---|" * (len(ENGINES) + 5),
    ]  # fmt: skip
    for name, graph in networks().items():
        result = measure(graph, "int8" in name, 5 if quick else 11)
        results[name] = result.to_dict()
        rows = {row.engine: row for row in result.rows}
        cells = [
            f"{rows[engine].p50_us:.3g} / {rows[engine].p999_us:.3g}" if engine in rows else "–" for engine in ENGINES
        ]
        ratios = [f"{result.ratios[peer]:.0f}×" if peer in result.ratios else "–" for peer in ("onnxruntime", "torch")]
        lines.append(
            f"| {name} | {cost(graph).macs} | {' | '.join(cells)} | {FLOORS_US[name]} | {' | '.join(ratios)} |"
        )
        print(lines[-1], flush=True)
    cpu = next(
        (line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line),
        "?",
    )
    text = "\n".join(
        [
            "# One decision, p50 / p99.9 in µs",
            "",
            f"Processor: {cpu}. Median ratios over interleaved rounds.",
            "",
            *lines,
        ]
    )
    write_bytes(RESULTS / "decide.md", f"{text}\n".encode())
    write_json(RESULTS / "decide.json", results)


if __name__ == "__main__":
    main()
