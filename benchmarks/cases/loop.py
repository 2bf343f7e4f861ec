"""The real-time loop at 1 kHz beside an empty one, the other core busy: who misses deadlines, and how late."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.networks import int_mlp
from benchmarks.realtime.watch import beside_a_busy_core
from benchmarks.record import Record
from benchmarks.tables import header, owed
from nimbleq.deploy.targets.c.emit import emit_c
from nimbleq.deploy.targets.c.guard import emit_guard
from nimbleq.deploy.targets.c.loop import emit_loop
from nimbleq.deploy.toolchain import FAST, find_compiler
from nimbleq.graph.envelope import Witness
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.types import Array

HZ, ROUNDS, SLICE = 1_000, 10, 1_000
ENGINES = {"C": 100, "Python": 20}
"""Which loop → slices of 1,000 periods in a round; the empty loop takes as many at the same time."""
T95 = 2.262  # Student's t, 9 degrees of freedom
_SOURCE = Path(__file__).parents[1] / "realtime" / "loop.c"
_TIMES = ("decision", "wake", "jitter")


def policy() -> tuple[Graph, Guard, Array]:
    """A network, its guard with an envelope, and observations that the guard lets through."""
    graph, count = int_mlp(8, 64, 64, 4), 512
    obs = np.sin(np.arange(count)[:, None] * 2 * np.pi / count * np.arange(1, 9) + np.arange(8)).astype(np.float32)
    witness = Witness(graph).begin(1)
    for one in [*obs, *obs[:2]]:
        witness(one[None], np.zeros(1, np.int64))
    return graph, Guard(0, witness.envelope(0.1)), obs


def in_c(slices: int, context: Context) -> list[list[str]]:
    """Lines of the program; see `benchmarks/realtime/loop.c`."""
    compiler = find_compiler()
    if compiler is None:
        raise CellError("no C compiler")
    graph, guard, obs = policy()
    texts = emit_c(graph, "policy") | emit_guard(graph, "policy", guard) | emit_loop(graph, "policy")
    for name, text in (texts | {"main.c": _SOURCE.read_text()}).items():
        (context.scratch / name).write_text(text)
    sources = [name for name in texts if name.endswith(".c")]
    words = [compiler, "-std=c99", *FAST, f"-DCOUNT={len(obs)}", *sources, "main.c", "-lpthread", "-o", "loop"]
    subprocess.run(words, cwd=context.scratch, check=True)
    command = [str(context.scratch / "loop"), str(slices), str(SLICE), str(HZ)]
    done = subprocess.run(command, input=obs.tobytes(), capture_output=True, check=True)
    return [line.split() for line in done.stdout.decode().splitlines()]


def in_python(slices: int, context: Context) -> list[list[str]]:
    """The same of `nimbleq.serve.loop`, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.realtime.loop", str(slices), str(SLICE), str(HZ)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return [line.split() for line in done.stdout.splitlines()]


def measure(engine: str, context: Context) -> dict[str, Any]:
    """One round: slices of a second."""
    slices = 1 if context.quick else ENGINES[engine]
    run = in_c if engine == "C" else in_python
    with beside_a_busy_core() as busy:
        rows = run(slices, context)
    found: dict[str, Any] = {"other_core_busy": busy}
    for who in ("loop", "empty"):
        numbers = np.array([row[1:] for row in rows if row[0] == who], np.int64)
        found[who] = {"periods": int(numbers[:, 0].sum()), "misses": int(numbers[:, 1].sum())}
        for index, name in enumerate(_TIMES):
            p50, p999, worst = numbers[:, 2 + 3 * index : 5 + 3 * index].T / 1e3
            times = {"p50_us": np.median(p50), "p999_us": np.median(p999), "worst_us": worst.max()}
            found[who][name] = {key: float(value) for key, value in times.items()}
    return found


def difference(cells: Sequence[dict[str, Any]]) -> tuple[float, float]:
    """Misses per million periods, the loop's minus the empty one's: mean over all rounds, half its 95 % interval."""
    each = np.array([_rate(cell["loop"]) - _rate(cell["empty"]) for cell in cells])
    half = T95 * each.std(ddof=1) / len(each) ** 0.5 if len(each) == ROUNDS else np.inf
    return float(each.mean()), float(half)


def _rate(row: dict[str, Any]) -> float:
    return 1e6 * int(row["misses"]) / int(row["periods"])


def _measured(record: Record, engine: str) -> list[dict[str, Any]]:
    return [cell for name, cell in record.cells.items() if name.startswith(f"{engine}, ") and "error" not in cell]


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""

    def row(name: str, cell: dict[str, Any]) -> str:
        loop, empty = cell["loop"], cell["empty"]
        times = [
            " / ".join(f"{loop['decision'][share]:.3g}" for share in ("p50_us", "p999_us", "worst_us")),
            *(f"{one['jitter']['p50_us']:.3g} / {one['jitter']['p999_us']:.3g}" for one in (loop, empty)),
        ]
        return f"| {name} | {loop['periods']:,} | {loop['misses']:,} | {empty['misses']:,} | {' | '.join(times)} |"

    summary = []
    for engine in ENGINES:
        cells = _measured(record, engine)
        if cells:
            mean, half = difference(cells)
            total = sum(cell["loop"]["periods"] for cell in cells)
            summary.append(
                f"{engine}: over {total:,} decisions in {len(cells)} rounds the loop misses {mean:+.0f} ± {half:.0f} "
                "per million more than the empty one (95 % interval of the mean of the paired differences)."
            )
    return "\n".join([
        "# The real-time loop", "", record.footnote(), "",
        f"8-64-64-4 in int8 behind a guard with an envelope, {HZ:,} Hz, deadline half a period, the other core busy, "
        "no real-time priority. An empty loop sleeps and does nothing: on the same core at the same time, in C its "
        "periods a quarter of a period later or earlier by turns, in Python in another process. "
        "A miss is a period whose action was not delivered at its deadline (of the empty loop: that woke after it). "
        "Times in µs: medians over the seconds of their p50 and p99.9; the worst of all.", "",
        *summary, "",
        header("round", "decisions", "missed", "missed by the empty loop", "decision p50 / p99.9 / worst",
               "jitter p50 / p99.9", "of the empty loop"),
        *record.rows(names, row, 7), *owed(missed(record)), "",
    ])  # fmt: skip


def missed(record: Record) -> list[str]:
    """More misses than those of the empty loop, beyond the interval."""
    found = []
    for engine in ENGINES:
        cells = _measured(record, engine)
        mean, half = difference(cells) if cells else (0.0, 0.0)
        if mean - half > 0:
            found.append(f"{engine}: {mean:.0f} ± {half:.0f} misses per million more than the empty loop")
    return found


CASE = Case(
    "loop",
    cells=lambda _: [
        Cell(f"{engine}, round {index + 1}", partial(measure, engine), 1.2 * slices)
        for index in range(ROUNDS)
        for engine, slices in ENGINES.items()
    ],
    table=table,
    missed=missed,
)
"""The loop at a fixed rate beside an empty one: misses, decision times, jitter."""
