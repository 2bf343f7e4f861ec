"""What a benchmark is: named cells to measure, and a table of them. The rows are in `benchmarks.cases`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks.record import Record


class CellError(Exception):
    """A cell cannot be measured; the text says why. The table shows it, and the next run tries again."""


class Context(NamedTuple):
    """What a cell gets to measure with.

    Attributes:
        known: the cells so far, by name.
        scratch: a fresh folder, deleted afterwards.
        results: the folder of tables and pictures.
        quick: as short as can be, to see that it works.
    """

    known: Mapping[str, dict[str, Any]]
    scratch: Path
    results: Path
    quick: bool


@dataclass(frozen=True)
class Cell:
    """One measurement.

    Attributes:
        name: its key in the JSON file.
        measure: measures it; returns JSON values.
        expected: seconds, roughly, for the first guess of the time that is left.
        settings: stands for everything that it is measured with; a result with other settings is measured again.
    """

    name: str
    measure: Callable[[Context], dict[str, Any]]
    expected: float = 10.0
    settings: str = ""


def no_pictures(record: Record, results: Path) -> None:
    """Nothing to draw."""


def nothing_owed(record: Record) -> list[str]:
    """No floor."""
    return []


@dataclass(frozen=True)
class Case:
    """One benchmark.

    Attributes:
        name: of its files ``results/NAME.json`` and ``NAME.md``.
        cells: seeds → cells, in the order in which they are measured.
        table: the cells with these names as Markdown, missing ones, too.
        seeds: those of the committed table.
        draw: writes pictures of the cells into the folder of results.
        readme: the table in the README, between the marks of this name.
        missed: what is owed and not met, a line each.
    """

    name: str
    cells: Callable[[Sequence[int]], list[Cell]]
    table: Callable[[Record, Sequence[str]], str]
    seeds: tuple[int, ...] = (0,)
    draw: Callable[[Record, Path], None] = no_pictures
    readme: Callable[[Record], str] | None = None
    missed: Callable[[Record], list[str]] = nothing_owed

    def names(self, record: Record) -> list[str]:
        """The rows of the table: what is planned, and what else was measured."""
        return list(dict.fromkeys([*(cell.name for cell in self.cells(self.seeds)), *record.cells]))
