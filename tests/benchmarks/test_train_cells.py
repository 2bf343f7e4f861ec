"""Cells of the training benchmark: run once, kept, run again when their words change, failures told and not kept."""

import json
from pathlib import Path

import pytest

from benchmarks.train_cells import OUT, Cell, Clock, Runner, curve_of, time_text


def cell(code: str, part: str = "cartpole", seed: int = 0) -> Cell:
    return Cell(part, "nimbleq", seed, ("-c", code), expected=1.0)


def counting(path: Path, value: int = 1) -> str:
    """A program that notes that it ran and prints a result after other words."""
    return f"open({str(path)!r}, 'a').write('x'); print('words'); print('{{\"seconds\": {value}}}')"


def test_a_finished_cell_is_not_run_again(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    for _ in range(2):
        runner = Runner(tmp_path / "cells")
        runner.run([cell(counting(ran))], ["cartpole"])
        assert runner.results["cartpole-nimbleq-0"]["seconds"] == 1
    assert ran.read_text() == "x"
    Runner(tmp_path / "cells").run([cell(counting(ran, 2))], ["cartpole"])
    assert ran.read_text() == "xx"  # other words
    Runner(tmp_path / "cells", fresh=True).run([cell(counting(ran, 2))], ["cartpole"])
    assert ran.read_text() == "xxx"


def test_parts_that_are_not_asked_for_are_taken_in_when_finished(tmp_path: Path) -> None:
    ran = tmp_path / "ran"
    cells = [cell(counting(ran), "balance"), cell(counting(ran), "recipe")]
    Runner(tmp_path / "cells").run(cells, ["balance"])
    later = Runner(tmp_path / "cells", fresh=True)
    later.run(cells, ["recipe"])
    assert ran.read_text() == "xx"
    assert later.results.keys() == {"balance-nimbleq-0", "recipe-nimbleq-0"}


def test_a_failure_is_told_and_tried_again(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    broken = cell("import sys; print('{}'); sys.exit('no such environment')")
    runner = Runner(tmp_path)
    called: list[int] = []
    runner.run([broken], ["cartpole"], lambda: called.append(1))
    assert "no such environment" in runner.results["cartpole-nimbleq-0"]["error"]
    assert "FAILED" in capsys.readouterr().err
    assert called == [1]
    assert not (tmp_path / "cartpole-nimbleq-0.json").exists()
    assert "no such environment" in (tmp_path / "cartpole-nimbleq-0.log").read_text()


def test_a_cell_gets_a_folder_of_its_own_and_its_curve_is_kept(tmp_path: Path) -> None:
    lines = [{"step": 10, "loss": 1.0, "seconds": 0.1}, {"step": 20, "seconds": 0.5, "check_return": 7.0}]
    text = "\n".join(map(json.dumps, lines))
    code = f"import pathlib, sys; p = pathlib.Path(sys.argv[1]); p.mkdir(); (p / 'metrics.jsonl').write_text({text!r})"
    runner = Runner(tmp_path)
    runner.run([Cell("breakout", "nimbleq", 0, ("-c", code, OUT))], ["breakout"])
    assert runner.results["breakout-nimbleq-0"]["curve"] == [[20, 0.5, 7.0]]
    assert curve_of("") == []


def test_time_left_learns_from_what_cells_took() -> None:
    clock = Clock()
    rest = [Cell("cartpole", "sb3", 1, (), expected=60.0), Cell("cartpole", "sb3", 2, (), expected=30.0)]
    assert clock.left(rest) == 90.0
    clock.note(expected=60.0, took=120.0)
    assert clock.left(rest) == 180.0
    assert (time_text(245.4), time_text(3_723)) == ("4:05", "1:02:03")
