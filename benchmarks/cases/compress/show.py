"""The leaderboard as a table for each teacher, and as a picture: bytes against the share of the return that is kept."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.cases.compress.measure import SCRATCH
from benchmarks.cases.compress.methods import METHODS
from benchmarks.cases.compress.peers import ROWS as PEERS
from benchmarks.cases.compress.plot import Mark, picture
from benchmarks.cases.compress.settings import settings_of
from benchmarks.cases.compress.teachers import TEACHERS
from benchmarks.record import Record
from benchmarks.statistics import mean, median
from benchmarks.tables import header, number
from nimbleq.files import write_bytes

TEACHER = "(teacher)"
_COLUMNS = (
    "method", "seeds", "bytes", "smaller", "MACs", "fewer", "decision in C", "regret", "return, 95 %",
    "kept, 95 %", "certified",
)  # fmt: skip
_NOTE = """A method ends with the smallest policy of its kind that is certified to keep the share that is asked for;
where none was, with the one that came closest. Bytes and MACs are medians over seeds, returns and regret means. *Kept*
is the share of the teacher's return above random play, from the certificate's episodes, which chose nothing; its
interval is that of pairs of episodes, the widest over seeds. *Regret* is what the teacher's values lose by the
student's actions in the states that the student visits. Peers are not certified: they play fresh episodes beside the
teacher; their time is that of a call in their own runtime, and what Torch-Pruning leaves is then taught as ours is.
Each cell plays beside the teacher that its version of nimbleq trained from the same seed and options.
"""


@dataclass(frozen=True)
class Line:
    """A method on a teacher, over the seeds that are measured.

    Attributes:
        method: its name.
        cells: seed → its values.
        wanted: seeds of the whole table.
    """

    method: str
    cells: dict[int, dict[str, Any]]
    wanted: int

    def middle(self, key: str) -> float | None:
        """Median over seeds of what is known."""
        known = [cell[key] for cell in self.cells.values() if cell.get(key) is not None]
        return median(known) if known else None

    def average(self, key: str) -> float | None:
        """Mean over seeds."""
        known = [cell[key] for cell in self.cells.values() if cell.get(key) is not None]
        return mean(known) if known else None

    def widest(self, key: str) -> tuple[float, float] | None:
        """The interval that holds those of all seeds."""
        known = [cell[key] for cell in self.cells.values() if cell.get(key) is not None]
        return (min(low for low, _ in known), max(high for _, high in known)) if known else None

    @property
    def certified(self) -> str:
        """Of how many seeds; a dash where nothing can be."""
        asked = [cell["certified"] for cell in self.cells.values() if "certified" in cell]
        return f"{sum(asked)} of {len(asked)}" if asked else "–"

    @property
    def rank(self) -> tuple[bool, float]:
        """What is certified on every seed first, the smallest first."""
        whole = all(cell.get("certified", False) for cell in self.cells.values())
        return not whole, self.middle("size_bytes") or 0.0


def lines(record: Record, teacher: str, seeds: Sequence[int]) -> list[Line]:
    """The teacher, then what is measured of its methods, by rank."""
    pictures = TEACHERS[teacher].pictures
    names = [TEACHER, *(name for name, row in METHODS.items() if row.suits(pictures)), SCRATCH, *PEERS]
    found = []
    for name in names:
        cell_names = {seed: f"{teacher} {name} seed{seed}" for seed in seeds}
        settings = settings_of(teacher, name)
        cells = {seed: record.cells[cell] for seed, cell in cell_names.items() if record.finished(cell, settings)}
        found.append(Line(name, cells, len(seeds)))
    first, *others = found
    return [first, *sorted((line for line in others if line.cells), key=lambda line: line.rank)]


def _missing(record: Record, teacher: str, names: Sequence[str]) -> str:
    """Cells without figures, by the reason."""
    why: dict[str, list[str]] = {}
    for name in names:
        method = name.removeprefix(f"{teacher} ").rpartition(" seed")[0]
        if name.startswith(f"{teacher} ") and not record.finished(name, settings_of(teacher, method)):
            why.setdefault(record.why(name), []).append(name)
    return "".join(f"\n{len(cells)} {reason}: {', '.join(cells)}.\n" for reason, cells in why.items())


def _row(line: Line, teacher: Line) -> str:
    size, macs, time = (line.middle(key) for key in ("size_bytes", "macs", "latency_us"))
    whole, work = teacher.middle("size_bytes"), teacher.middle("macs")
    share, around = line.average("share_kept"), line.widest("share_kept_ci95")
    returned, between = line.average("return_mean"), line.widest("return_ci95")
    cells = [
        line.method,
        f"{len(line.cells)} of {line.wanted}",
        number(size),
        "–" if not whole or not size else f"×{number(whole / size)}",
        number(macs),
        "–" if not work or macs is None else f"×{number(work / max(macs, 1))}",
        "–" if time is None else f"{number(time)} µs",
        number(line.average("regret")),
        "–"
        if returned is None or between is None
        else f"{number(returned)} ({number(between[0])} to {number(between[1])})",
        "–" if share is None or around is None else f"{share:.1%} ({around[0]:.1%} to {around[1]:.1%})",
        line.certified,
    ]
    return f"| {' | '.join(cells)} |"


def _spent(lines: Sequence[Line]) -> list[str]:
    """What the cells of a teacher cost, of those that say so."""
    spent = [cell["processor_seconds"] for line in lines for cell in line.cells.values() if "processor_seconds" in cell]
    return [f"{len(spent)} cells took {sum(spent) / 60:.0f} minutes of processor.\n"] if spent else []


def _seeds(names: Sequence[str]) -> list[int]:
    return sorted({int(name.rpartition(" seed")[2]) for name in names})


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown: a table for each teacher."""
    parts = [_NOTE]
    for name, row in TEACHERS.items():
        every = lines(record, name, _seeds(names))
        keep = row.compress[row.compress.index("--keep") + 1]
        parts += [f"## {row.title}\n", f"Keep asked: {float(keep):.0%}. `nimbleq train {' '.join(row.train)}`\n"]
        rows = [_row(line, every[0]) for line in every if line.cells]
        parts += _spent(every[1:])
        parts += [*([header(*_COLUMNS), *rows] if rows else []), _missing(record, name, names)]
    return "\n".join([*parts, record.footnote(), ""])


def marks(record: Record, teacher: str, seeds: Sequence[int]) -> list[Mark]:
    """Every measured cell of a teacher."""
    found = []
    for line in lines(record, teacher, seeds):
        for seed, cell in line.cells.items():
            certified = cell.get("certified")
            kind = (
                "teacher" if line.method == TEACHER
                else "peer" if line.method in PEERS
                else "linear" if line.method == "linear"
                else "scratch" if line.method == SCRATCH
                else "certified" if certified
                else "not certified"
            )  # fmt: skip
            share = 1.0 if kind == "teacher" else cell["share_kept"]
            found.append(Mark(line.method, seed, kind, cell["size_bytes"], share, cell["macs"]))
    return found


def draw(record: Record, results: Path) -> None:
    """One picture of all teachers that have cells."""
    seeds = _seeds(list(record.cells)) if record.cells else []
    panels = {row.title: marks(record, name, seeds) for name, row in TEACHERS.items()} if seeds else {}
    shown = {title: found for title, found in panels.items() if len(found) > 1}
    if shown:
        write_bytes(results / "compress.svg", picture(shown).encode())
