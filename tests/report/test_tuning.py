"""The page of a search: what was given up is seen, trials are whole numbers, few trials explain nothing."""

from __future__ import annotations

import re

import pytest

from nimbleq.report.page import package_file
from nimbleq.report.svg import Scale
from nimbleq.report.tuning import Trial, Tuning, render_tuning
from nimbleq.rl.tuning.tune import enough_trials


def searched(count: int) -> Tuning:
    trials = [Trial(k, 10.0 * k, k % 3 != 0, {"learner.lr": f"{k}e-4"}) for k in range(count)]
    return Tuning("CartPole-v1: 30 s a trial", trials, {}, [], enough_trials(12))


@pytest.mark.parametrize("count", [1, 2, 3, 4, 5, 7, 12, 40, 300])
def test_trials_are_counted_in_whole_numbers(count: int) -> None:
    page = render_tuning(searched(count))
    history = page.split('id="history"')[1].split("</section>")[0]
    for plot in history.split("<svg")[1:]:
        below = max(re.findall(r'y="([\d.]+)" text-anchor="middle" class="tick"', plot), key=float)
        ticks = re.findall(rf'y="{below}" text-anchor="middle" class="tick">([^<]+)<', plot)
        assert ticks
        assert all(re.fullmatch(r"\d+", tick) for tick in ticks), ticks


def test_ticks_of_what_is_counted() -> None:
    assert Scale(-0.5, 5.5, 0, 100, whole=True).ticks(3) == [0, 2, 4]
    assert Scale(-0.5, 0.5, 0, 100, whole=True).ticks(6) == [0]
    assert Scale(-0.5, 22.5, 0, 100, whole=True).ticks(9) == [0, 5, 10, 15, 20]


def test_what_was_given_up_is_drawn_in_a_colour_that_lines_have() -> None:
    page = render_tuning(searched(7))
    crosses = re.findall(r'<g class="cross"><line [^>]*class="([^"]+)"', page)
    assert crosses
    for class_ in set(crosses):
        assert re.search(rf"line\.{class_} {{ stroke: var", package_file("plot.css"))


def test_few_trials_explain_nothing() -> None:
    assert enough_trials(12) == 36
    assert enough_trials(1) == 10
    assert "Too few trials have ended to say which settings matter: this many settings need 36." in render_tuning(
        searched(4)
    )
