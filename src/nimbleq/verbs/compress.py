"""``nimbleq compress``: the smallest policy that provably keeps a share of the teacher's return."""

from __future__ import annotations

import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import tyro

from nimbleq.compress.certify import check_keep
from nimbleq.config import with_changes
from nimbleq.console import Console, size_text
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import save_artefact
from nimbleq.graph.golden import random_masks
from nimbleq.graph.graph import Graph
from nimbleq.rundir import RunDir, open_run
from nimbleq.seeds import episode_seeds
from nimbleq.types import Array, Evaluate
from nimbleq.verbs.common import COMPRESSED_MEANING, Output, load_teacher, provenance, run_env, run_seed, saved_config

RECIPES = ("auto", "int8", "float32")


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Search recipes and widths for the smallest policy that keeps a share of the return, and certify it (else exit 1).

    Attributes:
        run: run directory with a trained or imported policy.
        keep: share of the teacher's return (above random play) to keep, above 0 and at most 1.
        recipe: auto tries int8 and float32.
        name: of the artefact.
        scratch: also train a network of the chosen size from scratch, for comparison.
        workers: processes that play episodes.
    """

    run: Annotated[Path, tyro.conf.Positional]
    keep: float = 0.99
    recipe: Literal["auto", "int8", "float32"] = "auto"
    name: str = "small"
    scratch: bool = True
    workers: int = 2


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Compress one run."""
    check(args.keep, args.recipe)
    run = open_run(args.run)
    if args.name == "teacher" or Path(args.name).name != args.name or args.name.startswith("."):
        raise ConfigError(f"an artefact cannot be named {args.name!r}: use a plain word other than teacher")
    result = compress_run(run, args.name, args.keep, args.recipe, console, args.scratch, args.workers)
    run.save_result("compress", result)
    return result, bool(result["certified"])


def check(keep: float, recipe: str) -> None:
    """Raise `ConfigError` for what cannot be asked."""
    check_keep(keep)
    if recipe not in RECIPES:
        raise ConfigError(f"there is no recipe {recipe!r}; choose one of {', '.join(RECIPES)}")


def compress_run(
    run: RunDir, name: str, keep: float, recipe: Any, console: Console, scratch: bool = True, workers: int = 2
) -> dict[str, Any]:
    """Search, certify, save ``artefacts/<name>``; returns the verb's JSON object."""
    from nimbleq.compress.search import CompressConfig, compress
    from nimbleq.rl.evaluate import Evaluator

    start = time.monotonic()
    teacher = load_teacher(run)
    config = CompressConfig(keep=keep, recipe=recipe, seed=run_seed(run))
    with Evaluator(run_env(run), workers=workers) as evaluate:
        with console.progress("compress") as tick:
            found = compress(teacher.graph, evaluate, config, tick)
        baseline = _from_scratch(run, found.best.hidden, evaluate, console) if scratch else None
    path = run.artefact(name)
    certificate = found.certificate.to_dict() | {"teacher_digest": teacher.digest}
    facts = {"recipe": found.best.recipe, "keep": keep, "seed": config.seed, "q_meaning": COMPRESSED_MEANING}
    save_artefact(
        path, found.best.graph, found.golden_obs, provenance({"teacher": teacher.digest}, **facts), certificate,
        teacher.interface,
    )  # fmt: skip
    result = {"artefact": str(path), **found.to_dict()}
    for row, candidate in zip(result["candidates"], found.candidates, strict=True):
        row["latency_us"] = decision_us(candidate.graph, found.golden_obs)
    result["teacher_latency_us"] = decision_us(teacher.graph, found.golden_obs)
    result["baselines"]["scratch"] = baseline
    result["seconds"] = time.monotonic() - start
    _tell(result, console)
    return result


def decision_us(graph: Graph, obs: Array) -> float | None:
    """Median microseconds of one decision in C, timed inside C; None without a compiler."""
    from nimbleq.deploy.decider import TimedDecider
    from nimbleq.deploy.runtime import Runtime

    decider = Runtime(graph).decider
    if not isinstance(decider, TimedDecider):
        return None
    masks = random_masks(np.random.default_rng(0), len(obs), graph.actions) if graph.masked else None
    decider.time_act(obs, 1_000, masks)
    return float(np.median(decider.time_act(obs, 5_000, masks))) / 1e3


def _from_scratch(run: RunDir, hidden: tuple[int, ...], evaluate: Evaluate, console: Console) -> dict[str, Any] | None:
    """A network of the chosen size trained as the teacher was: the same settings, budget and stopping rule."""
    from nimbleq.bridge.torch_graph import to_graph
    from nimbleq.graph.cost import cost
    from nimbleq.graph.interpret import GraphPolicy
    from nimbleq.graph.rewrite import fold
    from nimbleq.rl.evaluate import interval95
    from nimbleq.rl.train import train

    trained = run.load_result("train")
    if trained is None:
        return None
    config = with_changes(saved_config(run), {"network.hidden": hidden, "steps": max(trained["steps"], 1)})
    with tempfile.TemporaryDirectory() as folder, console.progress("same size from scratch") as tick:
        student = train(config, RunDir(Path(folder)), tick)
    graph = fold(to_graph(student.module, student.spec.obs))
    returns = evaluate(GraphPolicy(graph), episode_seeds("select", config.seed, 100).tolist()).returns
    spent = cost(graph)
    return {
        "name": "scratch", "hidden": list(hidden), "bits": 32, "size_bytes": spent.size_bytes, "macs": spent.macs,
        "episodes": len(returns), "return_mean": float(returns.mean()), "return_ci95": list(interval95(returns)),
        "train_seconds": student.seconds, "steps": student.steps,
    }  # fmt: skip


def _tell(result: dict[str, Any], console: Console) -> None:
    rows = [
        [row["name"], str(row["bits"]), size_text(row["size_bytes"]), f"{row['macs']:,}", f"{row['return_mean']:.1f}",
         "–" if row["latency_us"] is None else f"{row['latency_us']:.3f}", row["status"]]
        for row in result["candidates"]
    ]  # fmt: skip
    console.table("candidates", ("policy", "bits", "size", "MACs", "return", "µs", ""), rows)
    smaller = result["teacher_size_bytes"] / result["size_bytes"]
    fewer = result["teacher_macs"] / max(result["macs"], 1)
    verdict = "certified" if result["certified"] else "NOT certified"
    console.say(
        f"{result['artefact']}: {size_text(result['size_bytes'])} (×{smaller:.0f} smaller), {result['macs']:,} "
        f"multiply-accumulates (×{fewer:.0f} fewer), {verdict} at keep = {result['keep']:g}"
    )
