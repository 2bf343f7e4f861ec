"""How far decisions hold: what is drawn, and that damaged results are left out."""

from __future__ import annotations

from itertools import pairwise
from typing import Any

import pytest

from nimbleq.report.read import Record
from nimbleq.report.robust import draw_lines, draw_plane, lines_of, plane_of, words
from tests.report.example import robustness


def test_every_action_has_a_line_of_its_own() -> None:
    lines = lines_of(Record(robustness()))
    assert [one.action for one in lines] == [None, 0, 1, 2, 3]
    assert lines[0].points == ((0.025, 0.9), (0.1, 0.6), (0.4, 0.1))
    drawn = draw_lines(lines, 820)
    assert drawn.count('class="line action3"') == 2  # the curve and its key
    assert "60\u202f% proven to stay" in drawn


def test_the_plane_has_every_cell_once() -> None:
    plane = plane_of(Record(robustness()))
    assert plane is not None
    assert plane.reach == pytest.approx((3, 3))
    drawn = draw_plane(plane, 0.1, 820)
    runs = sum(1 + sum(a != b for a, b in pairwise(row)) for row in plane.rows)
    assert drawn.count('class="cell action') == runs + 3  # and three in the key
    assert 'class="around"' in drawn
    assert 'class="around"' not in draw_plane(plane, 0.0, 360)


def test_the_sentences_say_what_is_open() -> None:
    said = " ".join(words(Record(robustness())))
    assert "For 61\u202f% of 1\u202f000 visited states" in said
    assert "2\u202f% were not decided" in said
    assert "provably act alike, at 80\u202f% of the states" in said


@pytest.mark.parametrize(
    ("key", "value"),
    [("action", [[0, 1], [0]]), ("action", "no"), ("action", [[0.5]]), ("action", []), ("low", [1.0]),
     ("deviation", [0.0, 1.0]), ("action", [[-1]]), ("features", [1.0])],
)  # fmt: skip
def test_a_damaged_plane_is_left_out(key: str, value: Any) -> None:
    found = robustness()
    found["slice"] = {**found["slice"], key: value}
    assert plane_of(Record(found)) is None


def test_a_damaged_curve_is_left_out() -> None:
    for curve in ([], "no", [{"radius": 0.1, "states": 5, "share_proven": 1.0}], [{"radius": -1.0}, {"states": 3}]):
        assert lines_of(Record({"curve": curve})) == ()
