"""Limits: what exceeds one is neither played nor chosen."""

from __future__ import annotations

import pytest

from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.search.config import CompressConfig, check_config
from nimbleq.compress.search.limits import Limits, Measure
from nimbleq.compress.search.search import compress_policy
from nimbleq.errors import ConfigError
from nimbleq.graph.cost import cost

FAST = DistillConfig(rounds=2, updates=150, last_updates=150, episodes=4, states=500)


def search(balance_teacher, balance, limits, measure=None):
    seen = []
    config = CompressConfig(
        recipe="distill", distill=FAST, select_episodes=40, hidden=((), (4,), (8,)), limits=limits
    )  # fmt: skip
    made = compress_policy(balance_teacher, balance, config, measure=measure, on_candidate=seen.append)
    return made, seen


def test_what_is_too_large_is_not_played(balance, balance_teacher):
    made, seen = search(balance_teacher, balance, Limits(bytes=60))
    assert made.certificate.certified
    assert [candidate.name for candidate in seen] == ["linear-int8", "linear-float32"][: len(seen)]
    assert all(candidate.size_bytes <= 60 for candidate in made.candidates)
    assert {candidate.name for candidate in made.candidates} == {candidate.name for candidate in seen}


def test_a_target_measures_its_own_cost(balance, balance_teacher):
    measured = []

    def flash(graph):
        measured.append(graph)
        return 1000.0 + cost(graph).macs

    made, _ = search(
        balance_teacher, balance, Limits(cost=1010.0), Measure("toy", lambda graph: (flash(graph), "bytes of flash"))
    )
    assert measured
    assert made.best.macs <= 10


def test_nothing_small_enough_is_one_line(balance, balance_teacher):
    with pytest.raises(ConfigError, match=r"^nothing that is asked for is small enough: linear-\S+ has [\d,]+ bytes"):
        search(balance_teacher, balance, Limits(bytes=3))


@pytest.mark.parametrize(
    ("limits", "said"),
    [
        (Limits(bytes=0), "--max-bytes must be positive, not 0"),
        (Limits(macs=-3), "--max-macs must be positive, not -3"),
        (Limits(cost=float("nan")), "--max-cost must be positive, not nan"),
    ],
)
def test_limits_that_nothing_keeps(limits, said):
    with pytest.raises(ConfigError, match=said):
        check_config(CompressConfig(limits=limits))
