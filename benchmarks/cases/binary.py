"""Binary observations as bits: bytes of a transition and time to draw it; a decision beside dense first layers.

Decisions are of MinAtar's network on states of its games, and of one-hot vectors of 500 states; weights are random,
which does not change the work of a first layer. Medians of rounds that take turns.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks import process
from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases.replay_memory import status
from benchmarks.networks import mlp
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, median
from benchmarks.tables import header
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.config import EnvConfig, ReplayConfig
from nimbleq.deploy.decider import TimedDecider, open_library, open_program
from nimbleq.deploy.prebuilt.lower import lower
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import isas_of_this_machine
from nimbleq.deploy.toolchain import FAST, compile_library, find_compiler
from nimbleq.graph import ops
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.rl.envs.engines import make_env_batch
from nimbleq.rl.replay.ring import Replay
from nimbleq.types import ObsSpec, Step

GAMES = ("Breakout", "Seaquest")
ENVS, BATCH, HELD = 16, 256, 50_000
HOT, UNITS = 500, 64


def played(game: str, steps: int) -> tuple[ObsSpec, list[Step]]:
    """Random play of a MinAtar game by 16 environments."""
    batch = make_env_batch(EnvConfig(f"MinAtar/{game}-v1"), ENVS)
    rng, seed = np.random.default_rng(0), iter(range(1 << 30))
    obs = np.stack([batch.reset(index, next(seed)) for index in range(ENVS)])
    found = []
    for _ in range(steps):
        action = rng.integers(0, batch.spec.actions, ENVS)
        following, reward, over, cut = batch.step(np.arange(ENVS), action)
        found.append(Step(obs, action, reward, over, cut & ~over, following.copy()))
        obs = following.copy()
        for index in np.flatnonzero(over | cut).tolist():
            obs[index] = batch.reset(index, next(seed))
    batch.close()
    return batch.spec.obs, found


def one_hot_steps(steps: int) -> tuple[ObsSpec, list[Step]]:
    """A walk through 500 states."""
    rng = np.random.default_rng(0)
    states = np.eye(HOT, dtype=np.float32)[rng.integers(0, HOT, (steps + 1, ENVS))]
    no = np.zeros(ENVS, bool)
    zeros = np.zeros(ENVS, np.float32)
    walk = [Step(states[at], np.zeros(ENVS, np.int64), zeros, no, no, states[at + 1]) for at in range(steps)]
    return ObsSpec((HOT,), bits=((0, HOT),)), walk


def replayed(game: str, context: Context) -> dict[str, Any]:
    """Bytes that a process grows by for a transition, µs to add and to draw one, as bits and as it was before."""
    held = 2_000 if context.quick else HELD
    kept = {name: process.measure("-m", __name__, game, name, str(held)) for name in ("before", "bits")}
    found = {key: {name: values[key] for name, values in kept.items()} for key in ("bytes", "add_us", "sample_us")}
    return found | {"ratio": median([a / b for a, b in zip(*(kept[name]["rounds"] for name in kept), strict=True)])}


def grown(game: str, kept: str, held: int) -> dict[str, Any]:
    """One replay in this process; the two observations' bytes are what is above the numbers beside them."""
    spec, steps = one_hot_steps(400) if game == "one-hot" else played(game, 400)
    before = status("VmRSS")
    replay = Replay(
        ReplayConfig(capacity=held), 0.99, ENVS, spec if kept == "bits" else ObsSpec(spec.shape, spec.dtype)
    )
    began = time.process_time()
    for index in range(held // ENVS + 2):
        replay.add(steps[index % len(steps)])
    added = time.process_time() - began
    size = (status("VmRSS") - before) / held
    rounds = []
    for index in range(21):
        rng, began = np.random.default_rng(index), time.process_time()
        for _ in range(20):
            replay.sample(rng, BATCH)
        rounds.append((time.process_time() - began) / 20 / BATCH * 1e6)
    others = sum(array.nbytes for array in replay.store[1:4]) / replay.capacity
    return {"bytes": size - others, "add_us": added / held * 1e6, "sample_us": median(rounds), "rounds": rounds}


def minatar(channels: int) -> Graph:
    """MinAtar's network: one convolution of 16 channels, 128 units; [1903.03176]."""
    rng = np.random.default_rng(0)
    shapes = {"c": (16, channels, 3, 3), "f": (128, 1024), "h": (6, 128)}
    weights = {name: (rng.normal(size=shape) * (2 / np.prod(shape[1:])) ** 0.5).astype(np.float32)
               for name, shape in shapes.items()}  # fmt: skip
    weights["c"] /= 255
    nodes = (
        Node(ops.Conv2d("c"), ("obs",), "maps"), Node(ops.Activation("relu"), ("maps",), "seen"),
        Node(ops.Flatten(), ("seen",), "flat"), Node(ops.Linear("f"), ("flat",), "hidden"),
        Node(ops.Activation("relu"), ("hidden",), "active"), Node(ops.Linear("h"), ("active",), Q),
        Node(ops.ArgMax(), (Q,), ACTION),
    )  # fmt: skip
    return Graph({"obs": TensorType((channels, 10, 10), UINT8)}, nodes, (Q, ACTION), weights)


def decided(network: str, integer: bool, context: Context) -> dict[str, Any]:
    """µs a decision in C and in the prebuilt engine, by first layers that skip zeros and dense ones; shares of ones."""
    if network == "one-hot":
        graph, obs = mlp(HOT, UNITS, UNITS, 6), np.eye(HOT, dtype=np.float32)[np.random.default_rng(0).permutation(HOT)]
        if integer:
            graph = quantize(graph, obs)
    else:
        spec, steps = played(network, 40)
        obs, graph = np.concatenate([step.obs for step in steps[8:]]), minatar(spec.shape[0])
        if integer:
            graph = quantize(graph, obs)
    compiler = find_compiler()
    if compiler is None:
        raise CellError("needs a C compiler")
    ones = network_interface(graph, ((0, graph.obs_type.size),))
    timed: dict[str, TimedDecider] = {}
    isa = runtime_isa()
    for name, interface in (("bits", ones), ("dense", network_interface(graph))):
        files = emit_c(graph, "policy", interface=interface, isas=isas_of_this_machine())
        library = compile_library(files, context.scratch / f"{name}.so", compiler, FAST)
        opened = open_library(library, "policy", graph, interface)
        if not isinstance(opened, TimedDecider):
            raise CellError("the extension that times calls is not built")
        timed[f"c {name}"] = opened
        timed[f"prebuilt {name}"] = open_program(lower(graph, isa, binary=name == "bits"), isa, graph, interface)
    times: dict[str, list[float]] = {name: [] for name in timed}
    for _ in range(PAIRS if context.quick else 41):
        for name, decider in timed.items():
            times[name].append(float(np.median(decider.time_act(obs, 1_000, None))) / 1e3)
    engines = ("c", "prebuilt")
    return {
        "ones": float((obs != 0).mean()), "us": {name: median(values) for name, values in times.items()},
        "ratio": {
            engine: median([a / b for a, b in zip(times[f"{engine} dense"], times[f"{engine} bits"], strict=True)])
            for engine in engines
        },
    }  # fmt: skip


def runtime_isa() -> str:
    """The best kernels of the prebuilt engine on this processor."""
    from nimbleq.native import _runtime

    name: str = _runtime.isas()[0]
    return name


def cells(_: Sequence[int]) -> list[Cell]:
    """Replay, then decisions."""
    stores = [Cell(f"replay {game}", partial(replayed, game), 20) for game in (*GAMES, "one-hot")]
    return stores + [
        Cell(f"decide {name} {'int8' if integer else 'float32'}", partial(decided, name, integer), 15)
        for name in (*GAMES, "one-hot")
        for integer in (False, True)
    ]


def _replay(name: str, cell: dict[str, Any]) -> str:
    sizes, added, taken = cell["bytes"], cell["add_us"], cell["sample_us"]
    return (
        f"| {name.removeprefix('replay ')} | {sizes['before']:.0f} | {sizes['bits']:.0f} | {added['before']:.2f} | "
        f"{added['bits']:.2f} | {taken['before']:.3f} | {taken['bits']:.3f} | ×{cell['ratio']:.2f} |"
    )


def _decide(name: str, cell: dict[str, Any]) -> str:
    times, ratios = cell["us"], cell["ratio"]
    return (
        f"| {name.removeprefix('decide ')} | {cell['ones']:.1%} | {times['c dense']:.3f} | {times['c bits']:.3f} | "
        f"×{ratios['c']:.2f} | {times['prebuilt dense']:.3f} | {times['prebuilt bits']:.3f} | "
        f"×{ratios['prebuilt']:.2f} |"
    )


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    stores, decisions = ([name for name in names if name.startswith(kind)] for kind in ("replay", "decide"))
    return "\n".join([
        "# Binary observations", "",
        f"Bytes are those by which a process grows for both observations of a transition, of {HELD:,}; µs are those of "
        f"processor time for a transition, drawn in batches of {BATCH}. *Before*: shared frames (MinAtar), a float32 a "
        f"value (one-hot of {HOT}).", "",
        header("replay", "bytes before", "as bits", "add µs before", "as bits", "draw µs before", "as bits", "faster"),
        *record.rows(stores, _replay, 8), "",
        "µs of a whole decision, medians of rounds that take turns.", "",
        header("network", "ones", "C dense", "C, bits", "faster", "prebuilt dense", "prebuilt, bits", "faster"),
        *record.rows(decisions, _decide, 8), "",
        record.footnote(), "",
    ])  # fmt: skip


CASE = Case("binary", cells, table)


if __name__ == "__main__":
    print(json.dumps(grown(sys.argv[1], sys.argv[2], int(sys.argv[3]))))
