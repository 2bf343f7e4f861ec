"""What each technique brought: rows of the results, copied into docs/techniques.md whenever a table is written."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from benchmarks.record import ROOT
from benchmarks.tables import header, into_page

PAGE = ROOT / "docs" / "techniques.md"
RESULTS = ROOT / "benchmarks" / "results"
MISSING = "not measured yet"
TEACHER = "(teacher)"
"""A row to compare with; alone it says nothing."""


@dataclass(frozen=True)
class Excerpt:
    """Rows of one table.

    Attributes:
        result: name of the case: the file ``results/RESULT.md``.
        rows: first cells of the rows, in the order in which they are shown; none: all.
        columns: headings of the columns beside the first; none: all.
        section: the heading above the table; empty: the first table of the file.
    """

    result: str
    rows: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    section: str = ""


LANDER = "LunarLander-v3, 8-256-256-4"
BREAKOUT = "MinAtar Breakout, one convolution of 16 channels, 128"
SMALLER = ("bytes", "smaller", "MACs", "decision in C", "kept, 95 %", "certified")
NETWORKS = ("4-64-64-2", "4-64-64-2 int8", "8-256-256-4", "8-256-256-4 int8", "Nature CNN", "Nature CNN int8")


def lander(*methods: str) -> Excerpt:
    """Methods of compression, beside the teacher."""
    return Excerpt("compress", (TEACHER, *methods), SMALLER, LANDER)


EXCERPTS = {
    "dqn": Excerpt(
        "train", ("SB3 DQN", "nimbleq"), ("reached", "median s [95 %]", "fresh return"), "LunarLander-v3 until"
    ),
    "processors": Excerpt("td_step", columns=("native, µs", "torch eager, µs", "eager ÷ ours")),
    "gpu": Excerpt("gpu"),
    "circuits": Excerpt("fpga"),
    "pruning": lander(
        *(f"pruned-{name}" for name in ("magnitude", "variance", "sensitivity", "obd", "obs", "bn-scale", "ablation"))
    ),
    "quantization": lander("teacher int8", "teacher int4", "teacher log2", "teacher apot4", "ONNX Runtime int8"),
    "calibration": lander(*(f"teacher act4 {name}" for name in ("minmax", "percentile", "mse", "kl", "mse-gap"))),
    "qat": lander("int8-qat", "int4-qat", "int2-qat", "ternary-qat"),
    "distillation": lander("distill", "hints", "linear", "tree"),
    "lowrank": lander("lowrank"),
    "compact": Excerpt("compress", (TEACHER, "mobilenet", "shufflenet", "distill"), SMALLER, BREAKOUT),
    "zeros": lander("sparse-unstructured", "obs", "sparse-2:4", "sparse-1:4", "sparse-block4"),
    "transfer": Excerpt("transfer"),
    "policy_value": Excerpt("policy_value"),
    "distributed": Excerpt("distributed"),
    "lowbit": lander("teacher int5", "teacher int3", "teacher int2", "teacher ternary"),
    "width": Excerpt("equal_bytes"),
    "folded": Excerpt("decide", NETWORKS, ("MACs", "nimbleq-c", "onnxruntime", "emx-onnx-cgen")),
    "phones": Excerpt("decide", NETWORKS, ("executorch", "litert", "nimbleq-c")),
    "embedded": Excerpt("realtime", NETWORKS[:4]),
    "server": Excerpt("serve"),
}
"""Name of the marks in the page → what stands between them."""


def first_table(text: str, section: str) -> list[list[str]]:
    """Cells of the first table below the heading that begins with ``section``: the header, then the rows."""
    if section:
        _, found, text = text.partition(f"\n## {section}")
        if not found:
            return []
    rows: list[list[str]] = []
    for line in text.split("\n"):
        if line.startswith("|"):
            rows.append([cell.strip() for cell in line.strip("|").split("|")])
        elif rows or (section and line.startswith("#")):
            break
    return rows[:1] + rows[2:]


def one(rows: Sequence[list[str]], name: str) -> list[str]:
    """The row that begins with ``name``.

    Raises:
        ValueError: there are several.
    """
    found = [row for row in rows if row[0] == name]
    if len(found) > 1:
        raise ValueError(f"{len(found)} rows are called {name!r}")
    return found[0] if found else [name, MISSING]


def place_of(titles: Sequence[str], name: str) -> int:
    """The index of a column.

    Raises:
        ValueError: there is none, or there are several.
    """
    if titles.count(name) != 1:
        raise ValueError(f"{titles.count(name)} columns are called {name!r}")
    return titles.index(name)


def excerpt(wanted: Excerpt, results: Path = RESULTS) -> str:
    """The table, and under it the file from which it is; one line where nothing in it is measured."""
    name = f"{wanted.result}.md"
    path = results / name
    rows = first_table(path.read_text(), wanted.section) if path.exists() else []
    shown = [one(rows[1:], key) for key in wanted.rows] if wanted.rows else rows[1:]
    if not any(row[1] != MISSING for row in shown if row[0] != TEACHER):
        return f"{MISSING}: `python -m benchmarks.run {wanted.result}`"
    titles = rows[0]
    places = [0, *(place_of(titles, column) for column in wanted.columns)] if wanted.columns else range(len(titles))
    lines = [header(*(titles[place] or " " for place in places))]
    for row in shown:
        cells = row + [""] * (len(titles) - len(row))
        values = [MISSING, *[""] * (len(places) - 2)] if row[1] == MISSING else [cells[place] for place in places[1:]]
        lines.append(f"| {' | '.join([row[0], *values])} |")
    return "\n".join([*lines, "", f"From [{name}](../benchmarks/results/{name})."])


def write() -> None:
    """Bring the page up to date."""
    for name, wanted in EXCERPTS.items():
        into_page(PAGE, name, excerpt(wanted))
