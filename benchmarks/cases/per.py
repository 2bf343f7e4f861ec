"""Prioritised sampling and update of 256 among a million, beside Tianshou's numba trees.

Both do everything that their replay does with priorities for one batch: draw indices, importance weights (over the
batch's maximum), new priorities (one power each); then the trees only: find and write. Pairs are interleaved blocks of
calls in one process; a block's figure is the median over its calls.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.record import Record
from benchmarks.statistics import PAIRS, interleaved, median, ratio
from benchmarks.tables import header
from nimbleq.rl.replay.priority import Priorities, SumTree, replay_extension
from nimbleq.types import Array

ENTRIES, BATCH, ALPHA, BETA = 1_000_000, 256, 0.6, 0.4
WORKS = ("sample + weights + update", "trees only: find + write")


def ours(values: Array, native: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """Whole work on a batch, and trees only."""
    priorities, rng = Priorities(ENTRIES, ALPHA), np.random.default_rng(0)
    if not native:
        priorities.tree = SumTree(ENTRIES)
    tree = priorities.tree
    tree.load(values)
    abs_td = rng.random(BATCH).astype(np.float32)
    new = values[:BATCH].copy()

    def whole() -> None:
        index = priorities.sample(rng, BATCH)
        priorities.weights(index, BETA)
        priorities.update(index, abs_td)

    def trees() -> None:
        tree.set(tree.find(rng.random(BATCH) * tree.total), new)

    return whole, trees


def block(work: Callable[[], None], calls: int) -> float:
    """Median microseconds of a call."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1e6 * median(took)


def measure(kind: int, context: Context) -> dict[str, Any]:
    """Times of both in turns, and of the stand-in in numpy."""
    if replay_extension() is None:
        raise CellError("the native tree was not compiled; build nimbleq with a C compiler first")
    from benchmarks.peers.tianshou import works  # needs the extra peers

    calls = 20 if context.quick else 200
    values = np.random.default_rng(1).random(ENTRIES) ** ALPHA
    native, numpy_tree = ours(values, True)[kind], ours(values, False)[kind]
    peer = works(values, BATCH, ALPHA, BETA)[kind]
    for work in (native, peer):
        block(work, 20)
    times = interleaved(
        {"nimbleq_us": partial(block, native, calls), "tianshou_us": partial(block, peer, calls)}, PAIRS + 4
    )
    quotient = ratio(times["tianshou_us"], times["nimbleq_us"])
    return {**times, "ratio": quotient["median"], "numpy_us": block(numpy_tree, 20)}


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    mine, theirs = cell["nimbleq_us"], cell["tianshou_us"]
    quotient = ratio(theirs, mine)
    return (
        f"| {name} | {median(mine):.1f} | {median(theirs):.1f} | {quotient['median']:.2f}× "
        f"({quotient['least']:.2f}–{quotient['most']:.2f}) | {len(mine)} | {cell['numpy_us']:.0f} |"
    )


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    columns = ("work", "nimbleq µs", "Tianshou µs", "ratio (median, range of pairs)", "pairs", "numpy stand-in µs")
    title = f"# Prioritised replay: {BATCH} of {ENTRIES:,} entries, interleaved pairs"
    return "\n".join([title, "", header(*columns), *record.rows(names, row, len(columns)), "", record.footnote(), ""])


CASE = Case("per", lambda _: [Cell(name, partial(measure, kind), 15) for kind, name in enumerate(WORKS)], table)
