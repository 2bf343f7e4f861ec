"""``nimbleq bench``: how long one decision takes, beside ONNX Runtime and PyTorch."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.graph.artefact import load_artefact
from nimbleq.rundir import RunDir
from nimbleq.verbs.common import Output, artefact_and_run, load_teacher


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Time single decisions of an artefact and of its teacher, engines taking turns on one core.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        rounds: turns of each engine; the ratio is the median over the rounds.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    rounds: int = 7


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Time and show."""
    path, run = artefact_and_run(args.artefact)
    result = bench_run(path, run, console, args.rounds)
    run.save_result("bench", result)
    return result, True


def bench_run(artefact: Path, run: RunDir, console: Console, rounds: int = 7) -> dict[str, Any]:
    """Time one artefact of ``run``; returns the verb's JSON object."""
    from nimbleq.bridge.eager import eager_policy
    from nimbleq.deploy.bench import bench

    small, teacher = load_artefact(artefact), load_teacher(run)
    others = {("torch", "teacher"): eager_policy(teacher.graph)}
    obs = small.golden.obs.copy()  # of its own: PyTorch warns of arrays that it could not write to
    with console.progress("bench") as tick:
        result = bench({"artefact": small.graph, "teacher": teacher.graph}, obs, others, rounds=rounds, tick=tick)
    rows = [
        [row.engine, row.what, f"{row.p50_us:.3f}", f"{row.p99_us:.3f}", f"{row.p999_us:.3f}"] for row in result.rows
    ]
    console.table("one decision, µs", ("engine", "of", "p50", "p99", "p99.9"), rows)
    return {"artefact": str(artefact), **result.to_dict()}
