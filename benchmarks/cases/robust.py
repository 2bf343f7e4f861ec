"""Robustness verdicts: the policies of VNN-COMP 2022, and maps of states.

The instances are those of the competition's ``rl_benchmarks`` in the folder that ``NIMBLEQ_VNNCOMP`` names, with the
verdict on which five verifiers agreed. Ours are milliseconds from the property and the network, both read, to the
checked verdict, the best of three. Those of the others are from the competition: on other machines, their start
included. The maps are of 10,000 states drawn from a normal distribution, for a random network 8-64-64-4 and for its
int8 form: ± 0.1 standard deviations of every feature, at most 1,024 boxes a state, fewer where the first 128 show that
these would not do.
"""

from __future__ import annotations

import csv
import os
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.record import Record
from benchmarks.tables import header, number
from nimbleq.bridge.onnx import read_onnx
from nimbleq.compress.quantize.post_training import quantize
from nimbleq.compress.robust.decide import decide
from nimbleq.compress.robust.search import Limits
from nimbleq.compress.robust.stay import CHANGES, OPEN, STAYS, deviations, stays
from nimbleq.compress.robust.vnnlib import read_property
from nimbleq.compress.states import States
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph.tensor import TensorType

FOLDER = "NIMBLEQ_VNNCOMP"
NETWORKS = ("cartpole", "lunarlander", "dubinsrejoin")
PEERS = {"marabou_s": "Marabou", "nnenum_s": "nnenum", "alpha_beta_crown_s": "αβ-CROWN"}
MEAN_MS, WORST_MS = 25.0, 1_000.0
"""Floors."""


def verdicts(network: str, context: Context) -> dict[str, Any]:
    """All instances of one network."""
    if FOLDER not in os.environ:
        raise CellError(f"{FOLDER} must name the folder of VNN-COMP's rl_benchmarks")
    folder = Path(os.environ[FOLDER])
    with (folder / "instances.csv").open() as lines:
        instances = [line for line in csv.DictReader(lines) if line["network"] == f"{network}.onnx"]
    graph = read_onnx(folder / "onnx" / f"{network}.onnx")
    seconds, wrong = [], []
    for line in instances[: 5 if context.quick else None]:
        asked = read_property(folder / "vnnlib" / f"{line['property']}.gz", graph.obs_type.size, graph.actions)
        taken = []
        for _ in range(3):
            start = time.perf_counter()
            found = decide(graph, asked, Limits(60.0))
            taken.append(time.perf_counter() - start)
        seconds.append(min(taken))
        if found.verdict != line["verdict"]:
            wrong.append(f"{line['property']}: {found.verdict}, not {line['verdict']}")
    return {
        "instances": len(seconds), "wrong": wrong, "milliseconds": [1e3 * value for value in seconds],
        "peers_s": {name: float(np.mean([float(line[key]) for line in instances])) for key, name in PEERS.items()},
    }  # fmt: skip


def states_mapped(kind: str, context: Context) -> dict[str, Any]:
    """Seconds for a map, and how it came out."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((500 if context.quick else 10_000, 8)).astype(np.float32)
    graph = mlp_student(TensorType((8,)), (64, 64), 4, obs, rng)
    graph = quantize(graph, obs[:1_000]) if kind == "int8" else graph
    start = time.perf_counter()
    found = stays(graph, States(obs), deviations(obs), 0.1, Limits(60.0, 1_024))
    seconds = time.perf_counter() - start
    shares = {name: found.share(verdict) for name, verdict in (("stays", STAYS), ("changes", CHANGES), ("open", OPEN))}
    return {"states": len(obs), "seconds": seconds, **shares}


def table(record: Record, names: Sequence[str]) -> str:
    """Two tables."""
    nets = [name for name in names if name in NETWORKS]
    return "\n".join(
        [
            "# Robustness verdicts", "", (__doc__ or "").split("\n\n", 1)[1].strip(), "", record.footnote(), "",
            header("network", "instances", "wrong", "mean ms", "median ms", "worst ms",
                   *(f"{name}, mean s" for name in PEERS.values())),
            *record.rows(nets, _verdict_row, 6 + len(PEERS)), _all_row(record), "",
            header("map", "states", "seconds", "stays", "changes", "open"),
            *record.rows([name for name in names if name not in NETWORKS], _map_row, 6), "",
        ]
    )  # fmt: skip


def _verdict_row(name: str, cell: dict[str, Any]) -> str:
    peers = " | ".join(number(cell["peers_s"][peer]) for peer in PEERS.values())
    return f"| {name} | {cell['instances']} | {len(cell['wrong'])} | {_spread(cell['milliseconds'])} | {peers} |"


def _all_row(record: Record) -> str:
    cells = [record.cells[name] for name in NETWORKS if record.finished(name)]
    if not cells:
        return "| all |" + " |" * (5 + len(PEERS))
    every = [value for cell in cells for value in cell["milliseconds"]]
    wrong = sum(len(cell["wrong"]) for cell in cells)
    return f"| all | {len(every)} | {wrong} | {_spread(every)} |" + " |" * len(PEERS)


def _spread(values: Sequence[float]) -> str:
    return " | ".join(map(number, (float(np.mean(values)), float(np.median(values)), max(values))))


def _map_row(name: str, cell: dict[str, Any]) -> str:
    shares = " | ".join(f"{cell[key]:.1%}" for key in ("stays", "changes", "open"))
    return f"| {name} | {cell['states']:,} | {number(cell['seconds'])} | {shares} |"


def floors_missed(record: Record) -> list[str]:
    """Every verdict right, 25 ms on average, 1 s at worst."""
    cells = {name: record.cells[name] for name in NETWORKS if record.finished(name)}
    missed = [text for cell in cells.values() for text in cell["wrong"]]
    every = [value for cell in cells.values() for value in cell["milliseconds"]]
    if every and (np.mean(every) > MEAN_MS or max(every) > WORST_MS):
        missed.append(f"{np.mean(every):.1f} ms on average, {max(every):.0f} ms at worst")
    return missed


def cells(seeds: Sequence[int]) -> list[Cell]:
    """The networks, then the maps; nothing depends on a seed."""
    return [
        *(Cell(name, partial(verdicts, name), 3) for name in NETWORKS),
        *(Cell(f"{kind} map", partial(states_mapped, kind), 10) for kind in ("float32", "int8")),
    ]


CASE = Case("robust", cells, table, missed=floors_missed)
