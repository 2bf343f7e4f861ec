"""``nimbleq bench``: how long one decision takes, and what a policy takes of every target."""

from __future__ import annotations

import importlib.util
from collections.abc import Callable, Collection, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from nimbleq.console import Console
from nimbleq.deploy.runtime import Runtime
from nimbleq.deploy.target import Footprint
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.rundir import RunDir
from nimbleq.types import Array
from nimbleq.verbs.common import Output, artefact_and_run, keep_result, load_teacher


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Time single decisions of an artefact and of its teacher, with the engines taking turns on one core.

    Then compile it for every processor whose compiler is here: flash, RAM, and by an emulator stack and instructions.

    Attributes:
        artefact: artefact folder, or a run directory with one compressed artefact.
        rounds: turns of each engine; the ratio is the median over the rounds.
        flash: of which targets flash, RAM, stack and instructions are measured; none given: of all.
    """

    artefact: Annotated[Path, tyro.conf.Positional]
    rounds: int = 7
    flash: tuple[str, ...] = ()


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Time the engines and print the tables."""
    from nimbleq.deploy.footprint import known

    path, run = artefact_and_run(args.artefact)
    for target in args.flash:
        known(target)
    result = bench_run(path, run, console, args.rounds, args.flash or None)
    keep_result(run, "bench", result, console)
    return result, True


def bench_run(
    artefact: Path,
    run: RunDir | None,
    console: Console,
    rounds: int = 7,
    flash: Collection[str] | None = None,
    engines: Collection[str] | None = None,
) -> dict[str, Any]:
    """Time one artefact, and the teacher of its ``run`` if it has one; returns the verb's JSON object.

    Args:
        engines: names of targets and engines to time beside PyTorch; None: all that work here.
        flash: targets whose flash, RAM and instructions are measured where that can be done; None: all.
    """
    from nimbleq.deploy.bench import bench
    from nimbleq.deploy.footprint import footprints

    small = load_artefact(artefact)
    if small.graph.units:
        raise ConfigError(
            f"{artefact} remembers observations, and single decisions are timed here: time its C yourself"
        )
    graphs = {"artefact": small.graph}
    if run is not None:
        graphs["teacher"] = load_teacher(run).graph
    obs = small.golden.obs.copy()  # a copy: PyTorch warns about read-only arrays
    with console.progress("bench") as tick:
        bits = small.interface.obs.bits
        result = bench(graphs, obs, _in_torch(graphs), targets=engines, rounds=rounds, bits=bits, tick=tick)
    rows = [
        [row.engine, row.what, f"{row.p50_us:.3f}", f"{row.p99_us:.3f}", f"{row.p999_us:.3f}"] for row in result.rows
    ]
    console.table("one decision, µs", ("engine", "of", "p50", "p99", "p99.9"), rows)
    if not any(row.engine == "nimbleq-c" for row in result.rows):
        console.say(f"without C: {Runtime(small.graph).status.reason}")
    with console.progress("targets") as tick:
        found, missing = footprints(small.graph, obs, flash, tick, small.guard)
    show_footprints(found, missing, console)
    return {
        "artefact": str(artefact), "artefact_digest": small.digest, **result.to_dict(),
        "flash": [asdict(one) for one in found], "flash_missing": missing,
    }  # fmt: skip


def show_footprints(found: Collection[Footprint], missing: Mapping[str, str], console: Console) -> None:
    """A table of what a policy takes of each target."""
    rows = [
        [
            one.target, str(one.text_bytes), str(one.data_bytes), str(one.ram_bytes),
            "" if one.stack_bytes is None else str(one.stack_bytes),
            "" if one.instructions is None else f"{one.instructions:,} {one.unit}",
            "" if one.energy_nj is None else f"{one.energy_nj:,.3g} nJ", one.compiler,
        ]
        for one in found
    ]  # fmt: skip
    if rows:
        heads = ("target", "text", "data", "static RAM", "stack", "one decision", "energy, estimated", "compiled by")
        console.table("bytes of one policy, what it needs of the compiler's library included", heads, rows)
    for one in found:
        if one.energy_nj is not None:
            console.say(f"energy on {one.target} is an estimate, nothing was measured: {one.energy_by}")
    for target, why in missing.items():
        console.say(f"{target} was not measured: {why}")


def _in_torch(graphs: dict[str, Graph]) -> dict[tuple[str, str], Callable[[Array], object]]:
    """The last of the graphs as a PyTorch user would run it, if PyTorch is installed and can run it (not int8)."""
    what, graph = list(graphs.items())[-1]
    if importlib.util.find_spec("torch") is None or any(w.dtype != np.float32 for w in graph.weights.values()):
        return {}
    from nimbleq.bridge.eager import eager_policy

    return {("torch", what): eager_policy(graph)}
