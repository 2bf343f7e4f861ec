"""The harness: cells are measured once, stay, and are shown as missing or failed until then."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from benchmarks.case import Case, Cell, CellError, Context
from benchmarks.cases import CASES, load
from benchmarks.record import MISSING, Record, stamp
from benchmarks.run import RESULTS, Clock, Options, main, run
from benchmarks.tables import README, header, time_text


def _row(name: str, cell: dict[str, Any]) -> str:
    return f"| {name} | {cell['value']} | x |"


def _table(record: Record, names: Sequence[str]) -> str:
    return "\n".join(record.rows(names, _row, 3))


def counting(measured: list[str], failing: Sequence[str] = ()) -> Case:
    """A case with two kinds of cells for each seed, which notes what it measures."""

    def measure(name: str, context: Context) -> dict[str, Any]:
        measured.append(name)
        if name in failing:
            raise CellError("no such peer")
        (context.scratch / "file").write_text("x")
        return {"value": len(context.known)}

    def cells(seeds: Sequence[int]) -> list[Cell]:
        names = [f"{kind} seed{seed}" for seed in seeds for kind in ("a", "b")]
        return [Cell(name, partial(measure, name)) for name in names]

    return Case("counting", cells, _table, seeds=(0,))


def test_a_finished_cell_stays_and_fresh_measures_it_again(tmp_path: Path) -> None:
    measured: list[str] = []
    assert run(counting(measured), Options(tmp_path, only=["a"])) == []
    assert (tmp_path / "counting.md").read_text() == f"| a seed0 | 0 | x |\n| b seed0 | {MISSING} | |"
    run(counting(measured), Options(tmp_path))
    assert measured == ["a seed0", "b seed0"]
    assert (tmp_path / "counting.md").read_text() == "| a seed0 | 0 | x |\n| b seed0 | 1 | x |"
    run(counting(measured), Options(tmp_path, only=["b"], fresh=True))
    assert measured == ["a seed0", "b seed0", "b seed0"]


def test_other_seeds_add_rows(tmp_path: Path) -> None:
    measured: list[str] = []
    run(counting(measured), Options(tmp_path))
    run(counting(measured), Options(tmp_path, seeds=[7]))
    assert measured == ["a seed0", "b seed0", "a seed7", "b seed7"]
    assert (tmp_path / "counting.md").read_text().count("seed7") == 2


def test_a_stop_loses_only_the_cell_that_is_measured(tmp_path: Path) -> None:
    def stop(context: Context) -> dict[str, Any]:
        raise KeyboardInterrupt

    first = Cell("a seed0", lambda _: {"value": 3})
    with pytest.raises(KeyboardInterrupt):
        run(Case("counting", lambda _: [first, Cell("b seed0", stop)], _table), Options(tmp_path))
    measured: list[str] = []
    run(counting(measured), Options(tmp_path))
    assert measured == ["b seed0"]


def test_a_value_cannot_be_mistaken_for_a_failure(tmp_path: Path) -> None:
    cell = Cell("a seed0", lambda _: {"mean": 3.0, "error": 0.1})
    with pytest.raises(TypeError, match="a seed0: a value named 'error'"):
        run(Case("counting", lambda _: [cell], _table), Options(tmp_path))


def test_a_failure_is_shown_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measured: list[str] = []
    assert run(counting(measured, failing=["a seed0"]), Options(tmp_path)) == ["a seed0: no such peer"]
    assert "failed: no such peer" in capsys.readouterr().err
    assert (tmp_path / "counting.md").read_text().startswith("| a seed0 | failed: no such peer | |\n| b seed0 | 1")
    assert run(counting(measured), Options(tmp_path)) == []
    assert measured == ["a seed0", "b seed0", "a seed0"]


def test_every_cell_is_stamped(tmp_path: Path) -> None:
    run(counting([]), Options(tmp_path))
    cells = json.loads((tmp_path / "counting.json").read_text())["cells"]
    for cell in cells.values():
        assert cell["stamp"].keys() == {"processor", "cores", "load", "versions", "command", "commit"}
        assert cell["stamp"]["cores"] >= 1
        assert {"nimbleq", "python", "numpy"} <= cell["stamp"]["versions"].keys()
    assert stamp()["processor"] in Record(tmp_path / "counting.json").footnote()


OPEN = {"policy_value", "guard", "family_step", "kernels"}
"""Cases with a floor that is not met yet; their tables say which."""


@pytest.mark.parametrize("name", CASES)
def test_the_committed_table_is_the_one_of_the_committed_cells(name: str) -> None:
    case, record = load(name), Record(RESULTS / f"{name}.json")
    assert case.name == name
    assert case.table(record, case.names(record)) == (RESULTS / f"{name}.md").read_text()
    assert all("stamp" in cell for cell in record.cells.values())
    assert "histogram" not in (RESULTS / f"{name}.json").read_text()
    missed = case.missed(record)
    assert all(line in (RESULTS / f"{name}.md").read_text() for line in missed)
    assert bool(missed) == (name in OPEN)
    if case.readme:
        assert case.readme(record).strip() in README.read_text()


@pytest.mark.parametrize("name", CASES)
def test_cells_have_names_of_their_own_and_a_table_without_any_shows_all_as_missing(name: str, tmp_path: Path) -> None:
    case = load(name)
    names = [cell.name for cell in case.cells(case.seeds)]
    assert len(set(names)) == len(names)
    empty = Record(tmp_path / "none.json")
    text = case.table(empty, case.names(empty))
    assert MISSING in text
    assert all(each in text for each in names)


def test_the_committed_cells_are_planned_ones() -> None:
    for name in CASES:
        case, record = load(name), Record(RESULTS / f"{name}.json")
        assert record.cells.keys() <= {cell.name for cell in case.cells(case.seeds)}, name


def test_the_command_lists_runs_and_refuses(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = ["certificate_error", "--results", str(tmp_path), "--only", "test: normal, sd 20"]
    assert main([*words, "--list"]) == 0
    assert "0 of   1 cells" in capsys.readouterr().out
    assert main([*words, "--quick"]) == 0
    assert "| normal, sd 20 | 0 | 1,030 | 5.0% |" in capsys.readouterr().out
    assert main([*words, "--list"]) == 0
    assert "1 of   1 cells" in capsys.readouterr().out
    for wrong in (["nothing"], ["decide", "--only", "no such cell"]):
        with pytest.raises(SystemExit) as raised:
            main([*wrong, "--results", str(tmp_path)])
        assert raised.value.code == 2


def test_time_left_learns_from_what_cells_took() -> None:
    clock = Clock()
    rest = [Cell("sb3 1", lambda _: {}, expected=60.0), Cell("sb3 2", lambda _: {}, expected=30.0)]
    assert clock.left(rest) == 90.0
    clock.note(expected=60.0, took=120.0)
    assert clock.left(rest) == 180.0
    assert (time_text(245.4), time_text(3_723)) == ("4:05", "1:02:03")
    assert header("a", "b") == "| a | b |\n|---|---|"


def test_after_so_many_seconds_no_cell_is_begun(tmp_path: Path) -> None:
    measured: list[str] = []
    assert run(counting(measured), Options(tmp_path, within=-1.0)) == []
    assert measured == []
    assert (tmp_path / "counting.md").read_text().count(MISSING) == 2
