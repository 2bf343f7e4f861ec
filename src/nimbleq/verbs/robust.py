"""``nimbleq robust``: in which boxes of observations the action provably stays as it is."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import tyro

from nimbleq.console import Console
from nimbleq.errors import ConfigError
from nimbleq.graph.artefact import load_artefact
from nimbleq.graph.graph import Graph
from nimbleq.verbs.common import Output, artefact_and_run


@dataclass(frozen=True, kw_only=True)
class Args(Output):
    """Decide a VNN-LIB property of a policy; exit 1 if the time was too short.

    Attributes:
        policy: artefact folder, a run directory with one compressed artefact, or an ONNX model.
        box: the property, a .vnnlib or .vnnlib.gz file: boxes of inputs and outputs that are unsafe.
        seconds: time after which the verdict is unknown.
    """

    policy: Annotated[Path, tyro.conf.Positional]
    box: Path | None = None
    seconds: float = 60.0


def main(args: Args, console: Console) -> tuple[dict[str, Any], bool]:
    """Decide the property."""
    if args.box is None:
        raise ConfigError("say which property to decide with --box FILE.vnnlib")
    return _decide(args, args.box, console)


def _policy(path: Path) -> Graph:
    if path.suffix == ".onnx":
        from nimbleq.bridge.onnx import read_onnx

        return read_onnx(path)
    return load_artefact(artefact_and_run(path)[0]).graph


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
