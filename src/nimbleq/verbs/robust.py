"""``nimbleq robust``: in which boxes of observations the action provably stays as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import tyro

from nimbleq.compress.robust.stay import CHANGES, OPEN, STAYS, Stay, deviations, stays
from nimbleq.compress.states import States
from nimbleq.console import Console
from nimbleq.errors import ConfigError, UnsupportedOpError
from nimbleq.graph.artefact import Artefact, load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.rundir import RunDir
from nimbleq.types import Array
from nimbleq.verbs.common import Output, artefact_and_run, keep_result, load_teacher, run_env, run_seed

_STEPS = (1 / 16, 1 / 8, 1 / 4, 1 / 2, 1.0, 2.0)
"""Multiples of the radius at which the curve of the report is measured."""
_CURVE_STATES, _DIFFERENCE_STATES = 400, 1_000
_EPISODES = 64


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Prove in which boxes of observations the action stays: around the states that a policy visits, or in a file.

    Attributes:
        policy: artefact folder, a run directory with one compressed artefact, or (with --box) an ONNX model.
        box: decide this VNN-LIB property (.vnnlib or .vnnlib.gz): boxes of inputs, and outputs that are unsafe; exit 1
            if the time was too short.
        radius: half the width of the box around a visited state, in standard deviations of each feature.
        states: visited states, from episodes of the artefact's run; without a run its golden observations.
        seconds: time for all proofs; what is not decided then is counted as such.
    """

    policy: Annotated[Path, tyro.conf.Positional]
    box: Path | None = None
    radius: float = 0.1
    states: int = 1_000
    seconds: float = 60.0


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Decide the property, or map the visited states."""
    if args.box is not None:
        return _decide(args, args.box, console)
    if args.policy.suffix == ".onnx":
        raise ConfigError(f"{args.policy} has no visited states: say with --box which property to decide")
    path, run = artefact_and_run(args.policy)
    result = _map(args, path, run, console)
    keep_result(run, "robust", result, console)
    return result, True


def _policy(path: Path) -> Graph:
    if path.suffix == ".onnx":
        from nimbleq.bridge.onnx import read_onnx

        return read_onnx(path)
    graph = load_artefact(artefact_and_run(path)[0]).graph
    _check_single(graph, path)
    return graph


def _check_single(graph: Graph, path: Path) -> None:
    if graph.units:
        raise ConfigError(f"{path} remembers observations, and what is proven here is of single ones")


def _decide(args: Args, box: Path, console: Console) -> tuple[dict[str, Any], bool]:
    from nimbleq.compress.robust.decide import decide
    from nimbleq.compress.robust.search import UNKNOWN, Limits
    from nimbleq.compress.robust.vnnlib import read_property

    graph = _policy(args.policy)
    start = time.perf_counter()
    asked = read_property(box, graph.obs_type.size, graph.actions)
    found = decide(graph, asked, Limits(args.seconds))
    seconds = time.perf_counter() - start
    result = {
        "policy": str(args.policy), "property": str(box), "verdict": found.verdict, "seconds": seconds,
        "witness": None if found.witness is None else found.witness.reshape(-1).tolist(),
        "outputs": None if found.outputs is None else found.outputs.tolist(), "boxes": found.boxes,
    }  # fmt: skip
    console.say(f"{found.verdict} after {seconds * 1e3:.1f} ms and {found.boxes:,} boxes")
    if found.witness is not None and found.outputs is not None:
        console.say(f"inputs {', '.join(f'{value:.9g}' for value in found.witness.reshape(-1))}")
        console.say(f"outputs {', '.join(f'{value:.9g}' for value in found.outputs)}")
    return result, found.verdict != UNKNOWN


def _map(args: Args, path: Path, run: RunDir | None, console: Console) -> dict[str, Any]:
    from nimbleq.compress.robust.search import Limits

    small = load_artefact(path)
    _check_single(small.graph, path)
    visited = _visited(small, run, args.states)
    deviation = deviations(visited.obs)
    start = time.perf_counter()
    with console.progress("robust") as tick:
        found = stays(small.graph, visited, deviation, args.radius, Limits(args.seconds), tick)
    seconds = time.perf_counter() - start
    result = {
        "artefact": str(path), "artefact_digest": small.digest, "states": len(visited), "radius": args.radius,
        "share_proven": found.share(STAYS), "share_changes": found.share(CHANGES), "share_open": found.share(OPEN),
        "seconds": seconds,
        "deviation": deviation.tolist(), "by_action": _by_action(found, small.graph.actions),
        "curve": _curve(small.graph, visited, deviation, args, console),
        "slice": _slice(small.graph, visited, deviation),
        "teacher": _beside(small, run, visited, deviation, args, console),
    }  # fmt: skip
    rows = [
        [str(row["action"]), f"{row['states']:,}", f"{row['share_proven']:.1%}", f"{row['share_changes']:.1%}"]
        for row in result["by_action"]
    ]
    rows.append(["all", f"{len(visited):,}", f"{result['share_proven']:.1%}", f"{result['share_changes']:.1%}"])
    title = f"± {args.radius:g} standard deviations around {len(visited):,} visited states ({seconds:.1f} s)"
    console.table(title, ("action", "states", "provably stays", "changes"), rows)
    if result["share_open"]:
        console.say(f"{result['share_open']:.1%} of the states are not decided: --seconds gives them more time")
    return result


def _visited(small: Artefact, run: RunDir | None, count: int) -> States:
    """States that the artefact visits, by playing its run's environment; its golden observations without a run."""
    if run is None:
        golden = small.golden
        return States(golden.obs, None if golden.mask is None else golden.mask.astype(bool))[:count]
    from nimbleq.compress.states import visit
    from nimbleq.graph.interpret import GraphPolicy
    from nimbleq.rl.training.evaluate import Evaluator
    from nimbleq.seeds import episode_seeds

    with Evaluator(run_env(run)) as evaluate:
        return visit(
            GraphPolicy(small.graph), evaluate, episode_seeds("watch", run_seed(run), _EPISODES, start=1 << 20), count
        )


def _by_action(found: Stay, count: int) -> list[dict[str, Any]]:
    return [
        {
            "action": action, "states": int((found.action == action).sum()),
            "share_proven": found.share(STAYS, action), "share_changes": found.share(CHANGES, action),
        }
        for action in range(count)
    ]  # fmt: skip


def _curve(graph: Graph, visited: States, deviation: Array, args: Args, console: Console) -> list[dict[str, Any]]:
    """The share proven at several radii, by action, on some of the states."""
    from nimbleq.compress.robust.search import Limits

    some = visited[:_CURVE_STATES]
    points = []
    with console.progress("radii") as tick:
        for index, step in enumerate(_STEPS):
            radius = step * args.radius
            found = stays(graph, some, deviation, radius, Limits(args.seconds / len(_STEPS), 512))
            points.append(
                {
                    "radius": radius, "states": len(some), "share_proven": found.share(STAYS),
                    "by_action": [
                        {key: row[key] for key in ("action", "states", "share_proven")}
                        for row in _by_action(found, graph.actions)
                    ],
                }
            )  # fmt: skip
            tick(index + 1, len(_STEPS))
    return points


def _slice(graph: Graph, visited: States, deviation: Array) -> dict[str, Any] | None:
    from nimbleq.compress.robust.slice import slice_of

    found = slice_of(graph, visited, deviation)
    if found is None:
        return None
    return {
        "features": list(found.features), "centre": list(found.centre), "low": list(found.low),
        "high": list(found.high), "deviation": [float(deviation[feature]) for feature in found.features],
        "action": found.action.tolist(),
    }  # fmt: skip


def _beside(
    small: Artefact, run: RunDir | None, visited: States, deviation: Array, args: Args, console: Console
) -> dict[str, Any] | None:
    """How far student and teacher can be apart in the boxes, and at the states themselves; None without a teacher."""
    if run is None or small.path.name == run.teacher.name:
        return None
    from nimbleq.compress.robust.differ import difference

    teacher, some = load_teacher(run).graph, visited[:_DIFFERENCE_STATES]
    try:
        at, around = (difference(teacher, small.graph, some, deviation, radius) for radius in (0.0, args.radius))
    except UnsupportedOpError as error:
        console.say(f"not compared with the teacher: {error}")
        return None
    gap = float(np.median(around.gap[np.isfinite(around.gap)])) if np.isfinite(around.gap).any() else 0.0
    console.say(
        f"student and teacher differ by at most {np.median(at.bound):.3g} at the median state and "
        f"{np.median(around.bound):.3g} in its box (the teacher's median gap is {gap:.3g}); the gap exceeds twice that "
        f"bound, so that the action is provably the teacher's, at {at.flip_free:.1%} of the states"
    )
    return {
        "states": len(some), "scale": around.scale, "median_gap": gap,
        "difference_at_states": _spread(at.bound), "difference_in_boxes": _spread(around.bound),
        "share_flip_free": at.flip_free, "share_flip_free_in_boxes": around.flip_free,
    }  # fmt: skip


def _spread(values: Array) -> dict[str, float]:
    return {"median": float(np.median(values)), "largest": float(values.max())}
