"""VNN-LIB properties: what the formulas mean, and one line for what is not understood."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest

from nimbleq.compress.robust.vnnlib import parse_property, read_property
from nimbleq.errors import FileError

HEAD = """; two inputs, three outputs
(declare-const X_0 Real)
(declare-const X_1 Real)
(declare-const Y_0 Real) (declare-const Y_1 Real) (declare-const Y_2 Real)
"""
BOX = """(assert (<= X_0 0.5)) (assert (>= X_0 -0.5))
(assert (and (<= X_1 2e0) (>= X_1 1)))
"""


def test_a_box_and_one_comparison() -> None:
    (found,) = parse_property(HEAD + BOX + "(assert (<= Y_0 Y_1))", 2, 3)
    assert found.low.tolist() == [-0.5, 1]
    assert found.high.tolist() == [0.5, 2]
    assert found.rows.tolist() == [[1, -1, 0]]
    assert found.bounds.tolist() == [0]


def test_alternatives_of_outputs_and_constants() -> None:
    text = HEAD + BOX + "(assert (or (and (<= Y_0 Y_1) (>= Y_2 3.5)) (<= Y_2 -1)))"
    both, one = parse_property(text, 2, 3)
    assert both.rows.tolist() == [[1, -1, 0], [0, 0, -1]]
    assert both.bounds.tolist() == [0, -3.5]
    assert one.rows.tolist() == [[0, 0, 1]]
    assert one.bounds.tolist() == [-1]


def test_alternatives_of_boxes_are_multiplied_out() -> None:
    text = HEAD + (
        "(assert (or (and (<= X_0 0) (>= X_0 -1)) (and (<= X_0 4) (>= X_0 3))))"
        "(assert (>= X_1 0)) (assert (<= X_1 1)) (assert (or (<= Y_0 Y_1) (<= Y_0 Y_2)))"
    )
    found = parse_property(text, 2, 3)
    assert [(part.low[0], part.high[0], part.rows[0].tolist()) for part in found] == [
        (-1, 0, [1, -1, 0]), (-1, 0, [1, 0, -1]), (3, 4, [1, -1, 0]), (3, 4, [1, 0, -1]),
    ]  # fmt: skip


def test_linear_terms_and_equations() -> None:
    text = HEAD + "(assert (= X_0 1)) (assert (<= (* 2 X_1) 4)) (assert (>= X_1 (- 3)))"
    text += "(assert (<= (+ Y_0 (* -2.0 Y_1) 1) (- Y_2 4)))"
    (found,) = parse_property(text, 2, 3)
    assert found.low.tolist() == [1, -3]
    assert found.high.tolist() == [1, 2]
    assert found.rows.tolist() == [[1, -2, -1]]
    assert found.bounds.tolist() == [-5]


def test_an_empty_box_is_left_out() -> None:
    assert parse_property(HEAD + BOX + "(assert (<= X_0 -1)) (assert (<= Y_0 Y_1))", 2, 3) == ()


@pytest.mark.parametrize(
    ("text", "part"),
    [
        (HEAD + BOX + "(assert (<= Y_0 Y_1)", "truncated"),
        (HEAD + BOX + "(assert (<= Y_0 X_1))", "one by one"),
        (HEAD + BOX + "(assert (<= (+ X_0 X_1) 1))", "one by one"),
        (HEAD + BOX + "(assert (< Y_0 Y_1))", "not understood"),
        (HEAD + BOX + "(assert (=> (<= Y_0 Y_1) (<= Y_0 1)))", "not understood"),
        (HEAD + BOX + "(assert (<= (* Y_0 Y_1) 0))", "not a linear term"),
        (HEAD + BOX + "(assert (<= Y_0 Y_9))", "Y_9"),
        (HEAD + "(assert (<= X_0 1))", "X_0 is not bounded"),
        (HEAD.replace("(declare-const X_1 Real)", ""), "1 inputs and 3 outputs"),
        (HEAD + "(frobnicate)", "unknown command"),
        (HEAD + BOX + "(assert (<= Y_0 nan))", "not a finite number"),
        ("(" * 5000, "too deeply"),
    ],
)
def test_what_is_refused_in_one_line(text: str, part: str, tmp_path: Path) -> None:
    path = tmp_path / "p.vnnlib"
    path.write_text(text)
    with pytest.raises(FileError, match=part) as caught:
        read_property(path, 2, 3)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_zipped_files(tmp_path: Path) -> None:
    path, data = tmp_path / "p.vnnlib.gz", gzip.compress((HEAD + BOX + "(assert (<= Y_0 Y_1))").encode())
    path.write_bytes(data)
    assert np.array_equal(read_property(path, 2, 3)[0].high, [0.5, 2])
    path.write_bytes(data[:-12])
    with pytest.raises(FileError, match="truncated or damaged"):
        read_property(path, 2, 3)
