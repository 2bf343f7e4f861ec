"""Sparse kernels beside dense ones: density × encoding × time × bytes, and where one becomes faster than the other.

The middle layer of 8-256-256-4 with random weights, of which a share is left: any (`csr`, `delta`, `bitmap` hold the
same), blocks of four outputs (`block4`), two or one of four inputs (`2:4`, `1:4`). Times are of the whole network: C
with AVX2 that multiplies all weights, that leaves out blocks of zeros, and as it is emitted by the rule; plain C, dense
and walking over what is stored. Best medians of rounds that take turns.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest.mock import patch

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases.decide import observations
from benchmarks.networks import int_mlp, mlp
from benchmarks.record import Record
from benchmarks.statistics import PAIRS
from benchmarks.tables import header
from nimbleq.deploy.decider import TimedDecider, open_library
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.isa import AVX2, PORTABLE, isas_of_this_machine
from nimbleq.deploy.targets.c.ops.avx2 import blocks
from nimbleq.deploy.toolchain import FAST, compile_library, find_compiler
from nimbleq.graph.artefact import network_interface
from nimbleq.graph.encodings import DENSE, ENCODINGS, from_matrix, matrix
from nimbleq.graph.graph import Graph
from nimbleq.graph.weight import Storage, default_storage
from nimbleq.types import Array

MIDDLE = "w1"
CALLS = 400


@dataclass(frozen=True)
class Pattern:
    """Which weights are left.

    Attributes:
        encodings: that hold it.
        densities: shares that are left.
        height: outputs that stay or go together.
        n, of: of so many neighbouring inputs, how many are left; 0: any number.
    """

    encodings: tuple[str, ...]
    densities: tuple[float, ...]
    height: int = 1
    n: int = 0
    of: int = 1


PATTERNS = (
    Pattern(("csr", "delta", "bitmap"), (0.01, 0.02, 0.05, 0.1, 0.2, 0.5)),
    Pattern(("block4",), (0.02, 0.05, 0.1, 0.2, 0.5), height=4),
    Pattern(("1:4",), (0.25,), n=1, of=4),
    Pattern(("2:4",), (0.5,), n=2, of=4),
)


def thinned(values: Array, pattern: Pattern, density: float) -> Array:
    """``values`` with those that go set to zero."""
    rng, rows = np.random.default_rng(0), matrix(values).copy()
    score = rng.random((-(-rows.shape[0] // pattern.height), rows.shape[1]))
    if pattern.n:
        groups = score.reshape(len(score), -1, pattern.of)
        kept = groups <= np.sort(groups, axis=2)[..., pattern.n - 1 : pattern.n]
        kept = kept.reshape(score.shape)
    else:
        kept = score <= np.quantile(score, density)
    rows[~np.repeat(kept, pattern.height, axis=0)[: len(rows)]] = 0
    return from_matrix(rows, values.shape)


def measure(integer: bool, pattern: Pattern, density: float, context: Context) -> dict[str, Any]:
    """One row of each encoding: µs by kernel, and bytes of the layer."""
    compiler = find_compiler()
    if compiler is None or AVX2 not in isas_of_this_machine():
        raise CellError("needs a C compiler and a processor with AVX2")
    graph = int_mlp(8, 256, 256, 4) if integer else mlp(8, 256, 256, 4)
    weight = thinned(graph.weights[MIDDLE], pattern, density)
    graph = replace(graph, weights={**graph.weights, MIDDLE: weight})
    number = default_storage(weight).format
    dense = graph.with_storage({MIDDLE: Storage(number, DENSE)})
    sparse = {name: graph.with_storage({MIDDLE: Storage(number, ENCODINGS[name])}) for name in pattern.encodings}
    first = sparse[pattern.encodings[0]]
    texts = {"avx2 dense": emit_c(dense, isas=(AVX2,)), "avx2 as emitted": emit_c(first, isas=(AVX2,))}
    with (
        patch.object(blocks, "FLOAT", replace(blocks.FLOAT, share=1.0)),
        patch.object(blocks, "INT", replace(blocks.INT, share=1.0)),
    ):
        texts["avx2 blocks"] = emit_c(first, isas=(AVX2,))
    texts["plain dense"] = emit_c(dense, isas=(PORTABLE,))
    texts |= {f"plain {name}": emit_c(held, isas=(PORTABLE,)) for name, held in sparse.items()}
    times = taking_turns(texts, dense, compiler, context.scratch, PAIRS if context.quick else 21)
    sizes = {name: held.stored(MIDDLE).nbytes for name, held in {"dense": dense, **sparse}.items()}
    return {"times_us": times, "bytes": sizes}


def taking_turns(
    texts: Mapping[str, Mapping[str, str]],
    graph: Graph,
    compiler: str,
    folder: Path,
    rounds: int,
    obs: Array | None = None,
) -> dict[str, float]:
    """Best median of a round of calls, µs; ``obs[K, *O]``: random ones, if none are given."""
    obs = observations(graph) if obs is None else obs
    deciders: dict[str, TimedDecider] = {}
    for index, (name, files) in enumerate(texts.items()):
        library = compile_library(files, folder / f"{index}.so", compiler, FAST)
        opened = open_library(library, "policy", graph, network_interface(graph))
        if not isinstance(opened, TimedDecider):
            raise CellError("the extension that times calls is not built")
        deciders[name] = opened
    best = dict.fromkeys(deciders, float("inf"))
    for _ in range(rounds):
        for name, decider in deciders.items():
            best[name] = min(best[name], float(np.median(decider.time_act(obs, CALLS, None))) / 1e3)
    return best


def names() -> dict[str, tuple[bool, Pattern, float]]:
    """Cells by name."""
    return {
        f"{'int8' if integer else 'float32'} {'/'.join(pattern.encodings)} {density:g}": (integer, pattern, density)
        for integer in (False, True)
        for pattern in PATTERNS
        for density in pattern.densities
    }


def table(record: Record, wanted: Sequence[str]) -> str:
    """Markdown."""
    columns = ("avx2 dense", "avx2 blocks", "avx2 as emitted", "plain dense")

    def row(name: str, cell: dict[str, Any]) -> str:
        times, sizes = cell["times_us"], cell["bytes"]
        plain = ", ".join(f"{times[f'plain {each}']:.3g}" for each in sizes if each != "dense")
        stored = ", ".join(str(size) for each, size in sizes.items() if each != "dense")
        shown = " | ".join(f"{times[column]:.3g}" for column in columns)
        return f"| {name} | {shown} | {plain} | {sizes['dense']} | {stored} |"

    return "\n".join([
        "# Sparse weights: µs of a decision of 8-256-256-4, bytes of its middle layer", "",
        f"Best medians of rounds that take turns. {record.footnote()}", "",
        header("weights, encodings, density", *columns, "plain, as stored", "bytes dense", "bytes"),
        *record.rows(wanted, row, 7), "",
    ])  # fmt: skip


CASE = Case(
    "sparse",
    cells=lambda _: [Cell(name, partial(measure, *what), 8) for name, what in names().items()],
    table=table,
)
