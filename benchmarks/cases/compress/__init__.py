"""The compression leaderboard: teachers × methods × seeds, beside a linear policy, a network from scratch and peers.

A cell is one teacher, one method and one seed. Teachers are trained once and kept in ``runs/bench-compress``. Each
method is one ``nimbleq compress`` that ends in a certificate, at a keep that a few hundred episodes can show.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.compress import measure, peers, show, teachers
from benchmarks.cases.compress.methods import METHODS
from benchmarks.cases.compress.settings import settings_of
from benchmarks.cases.compress.teachers import TEACHERS

SEEDS = (0, 1, 2)


def cells(seeds: Sequence[int]) -> list[Cell]:
    """A seed of every teacher before the next seed."""
    return [cell for seed in seeds for name in TEACHERS for cell in _of(name, seed)]


def _of(name: str, seed: int) -> list[Cell]:
    """The cells of a teacher: itself, the methods that suit it, a network from scratch, the peers."""
    suited = [method for method, row in METHODS.items() if row.suits(TEACHERS[name].pictures)]

    def cell(method: str, work: Callable[[Context], dict[str, Any]], expected: float) -> Cell:
        return Cell(f"{name} {method} seed{seed}", work, expected, settings_of(name, method))

    return [
        cell(show.TEACHER, partial(teachers.measure, name, seed), 120),
        *(cell(one, partial(measure.compressed, name, one, seed), 30) for one in suited),
        cell(measure.SCRATCH, partial(measure.from_scratch, name, seed), 120),
        *(cell(peer, partial(peers.measure, name, peer, seed), 20) for peer in peers.ROWS),
    ]


CASE = Case("compress", cells, show.table, SEEDS, draw=show.draw)
