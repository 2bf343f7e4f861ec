"""A measurement in a process of its own: its last line, or one line that says why there is none."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import process
from benchmarks.case import CellError
from benchmarks.process import curve_of, measure, nimbleq


def test_the_last_line_is_the_result() -> None:
    result = measure("-c", "print('words'); print('{\"seconds\": 1}')")
    assert result["seconds"] == 1
    assert 0 < result["process_seconds"] < 60
    assert 0 < result["processor_seconds"] < 60


def test_the_repository_is_where_python_looks_for_modules() -> None:
    assert measure("-c", "import benchmarks.record; print('{}')").keys() == {"process_seconds", "processor_seconds"}


@pytest.mark.parametrize(
    ("code", "why"),
    [
        ("import sys; print('{}'); sys.exit('no such environment')", "exit 1: no such environment"),
        ("import os; os._exit(3)", "exit 3"),
        ("print('table')", "no JSON object"),
        ("print([1])", "no JSON object"),
        ("", "no JSON object"),
    ],
)
def test_a_failure_is_one_line(code: str, why: str) -> None:
    with pytest.raises(CellError, match=why) as raised:
        measure("-c", code)
    assert "\n" not in str(raised.value)


def test_a_stop_is_no_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(KeyboardInterrupt):
        measure("-c", "import os; os._exit(130)")
    monkeypatch.setattr(process, "main", lambda words: 143)
    with pytest.raises(KeyboardInterrupt):
        process.inline("train")


def test_other_exit_statuses_count_when_they_are_accepted() -> None:
    assert measure("-c", "print('{\"a\": 1}'); raise SystemExit(1)", accepted=(0, 1))["a"] == 1


def test_a_verb_says_what_is_wrong() -> None:
    with pytest.raises(CellError, match=r"exit 2: .*NoSuch"):
        nimbleq("train", "--env", "NoSuch-v0")


def test_the_curve_is_of_the_greedy_checks(tmp_path: Path) -> None:
    lines = [{"step": 10, "loss": 1.0, "seconds": 0.1}, {"step": 20, "seconds": 0.5, "check_return": 7.0}]
    path = tmp_path / "metrics.jsonl"
    path.write_text("\n".join(map(json.dumps, lines)))
    assert curve_of(path) == [[20, 0.5, 7.0]]
