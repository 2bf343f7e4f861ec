"""Prioritised sampling and update of 256 among a million, beside Tianshou's numba trees: `benchmarks/results/per.md`.

    python benchmarks/per.py [--pairs 9]

Needs tianshou. Both do everything that their replay does with priorities for one batch: draw indices, importance
weights (over the batch's maximum), new priorities (one power each); then the trees alone: find and write. Pairs are
interleaved blocks of calls in one process; a block's figure is the median over its calls.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
from tianshou.data import PrioritizedReplayBuffer

from nimbleq.files import write_bytes, write_json
from nimbleq.rl.replay.priority import Priorities, SumTree, replay_extension
from nimbleq.types import Array

RESULTS = Path(__file__).parent / "results"
ENTRIES, BATCH, ALPHA, BETA = 1_000_000, 256, 0.6, 0.4


def ours(values: Array, native: bool) -> tuple[Callable[[], None], Callable[[], None]]:
    """Whole work on a batch, and trees alone."""
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

    def alone() -> None:
        tree.set(tree.find(rng.random(BATCH) * tree.total), new)

    return whole, alone


def tianshou(values: Array) -> tuple[Callable[[], None], Callable[[], None]]:
    """The same with Tianshou's buffer."""
    buffer, rng = PrioritizedReplayBuffer(ENTRIES, ALPHA, BETA), np.random.default_rng(0)
    buffer.weight[np.arange(ENTRIES)] = values
    buffer._size = ENTRIES
    tree = buffer.weight
    abs_td = rng.random(BATCH).astype(np.float32)
    new = values[:BATCH].copy()

    def whole() -> None:
        index = buffer.sample_indices(BATCH)
        weight = buffer.get_weight(index)
        weight / np.max(weight)
        buffer.update_weight(index, abs_td)

    def alone() -> None:
        tree[tree.get_prefix_sum_idx(rng.random(BATCH) * tree.reduce())] = new

    return whole, alone


def block(work: Callable[[], None], calls: int) -> float:
    """Median microseconds of a call."""
    took = []
    for _ in range(calls):
        began = time.perf_counter()
        work()
        took.append(time.perf_counter() - began)
    return 1e6 * float(np.median(took))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--calls", type=int, default=200)
    parser.add_argument("--out", type=Path, default=RESULTS, help="folder of the tables")
    args = parser.parse_args()
    if replay_extension() is None:
        raise SystemExit("the native tree was not compiled; build nimbleq with a C compiler first")
    values = np.random.default_rng(1).random(ENTRIES) ** ALPHA
    native, numpy_tree, peer = ours(values, True), ours(values, False), tianshou(values)
    results: dict[str, dict[str, list[float] | float]] = {}
    lines = [
        "| work | nimbleq µs | Tianshou µs | ratio (median, range of pairs) | numpy stand-in µs |",
        "|" + "---|" * 5,
    ]
    for kind, what in enumerate(("sample + weights + update", "trees alone: find + write")):
        for work in (native[kind], peer[kind]):
            block(work, 20)
        pairs = [(block(native[kind], args.calls), block(peer[kind], args.calls)) for _ in range(args.pairs)]
        mine, theirs = (np.array(column) for column in zip(*pairs, strict=True))
        stand_in = block(numpy_tree[kind], 20)
        ratio = theirs / mine
        results[what] = {
            "nimbleq_us": mine.tolist(),
            "tianshou_us": theirs.tolist(),
            "ratio": float(np.median(ratio)),
            "numpy_us": stand_in,
        }
        lines.append(
            f"| {what} | {np.median(mine):.1f} | {np.median(theirs):.1f} | {np.median(ratio):.2f}× "
            f"({ratio.min():.2f}–{ratio.max():.2f}) | {stand_in:.0f} |"
        )
        print(lines[-1], flush=True)
    title = f"# Prioritised replay: {BATCH} of {ENTRIES:,} entries, {args.pairs} interleaved pairs"
    write_bytes(args.out / "per.md", "\n".join([title, "", *lines, ""]).encode())
    write_json(args.out / "per.json", results)


if __name__ == "__main__":
    main()
