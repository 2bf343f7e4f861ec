"""Labels of the plots do not lie on each other, also on a narrow page."""

from __future__ import annotations

import re
from dataclasses import replace
from itertools import combinations
from pathlib import Path

import pytest

from nimbleq.report.frontier import Candidate, Frontier, frontier_of
from nimbleq.report.frontier_plot import draw_frontier
from nimbleq.report.html import NARROW, WIDE
from nimbleq.report.read import read_run
from nimbleq.report.svg import overlap
from tests.report.example import make_run

BESIDE_RANDOM = Frontier(
    candidates=(
        Candidate("linear-int8", "chosen", 40, 499.0),
        Candidate("linear", "linear", 56, 499.0),
        Candidate("scratch", "scratch", 72, 33.0),
        Candidate("teacher", "teacher", 18_500, 498.0),
    ),
    random_return=23.4,
    margin_return=493.3,
    hidden=0,
)


def boxes(drawing: str) -> list[tuple[str, tuple[float, float, float, float]]]:
    """The labels (not ticks and titles), with about the room that they take."""
    found = []
    for x, y, anchor, words in re.findall(
        r'<text x="([\d.-]+)" y="([\d.-]+)" text-anchor="(\w+)" class="label[^"]*">([^<]+)<', drawing
    ):
        width, right = 6.2 * len(words), float(x)
        left = {"start": right, "middle": right - 3.1 * len(words), "end": right - width}[anchor]
        found.append((words, (left, float(y) - 9, left + width, float(y) + 2)))
    return found


@pytest.mark.parametrize("width", [NARROW, WIDE])
@pytest.mark.parametrize("random", [23.4, 33.0, 480.0])
def test_labels_of_the_frontier(width: float, random: float) -> None:
    labels = boxes(draw_frontier(replace(BESIDE_RANDOM, random_return=random), width))
    assert len(labels) == 6
    for (one, a), (other, b) in combinations(labels, 2):
        assert not overlap(a, b), (one, other)


def test_labels_of_the_example(tmp_path: Path) -> None:
    found = frontier_of(read_run(make_run(tmp_path / "run")))
    assert found is not None
    for (one, a), (other, b) in combinations(boxes(draw_frontier(found, NARROW)), 2):
        assert not overlap(a, b), (one, other)
