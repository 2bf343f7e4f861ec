"""``nimbleq bench``: how long one decision takes, compared with ONNX Runtime and PyTorch."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from nimbleq.console import Console
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.rundir import RunDir
from nimbleq.types import Array
from nimbleq.verbs.common import Output, artefact_and_run, keep_result, load_teacher


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Time single decisions of an artefact and of its teacher, with the engines taking turns on one core.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        rounds: turns of each engine; the ratio is the median over the rounds.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    rounds: int = 7


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Time the engines and print the table."""
    path, run = artefact_and_run(args.artefact)
    result = bench_run(path, run, console, args.rounds)
    keep_result(run, "bench", result, console)
    return result, True


def bench_run(artefact: Path, run: RunDir | None, console: Console, rounds: int = 7) -> dict[str, Any]:
    """Time one artefact, and the teacher of its ``run`` if it has one; returns the verb's JSON object."""
    from nimbleq.deploy.bench import bench

    small = load_artefact(artefact)
    graphs = {"artefact": small.graph}
    if run is not None:
        graphs["teacher"] = load_teacher(run).graph
    obs = small.golden.obs.copy()  # a copy: PyTorch warns about read-only arrays
    with console.progress("bench") as tick:
        result = bench(graphs, obs, _in_torch(graphs), rounds=rounds, tick=tick)
    rows = [
        [row.engine, row.what, f"{row.p50_us:.3f}", f"{row.p99_us:.3f}", f"{row.p999_us:.3f}"] for row in result.rows
    ]
    console.table("one decision, µs", ("engine", "of", "p50", "p99", "p99.9"), rows)
    if not any(row.engine == "nimbleq-c" for row in result.rows):
        console.say(f"without C: {Runtime(small.graph).status.reason}")
    return {"artefact": str(artefact), "artefact_digest": small.digest, **result.to_dict()}


def _in_torch(graphs: dict[str, Graph]) -> dict[tuple[str, str], Callable[[Array], object]]:
    """The last of the graphs as a PyTorch user would run it, if PyTorch is installed and can run it (not int8)."""
    what, graph = list(graphs.items())[-1]
    if importlib.util.find_spec("torch") is None or any(w.dtype != np.float32 for w in graph.weights.values()):
        return {}
    from nimbleq.bridge.eager import eager_policy

    return {("torch", what): eager_policy(graph)}
