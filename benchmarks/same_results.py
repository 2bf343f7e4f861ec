"""Whether a change of the code changed what it computes: digests of it, written before and compared after.

    python -m benchmarks.same_results write FILE
    python -m benchmarks.same_results compare FILE      # what differs; exit 1 when anything does

A cell is a training run, a compression or an export with fixed seeds, and has several digests: weights, metrics, golden
answers, the model's JSON, what compiled C answers. They hold on one machine with one set of packages; a comparison on
others says so. Only the command line, public names and names of compression passes (in whichever module) are used, so
the script runs on both sides of a rearrangement. About five minutes on one core.
"""

from __future__ import annotations

import argparse
import ctypes
import dataclasses
import hashlib
import importlib
import json
import pkgutil
import platform
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import safetensors.numpy

import nimbleq

Digests = dict[str, str]
SHORT = (
    "--steps 2000 --learn-start 300 --envs 8 --seed 3 --max-episode-steps 60 --evaluation.every 40 "
    "--evaluation.episodes 3 --evaluation.final-episodes 3 --evaluation.stop-return None"
)
PICTURES = SHORT.replace("--max-episode-steps 60 ", "").replace("--steps 2000", "--steps 700")
TRAININGS = {
    "native": SHORT,
    "torch": f"{SHORT} --learner.engine torch --learner.target hard --learner.target-every 13",
    "device": f"{SHORT} --learner.engine device --learner.device cpu",
    "prioritized": f"{SHORT} --preset prioritized",
    "prioritized-device": f"{SHORT} --preset prioritized --learner.engine device --learner.device cpu",
    "pqn": f"{SHORT} --preset pqn --steps 8192 --pqn.rollout 32",
    "rainbow": f"{SHORT} --preset rainbow",
    "qr": f"{SHORT} --preset qr",
    "iqn": f"{SHORT} --preset iqn",
    "munchausen": f"{SHORT} --preset munchausen --explore.hold 5",
    "masked": f"{PICTURES} --env benchmarks.corridor:masked --learner.batch-size 16 --replay.prioritized",
    "small-pictures": f"{PICTURES} --env benchmarks.corridor:small_pictures --learner.batch-size 16",
    "nature-pictures": f"{PICTURES} --env benchmarks.corridor:pictures --learner.batch-size 16 "
    "--replay.prioritized --network.hidden 32 --updates-per-step 1 --learner.target-every 20",
}  # fmt: skip


def digest(value: Any) -> str:
    """Of an array (numbers and shape, not the type that holds them), or of JSON values."""
    if isinstance(value, np.ndarray):
        exact = np.ascontiguousarray(value, np.float64)
        return hashlib.sha256(repr(exact.shape).encode() + exact.tobytes()).hexdigest()[:16]
    return hashlib.sha256(json.dumps(value, sort_keys=True, default=str).encode()).hexdigest()[:16]


def command(words: str, accepted: tuple[int, ...] = (0,)) -> Any:
    """What ``nimbleq <words> --json`` says."""
    line = [sys.executable, "-m", "nimbleq", *words.split(), "--json"]
    done = subprocess.run(line, capture_output=True, text=True, check=False)
    if done.returncode not in accepted:
        raise SystemExit(f"nimbleq {words}: {done.stderr.strip().splitlines()[-1]}")
    return json.loads(done.stdout)


def pass_named(room: str, name: str) -> Callable[..., Any]:
    """The function of that name, in whichever module of the room defines it."""
    package = importlib.import_module(f"nimbleq.{room}")
    for module in pkgutil.walk_packages(package.__path__, f"{package.__name__}."):
        found: Any = getattr(importlib.import_module(module.name), name, None)
        if getattr(found, "__module__", "") == module.name:
            return found  # type: ignore[no-any-return]
    raise SystemExit(f"no module of {package.__name__} defines {name}")


def of_graph(graph: Any) -> Digests:
    """Weights as they decode (``np.asarray``), and what the model's JSON says of layers, wiring and shapes."""
    plain = (bool, int, float, str, tuple, type(None))
    nodes: list[Any] = []
    for node in graph.nodes:
        values = {each.name: getattr(node.op, each.name) for each in dataclasses.fields(node.op)}
        settings = {name: str(value) for name, value in values.items() if isinstance(value, plain)}
        nodes.append([node.op.kind, list(node.inputs), node.output, settings])
    shapes = {name: list(kind.shape) for name, kind in graph.types.items()}
    weights = {f"weights {name}": digest(np.asarray(weight)) for name, weight in graph.weights.items()}
    return {"model": digest([nodes, shapes, list(graph.outputs)]), **weights}


def of_artefact(path: Path) -> Digests:
    """Graph and golden vectors."""
    loaded = nimbleq.load_artefact(path)
    return of_graph(loaded.graph) | {f"golden {n}": digest(getattr(loaded.golden, n)) for n in ("obs", "q", "action")}


def of_c(artefact: Path, folder: Path) -> Digests:
    """What the emitted C answers, compiled without the compiler's own liberties."""
    command(f"export {artefact} --to c --out {folder}")
    [source] = [path for path in folder.glob("*.c") if path.name != "example.c"]
    library, flags = str(folder / "policy.so"), "-std=c99 -O2 -march=native -ffp-contract=off -fPIC -shared"
    subprocess.run(["cc", *flags.split(), "-o", library, str(source)], check=True)
    opened, golden = ctypes.CDLL(library), nimbleq.load_artefact(artefact).golden
    rng = np.random.default_rng(0)
    mixed = np.stack([rng.permuted(golden.obs, axis=0) for _ in range(4)]).reshape(-1, *golden.obs.shape[1:])
    actions, values = [], []
    for obs in np.ascontiguousarray(np.concatenate([golden.obs, mixed])):
        q = np.full(golden.q.shape[1], np.nan, np.float32)
        opened[f"{source.stem}_q"](obs.ctypes.data_as(ctypes.c_void_p), q.ctypes.data_as(ctypes.c_void_p))
        actions.append(opened[f"{source.stem}_act"](obs.ctypes.data_as(ctypes.c_void_p)))
        values.append(q)
    return {"actions": digest(np.array(actions)), "q": digest(np.array(values))}


def of_training(run: Path, words: str) -> Digests:
    """What training left and said on the way."""
    result = command(f"train --out {run} {words}")
    lines = [json.loads(line) | {"seconds": 0} for line in (run / "metrics.jsonl").read_text().splitlines()]
    best = safetensors.numpy.load_file(run / "checkpoint" / "best.safetensors")
    kept = {f"best {name}": digest(value) for name, value in best.items()}
    result = {name: result[name] for name in ("steps", "updates", "return_mean", "return_ci95", "learner")}
    return {"result": digest(result), "metrics": digest(lines), **kept, **of_artefact(run / "artefacts" / "teacher")}


def of_pipeline(artefact: Path) -> Digests:
    """fold → prune → quantize on the artefact's golden observations: the graph after each, and answers."""
    loaded = nimbleq.load_artefact(artefact)
    graph, obs = loaded.graph, loaded.golden.obs
    fold, for_deployment = (pass_named("graph", name) for name in ("fold", "for_deployment"))
    drop_dead, prune_to, quantize = (pass_named("compress", name) for name in ("drop_dead", "prune_to", "quantize"))
    folded = fold(for_deployment(graph))
    pruned = fold(prune_to(drop_dead(folded, obs), 0.5, obs))
    steps = {"folded": folded, "pruned": pruned, "quantized": (small := quantize(pruned, obs))}
    answers = {f"answers {name}": digest(values) for name, values in nimbleq.interpret(small, obs).items()}
    return {f"{name} {key}": value for name, graph in steps.items() for key, value in of_graph(graph).items()} | answers


def cells(folder: Path) -> Iterator[tuple[str, Callable[[], Digests]]]:
    """By name; each builds on those before it."""
    teachers = {name: folder / name / "artefacts" / "teacher" for name in TRAININGS}
    for name, words in TRAININGS.items():
        yield f"train.{name}", partial(of_training, folder / name, words)
    small = folder / "native" / "artefacts" / "small"

    def compressed() -> Digests:
        told = command(f"compress {folder / 'native'} --keep 0.5 --recipe int8 --no-scratch --name small", (0, 1))
        facts = [told["size_bytes"], told["macs"], told["return_mean"], told["teacher_return_mean"]]
        return {"result": digest(facts), **of_artefact(small)}

    for name in ("native", "small-pictures", "nature-pictures"):
        yield f"pipeline.{name}", partial(of_pipeline, teachers[name])
    del teachers["masked"]  # its C wants a mask as well
    for name, path in teachers.items():
        yield f"c.{name}", partial(of_c, path, folder / f"c-{name}")
    yield "compress.int8", compressed
    yield "c.int8", partial(of_c, small, folder / "c-int8")


def where() -> Digests:
    """What digests depend on beside the code."""
    packages = {name: importlib.import_module(name).__version__ for name in ("numpy", "torch", "gymnasium")}
    processor = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    return {"processor": processor[0].partition(": ")[2], "python": platform.python_version(), **packages}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", choices=("write", "compare"))
    parser.add_argument("file", type=Path)
    args = parser.parse_args()
    found: dict[str, Any] = {"where": where(), "cells": {}}
    with tempfile.TemporaryDirectory() as folder:
        for name, cell in cells(Path(folder)):
            found["cells"][name] = cell()
            print(f"{name}: {len(found['cells'][name])} digests", file=sys.stderr, flush=True)
            if args.what == "write":
                args.file.write_text(json.dumps(found, indent=1) + "\n")
    if args.what == "write":
        return
    before = json.loads(args.file.read_text())
    if before["where"] != found["where"]:
        print(f"compared across machines or packages: {before['where']} and {found['where']}")
    names = sorted(before["cells"].keys() | found["cells"].keys())
    pairs = {name: (before["cells"].get(name, {}), found["cells"].get(name, {})) for name in names}
    wrong = [f"{name}: {key}" for name, (a, b) in pairs.items() for key in sorted(a | b) if a.get(key) != b.get(key)]
    print("\n".join([*wrong, f"{len(wrong)} of {sum(len(a | b) for a, b in pairs.values())} digests differ"]))
    sys.exit(1 if wrong else 0)


if __name__ == "__main__":
    main()
