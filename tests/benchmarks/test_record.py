"""Measurements: stamped, written at once, measured once, and shown as missing until then."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from benchmarks import decide, family, line
from benchmarks.record import MISSING, Record, stamp

RESULTS = Path(decide.__file__).parent / "results"


def test_a_stamp_says_where_and_how() -> None:
    made = stamp()
    assert made.keys() == {"processor", "cores", "load", "versions", "command", "commit"}
    assert made["cores"] >= 1
    assert {"nimbleq", "python", "numpy"} <= made["versions"].keys()


def test_a_table_grows_over_several_runs(tmp_path: Path) -> None:
    path = tmp_path / "cells.json"

    def row(name: str, cell: dict[str, Any]) -> str:
        return f"| {name} | {cell['value']} | x |"

    first = Record(path)
    assert first.measure("a", lambda: {"value": 1})["value"] == 1
    with pytest.raises(KeyboardInterrupt):
        first.measure("b", lambda: (_ for _ in ()).throw(KeyboardInterrupt))
    second = Record(path)
    assert second.rows(["a", "b"], row, 3) == ["| a | 1 | x |", f"| b | {MISSING} | |"]
    assert second.measure("a", lambda: {"value": 2})["value"] == 1, "measured once"
    second.measure("b", lambda: {"value": 3})
    assert {name: cell["value"] for name, cell in json.loads(path.read_text())["cells"].items()} == {"a": 1, "b": 3}
    assert all(cell["stamp"]["versions"] for cell in Record(path).cells.values())
    assert stamp()["processor"] in second.footnote()
    assert Record(path, fresh=True).measure("a", lambda: {"value": 2})["value"] == 2


def test_the_tables_that_are_shown_are_those_of_the_results() -> None:
    decided, known, lines = (Record(RESULTS / f"{name}.json") for name in ("decide", "family", "line"))
    assert decide.table(decided) == (RESULTS / "decide.md").read_text()
    assert family.table(known, family.tasks([0, 1, 2])) == (RESULTS / "family.md").read_text()
    assert (RESULTS / "line.md").read_text().startswith(line.table(lines, list(lines.cells)))
    assert "histogram" not in (RESULTS / "decide.json").read_text()
