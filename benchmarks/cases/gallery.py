"""The policies of the zoo: what each does, weighs and takes, with a picture; writes ``docs/gallery.md``.

A policy whose environment is not installed is timed all the same; its picture is the one that was drawn before, or what
its certificate saw.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from posixpath import normpath
from typing import Any

from benchmarks.case import Case, Cell, Context
from benchmarks.cases.gallery_pictures import picture_of
from benchmarks.process import inline
from benchmarks.record import ROOT, Record
from benchmarks.tables import header, into_page, number
from nimbleq.console import size_text
from nimbleq.figures import shown
from nimbleq.files import write_bytes
from nimbleq.verbs.zoo import ZOO, entries

BOARD = "cortex-m4"
PAGE = ROOT / "docs" / "gallery.md"
HEADER = header(
    "policy", "picture", "return, teacher's", "size, teacher's", "decision in C", "Cortex-M4: flash, instructions",
    "certificate",
)  # fmt: skip


def measure(name: str, context: Context) -> dict[str, Any]:
    """One policy; the zoo itself is not touched."""
    run = context.scratch / name
    facts = inline("zoo", name, "--out", run)
    small = run / "artefacts" / "small"
    timed = inline("bench", small, "--rounds", 1 if context.quick else 5, "--flash", BOARD)
    p50 = {(row["engine"], row["what"]): row["p50_us"] for row in timed["rows"]}
    boards = {row["target"]: row for row in timed["flash"]}
    file, data = picture_of(run)
    if data is not None:
        write_bytes(context.results / "gallery" / file, data)
    return {
        **{key: value for key, value in facts.items() if key != "run"},
        "c_us": p50.get(("nimbleq-c", "artefact")), "python_us": p50.get(("nimbleq-python", "artefact")),
        "board": boards.get(BOARD), "picture": file,
    }  # fmt: skip


def cells(seeds: Sequence[int]) -> list[Cell]:
    """A cell a policy."""
    return [Cell(name, partial(measure, name), 20) for name in entries(ZOO)]


def row(name: str, cell: dict[str, Any]) -> str:
    """A line of the table."""
    place = normpath(f"../benchmarks/results/gallery/{cell['picture']}")
    picture = f"![{cell['env']}]({place})"
    small, teacher = cell["return_mean"], cell["teacher_return_mean"]
    returns = f"{shown(small, teacher)}, {shown(teacher, small)}"
    size = f"{size_text(cell['size_bytes'])}, {size_text(cell['teacher_size_bytes'])}"
    time = "" if cell["c_us"] is None else f"{number(1e3 * cell['c_us'])} ns"
    board = cell["board"]
    flash = "" if board is None else f"{board['text_bytes'] + board['data_bytes']:,} B, {board['instructions']:,}"
    how = "exactly" if cell["exact"] else f"{cell['episodes']:,} episodes"
    claim = f"keeps {100 * cell['keep']:.4g} %: {how}"
    return f"| `{name}`, {cell['env']} | {picture} | {returns} | {size} | {time} | {flash} | {claim} |"


def short(record: Record, names: Sequence[str] | None = None) -> str:
    """The table alone."""
    return "\n".join([HEADER, *record.rows(names or CASE.names(record), row, 7)])


def table(record: Record, names: Sequence[str]) -> str:
    """Markdown, beside the pictures."""
    beside = short(record, names).replace("](../benchmarks/results/", "](")
    return f"{beside}\n\n{record.footnote()}\n"


def draw(record: Record, results: Path) -> None:
    """The page."""
    if results == ROOT / "benchmarks" / "results":
        into_page(PAGE, "gallery", short(record))


CASE = Case("gallery", cells, table, draw=draw)
