"""Fewer bits or fewer units: students of as many bytes, the widest of each number format that fits.

A student has two hidden layers of the same width, the widest that fits before it is taught; what it learns moves its
size by a few bytes. The teacher of the leaderboard teaches it, then it is trained with the rounding of its format
(``--passes student=W-W distill fold qat=…``), as long as usual. Weights, biases and scales are counted. Its
certificate's episodes, on which nothing was chosen, say what it returns.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cache, partial
from itertools import count
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.compress.measure import compressed_by
from benchmarks.record import MISSING, Record
from benchmarks.statistics import median
from benchmarks.tables import header, unmeasured
from nimbleq.compress.passes.qat import Qat
from nimbleq.compress.passes.units import with_biases
from nimbleq.compress.quantize.lower import lower
from nimbleq.compress.quantize.plan import make_plan
from nimbleq.compress.students.mlp import mlp_student
from nimbleq.graph.cost import cost
from nimbleq.graph.rewrite import fold
from nimbleq.graph.tensor import TensorType

TEACHER = "lunarlander"
OBS, ACTIONS = TensorType((8,)), 4
SEEDS = (0, 1, 2)
BYTES = (250, 500, 1_000)
FORMATS = {"8 bits": "8", "4 bits": "4", "3 bits": "3", "2 bits": "2", "ternary": "ternary"}
"""Of the weights → the setting of ``qat``."""
KEEP = 0.95
SHARED = ("--keep", str(KEEP), "--select-episodes", "300")
HEADER = header("bytes, about", "weights", "seeds", "widths", "bytes", "regret", "return", "kept, 95 %", "certified")


@cache
def size_bytes(width: int, qat: str) -> int:
    """What a policy of these widths takes in this format, before it is taught anything."""
    rng = np.random.default_rng(0)
    obs = rng.standard_normal((256, *OBS.shape)).astype(np.float32)
    graph = with_biases(fold(mlp_student(OBS, (width, width), ACTIONS, obs, rng)))
    weights = Qat(f"int{qat}" if qat.isdecimal() else qat).weights
    return cost(lower(graph, make_plan(graph, obs, weights=weights))).size_bytes


def widest(most: int, qat: str) -> int:
    """The largest width that fits into ``most`` bytes."""
    return next(width for width in count(1) if size_bytes(width + 1, qat) > most)


def measure(most: int, name: str, seed: int, context: Context) -> dict[str, Any]:
    """One student."""
    qat = FORMATS[name]
    width = widest(most, qat)
    words = (*SHARED, "--passes", f"student={width}-{width}", "distill", "fold", f"qat={qat}")
    made = compressed_by(words, f"{most}-bytes-{name.replace(' ', '-')}", TEACHER, seed, context)
    return {"most": most, "weights": name, "seed": seed, "width": width, **made}


def cells(seeds: Sequence[int]) -> list[Cell]:
    """All formats of a size, before the next."""
    return [
        Cell(f"{most} bytes, {name}, seed{seed}", partial(measure, most, name, seed), 40)
        for seed in seeds
        for most in BYTES
        for name in FORMATS
    ]


def row(most: int, name: str, found: Sequence[dict[str, Any]]) -> str:
    """A line of the table: medians of bytes, means of the rest, the widest interval."""
    if not found:
        return f"| {most:,} | {name} | 0 | {MISSING} | | | | | |"
    low, high = (pick(cell["share_kept_ci95"][end] for cell in found) for end, pick in ((0, min), (1, max)))
    mean = {key: float(np.mean([cell[key] for cell in found])) for key in ("regret", "return_mean", "share_kept")}
    return (
        f"| {most:,} | {name} | {len(found)} | {_joined(cell['width'] for cell in found)} "
        f"| {median([cell['size_bytes'] for cell in found]):,.0f} | {mean['regret']:.3g} | {mean['return_mean']:.0f} "
        f"| {mean['share_kept']:.1%} ({low:.1%} to {high:.1%}) | {sum(cell['certified'] for cell in found)} |"
    )


def _joined(widths: Iterable[int]) -> str:
    return ", ".join(f"{width}-{width}" for width in sorted(set(widths)))


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    known = [record.cells[name] for name in names if record.finished(name)]
    rows = [
        row(most, name, [cell for cell in known if (cell["most"], cell["weights"]) == (most, name)])
        for most in BYTES
        for name in FORMATS
    ]
    missing = [name for name in names if not record.finished(name)]
    return "\n".join(
        [
            HEADER, *rows, "", f"LunarLander-v3, certified at a keep of {KEEP:.0%}.", *unmeasured(missing), "",
            record.footnote(), "",
        ]
    )  # fmt: skip


CASE = Case("equal_bytes", cells, table, SEEDS)
