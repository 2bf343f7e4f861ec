"""The smallest linear policy that is certified, over several seeds of its teacher.

A cell trains a teacher in a process of its own and compresses it with ``--recipe last-bytes``. No teacher is left out.
Floors (99 % of the return): LunarLander in 40 bytes and 40 multiply-accumulates, of teachers that return 240 and of
others that return 270 on fresh episodes; CartPole in 12 bytes.
"""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.process import nimbleq
from benchmarks.record import Record
from benchmarks.tables import header, owed

SEEDS = (0, 1, 2, 3, 4)
HEADER = header(
    "teacher", "seed", "its return", "policy's return", "policy's gain", "worst tenth: teacher's", "policy's", "bytes",
    "MACs", "gain, 95 % at least", "episodes", "", "training", "compressing",
)  # fmt: skip


@dataclass(frozen=True)
class Teacher:
    """A row of `TEACHERS`.

    Attributes:
        words: how it is trained.
        returns: at least, on fresh episodes.
        most_bytes, most_macs: the floor.
    """

    words: tuple[str, ...]
    returns: float
    most_bytes: int
    most_macs: int


_CARTPOLE, _LUNAR = ("--env", "CartPole-v1", "--preset"), ("--env", "LunarLander-v3", "--preset")
TEACHERS = {
    "CartPole-v1": Teacher((*_CARTPOLE, "wide"), 475, 12, 12),
    "LunarLander-v3, 240": Teacher((*_LUNAR, "wide"), 240, 40, 40),
    "LunarLander-v3, 270": Teacher((*_LUNAR, "strong"), 270, 40, 40),
}
"""Name → what is trained, and what is owed."""
SEARCH = shlex.split(
    "--recipe last-bytes --no-scratch --max-episodes 10000 --direct.generations 80 --direct.patience 25"
)
"""Longer than usual, and up to as many episodes as a policy needs that returns what its teacher does."""


def measure(name: str, seed: int, context: Context) -> dict[str, Any]:
    """Train, then compress; exit status 1: nothing was certified."""
    out = str(context.scratch / f"seed{seed}")
    train = nimbleq("train", *TEACHERS[name].words, "--seed", str(seed), "--out", out,
                    *(("--steps", "1000") if context.quick else ()))  # fmt: skip
    small = nimbleq("compress", out, *SEARCH, accepted=(0, 1))
    certificate = nimbleq("certify", f"{out}/artefacts/small", "--max-episodes", "2", accepted=(0, 1))
    kept = (
        "teacher_return_mean", "student_return_mean", "teacher_worst_decile", "student_worst_decile",
        "difference_lower95", "certified", "episodes",
    )  # fmt: skip
    return {
        "teacher": name, "seed": seed, "size_bytes": small["size_bytes"], "macs": small["macs"],
        "trained_return": train["return_mean"],
        **{key: certificate[key] for key in kept if key in certificate},
        "train_seconds": train["process_seconds"], "compress_seconds": small["process_seconds"],
    }  # fmt: skip


def row(_: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    cells = [
        cell["teacher"], cell["seed"], f"{cell['teacher_return_mean']:.1f}", f"{cell['student_return_mean']:.1f}",
        f"{cell['student_return_mean'] - cell['teacher_return_mean']:+.1f}",
        *(f"{cell[key]:.0f}" if key in cell else "–" for key in ("teacher_worst_decile", "student_worst_decile")),
        cell["size_bytes"], cell["macs"],
        "–" if cell["difference_lower95"] is None else f"{cell['difference_lower95']:+.1f}",
        cell["episodes"], "certified" if cell["certified"] else "REFUSED",
        f"{cell['train_seconds']:.0f} s", f"{cell['compress_seconds']:.0f} s",
    ]  # fmt: skip
    return "| " + " | ".join(map(str, cells)) + " |"


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown."""
    return "\n".join([HEADER, *record.rows(names, row, 14), *owed(missed(record)), "", record.footnote(), ""])


def cells(seeds: Sequence[int]) -> list[Cell]:
    """One teacher after the other."""
    return [Cell(f"{name} seed{seed}", partial(measure, name, seed), 200) for name in TEACHERS for seed in seeds]


def missed(record: Record) -> list[str]:
    """Cells that are above their floor."""
    lines = []
    for name, cell in record.cells.items():
        floor = TEACHERS.get(cell.get("teacher", ""))
        if floor is None:
            continue
        if not cell["certified"] or cell["size_bytes"] > floor.most_bytes or cell["macs"] > floor.most_macs:
            what = "certified" if cell["certified"] else "not certified"
            lines.append(f"{name}: {cell['size_bytes']} bytes, {cell['macs']} multiply-accumulates, {what}")
        trained = cell.get("trained_return", cell["teacher_return_mean"])
        if trained < floor.returns:
            lines.append(f"{name}: its teacher returns {trained:.1f}, not {floor.returns:g}")
    return lines


CASE = Case("last_bytes", cells, table, SEEDS, missed=missed)
