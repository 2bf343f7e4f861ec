"""All benchmarks: ``python -m benchmarks.run [CASE …] [--list] [--only TEXT …] [--seeds N …] [--within S]``.

A case is a list of cells. A finished cell stays in ``results/CASE.json`` and is not measured again, unless its settings
have changed or ``--fresh`` is given; so a stopped benchmark goes on where it was, and a large table grows over several
runs. The table ``results/CASE.md`` is written after each cell, and shows those that are missing. A cell that failed is
shown with its error and tried again next time. Cells run one after the other.
"""

from __future__ import annotations

import os

os.environ.setdefault("OMP_NUM_THREADS", "1")  # before anything imports numpy

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from math import inf
from pathlib import Path
from typing import Any

from benchmarks import techniques
from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases import CASES, load
from benchmarks.record import ROOT, Record
from benchmarks.tables import into_readme, time_text
from nimbleq.errors import NimbleqError
from nimbleq.files import write_bytes

RESULTS = ROOT / "benchmarks" / "results"
QUICK = ROOT / "runs" / "bench-quick"


@dataclass
class Clock:
    """Scales what cells were expected to take by what they took."""

    expected: float = 0.0
    took: float = 0.0

    def note(self, expected: float, took: float) -> None:
        """A cell is finished."""
        self.expected += expected
        self.took += took

    def left(self, cells: Sequence[Cell]) -> float:
        """Seconds that ``cells`` will take."""
        scale = self.took / self.expected if self.expected else 1.0
        return scale * sum(cell.expected for cell in cells)


def measured(cell: Cell, record: Record, results: Path, quick: bool) -> dict[str, Any]:
    """The cell's values, or ``{"error": …}``."""
    with tempfile.TemporaryDirectory() as scratch:
        try:
            values = cell.measure(Context(record.cells, Path(scratch), results, quick))
        except ImportError as error:
            return {"error": f"needs an extra of pyproject.toml: {error}"}
        except (CellError, NimbleqError) as error:
            return {"error": " ".join(str(error).split())}
    if "error" in values:
        raise TypeError(f"{cell.name}: a value named 'error' would make the cell a failed one")
    return values


@dataclass(frozen=True)
class Options:
    """What is asked for.

    Attributes:
        results: folder of JSON files and tables.
        seeds: of the cells that have one; none: those of the committed table.
        only: cells whose name contains one of these texts; none: all.
        fresh: measure again what is finished.
        quick: see `Context`.
        tables: measure nothing, write the tables.
        within: seconds after which no further cell is begun.
    """

    results: Path = RESULTS
    seeds: Sequence[int] = ()
    only: Sequence[str] = ()
    fresh: bool = False
    quick: bool = False
    tables: bool = False
    within: float = inf

    def cells(self, case: Case) -> list[Cell]:
        """Those of the case that are asked for."""
        cells = case.cells(self.seeds or case.seeds)
        return [cell for cell in cells if not self.only or any(text in cell.name for text in self.only)]


def run(case: Case, options: Options) -> list[str]:
    """Measure what is missing, and write the table after each cell.

    Returns:
        Cells that failed and floors that are missed, a line each.
    """
    record = Record(options.results / f"{case.name}.json")
    cells = options.cells(case)
    done = [record.finished(cell.name, cell.settings) and not options.fresh for cell in cells]
    todo = [cell for cell, finished in zip(cells, done, strict=True) if not (finished or options.tables)]
    clock, start = Clock(), time.monotonic()
    for number, cell in enumerate(todo):
        if time.monotonic() - start > options.within:
            break
        left = time_text(clock.left(todo[number:]))
        print(f"[{number + 1}/{len(todo)}] {case.name}: {cell.name} … {left} left", file=sys.stderr, flush=True)
        began = time.monotonic()
        work = partial(measured, cell, record, options.results, options.quick)
        values = record.measure(cell.name, work, cell.settings)
        clock.note(cell.expected, time.monotonic() - began)
        if "error" in values:
            print(f"    failed: {values['error']}", file=sys.stderr, flush=True)
        write(case, record, options.results)
    write(case, record, options.results)
    failed = [f"{name}: {cell['error']}" for name, cell in record.cells.items() if "error" in cell]
    return [*failed, *case.missed(record)]


def write(case: Case, record: Record, results: Path) -> None:
    """The table and what else is made of the cells."""
    write_bytes(results / f"{case.name}.md", case.table(record, case.names(record)).encode())
    case.draw(record, results)
    if results == RESULTS:
        if case.readme:
            into_readme(case.name, case.readme(record))
        techniques.write()


def main(words: Sequence[str] | None = None) -> int:
    """Exit status: 0 done; 1 a cell failed or a floor is missed; 2 bad usage."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("cases", nargs="*", metavar="CASE", help="all, when none is named: " + ", ".join(CASES))
    parser.add_argument("--list", action="store_true", help="the cases with how many of their cells are measured")
    parser.add_argument("--only", nargs="+", default=(), metavar="TEXT", help="cells whose name contains it")
    parser.add_argument("--seeds", nargs="+", type=int, default=(), metavar="N", help="of the cells that have one")
    parser.add_argument("--tables", action="store_true", help="measure nothing, write the tables")
    parser.add_argument(
        "--within", type=float, default=inf, metavar="S", help="begin no cell of a case after S seconds"
    )
    parser.add_argument("--fresh", action="store_true", help="measure again what is finished")
    parser.add_argument("--quick", action="store_true", help=f"short, into {QUICK.relative_to(ROOT)}: does it work?")
    parser.add_argument("--results", type=Path, default=None, help="folder of JSON files and tables")
    args = parser.parse_args(words)
    unknown = [name for name in args.cases if name not in CASES]
    if unknown:
        parser.error(f"no case is called {', '.join(unknown)}; there are {', '.join(CASES)}")
    results: Path = args.results or (QUICK if args.quick else RESULTS)
    options = Options(results, args.seeds, args.only, args.fresh, args.quick, args.tables, args.within)
    cases = [load(name) for name in args.cases or CASES]
    if not any(options.cells(case) for case in cases):
        parser.error(f"no cell's name contains {' or '.join(args.only)}")
    if args.list:
        for case in cases:
            record, cells = Record(results / f"{case.name}.json"), options.cells(case)
            done = sum(record.finished(cell.name, cell.settings) for cell in cells)
            print(f"{case.name:18} {done:3} of {len(cells):3} cells   {CASES[case.name]}")
        return 0
    results.mkdir(parents=True, exist_ok=True)
    problems = []
    for case in cases:
        problems += [f"{case.name}: {problem}" for problem in run(case, options)]
        print((results / f"{case.name}.md").read_text(), flush=True)
    for problem in problems:
        print(problem, file=sys.stderr)
    return 1 if problems else 0


if __name__ == "__main__":
    raise SystemExit(main())
