from __future__ import annotations

import json
from math import log

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.cases.certificate_error import DIFFERENCES, MARGIN, crossings
from benchmarks.statistics import Share
from nimbleq.compress.certify import ALPHA, attempt_alpha, lower_bound, noninferior
from nimbleq.compress.certify.forecast import Pilot, episodes_needed, forecasts
from nimbleq.compress.certify.wealth import log_wealth
from nimbleq.errors import ConfigError

RANGE = (-500.0, 530.0)


def naive(teacher, student, random, keep, low, high, alpha):
    """The definition, episode by episode: ``(certified, largest wealth, episodes, breach)``."""
    span, parts, best, t, r = high - low, [0.1, 0.2, 0.7], 1.0, 0.0, 0.0
    certified = None
    for n, (a, b, c) in enumerate(zip(teacher, student, random, strict=True)):
        gain = b - keep * a - (1 - keep) * c
        if gain < -span * (1 + 1e-9):
            return certified is not None, best if certified else 1.0, certified or len(student), n
        parts = [w * (1 + f * gain / span) for w, f in zip(parts, (0.3, 0.6, 0.97), strict=True)]
        best, t, r = max(best, sum(parts)), t + a, r + c
        if certified is None and best >= 1 / alpha and t > r:
            certified = n + 1
    return certified is not None, best, certified or len(student), None


@given(
    st.lists(st.tuples(*[st.floats(-60, 60)] * 3), min_size=1, max_size=60),
    st.floats(0.05, 1.0),
    st.floats(0.01, 0.5),
)
def test_the_verdict_is_the_definition(rows, keep, alpha):
    teacher, student, random = np.array(rows).T
    made = noninferior(teacher, student, random, keep, return_range=(-50, 30), alpha=alpha)
    certified, wealth, episodes, breach = naive(teacher, student, random, keep, -50, 30, alpha)
    assert (made.certified, made.episodes, made.breach) == (certified, episodes, breach)
    assert made.wealth == pytest.approx(wealth, rel=1e-9)


def test_a_constant_gain_compounds():
    """teacher = student = 500, random = 0, keep = 0.99: X = 5 in every episode."""
    n = 400
    made = noninferior(np.full(n, 500.0), np.full(n, 500.0), np.zeros(n), 0.99, return_range=(0, 500))
    grown = [0.1 * (1 + 0.3 * 0.01) ** k + 0.2 * 1.006**k + 0.7 * 1.0097**k for k in range(1, n + 1)]
    assert made.certified
    assert made.wealth == pytest.approx(grown[-1], rel=1e-9)
    assert made.episodes == next(k for k, w in enumerate(grown, 1) if w >= 20)


def test_what_was_certified_stays_certified_however_long_it_is_played():
    rng = np.random.default_rng(0)
    teacher = np.full(3000, 250.0)
    student = np.r_[teacher[:1500] + rng.normal(0, 20, 1500), rng.normal(0, 50, 1500)]
    known = None
    for n in (700, 1500, 1600, 3000):
        made = noninferior(teacher[:n], student[:n], np.full(n, -190.0), 0.99, return_range=RANGE)
        if known is not None:
            assert made.certified
            assert made.episodes == known
        known = made.episodes if made.certified else known
    assert known is not None


def test_a_breach_refuses_and_what_came_before_stands():
    teacher, random = np.full(1000, 250.0), np.full(1000, -190.0)
    early = teacher.copy()
    early[10] = -900.0
    made = noninferior(teacher, early, random, 0.99, return_range=RANGE)
    assert (made.certified, made.breach, made.wealth, made.episodes) == (False, 10, 1.0, 1000)
    late = teacher.copy()
    late[990] = -900.0
    made = noninferior(teacher, late, random, 0.99, return_range=RANGE)
    assert made.certified
    assert made.breach == 990
    assert made.episodes < 990


def test_returns_above_the_range_are_harmless_and_its_ends_are_inside():
    teacher, random = np.full(900, 250.0), np.full(900, -190.0)
    assert noninferior(teacher, teacher + 5000, random, 0.99, return_range=RANGE).certified
    worst = noninferior(np.array([0.3, 0.3]), np.array([0.1, 0.1]), np.array([0.3, 0.3]), 0.9, return_range=(0.1, 0.3))
    assert worst.breach is None, "a loss of exactly R is no breach, also after rounding"


def test_a_teacher_not_above_random_play_is_refused():
    flat = np.full(800, 7.0)
    made = noninferior(flat, flat + 1, flat, 0.9, return_range=(0, 10))
    assert not made.certified
    assert not made.teacher_above_random
    assert made.wealth > 20


def test_keeping_everything_takes_a_proven_improvement():
    teacher, random = np.full(4000, 250.0), np.full(4000, -190.0)
    assert not noninferior(teacher, teacher, random, 1.0, return_range=RANGE).certified
    assert noninferior(teacher, teacher + 4, random, 1.0, return_range=RANGE).certified


def test_long_streams_and_huge_gains_stay_finite():
    n = 1_000_000
    teacher, random = np.full(n, 1.0), np.zeros(n)
    made = noninferior(teacher, np.full(n, 1e200), random, 0.99, return_range=(0, 1))
    assert made.certified
    assert np.isfinite(made.wealth)
    lost = noninferior(teacher, np.zeros(n), random, 0.99, return_range=(0, 1))
    assert not lost.certified
    assert lost.wealth == 1.0
    json.dumps([made.wealth, lost.wealth], allow_nan=False)


def test_no_episode_shows_nothing():
    empty = np.zeros(0)
    assert noninferior(empty, empty, empty, 0.99, return_range=(0, 1)).episodes == 0


@pytest.mark.parametrize(
    ("change", "named"),
    [
        ({"keep": 0.0}, "keep"), ({"keep": 1.1}, "keep"), ({"keep": float("nan")}, "keep"),
        ({"alpha": 0.0}, "alpha"), ({"alpha": 1.0}, "alpha"), ({"alpha": float("nan")}, "alpha"),
        ({"return_range": (1, 1)}, "range"), ({"return_range": (2, 1)}, "range"),
        ({"return_range": (0, float("inf"))}, "range"), ({"return_range": (float("nan"), 1)}, "range"),
        ({"student": np.zeros(4)}, "student"), ({"student": np.zeros((5, 1))}, "student"),
        ({"teacher": np.array([1, 2, np.nan, 4, 5])}, "teacher's return of episode 2"),
        ({"random": np.array([np.inf, 2, 3, 4, 5])}, "random's return of episode 0"),
    ],
)  # fmt: skip
def test_what_cannot_be_judged_is_one_line(change, named):
    asked = {name: np.arange(5.0) for name in ("teacher", "student", "random")}
    asked |= {"keep": 0.9, "return_range": (0, 10)} | change
    with pytest.raises(ConfigError, match=named) as error:
        noninferior(**asked)
    assert "\n" not in str(error.value)


def test_the_shares_of_all_attempts_add_up_to_alpha():
    assert [attempt_alpha(j) for j in (1, 2, 3)] == pytest.approx([0.04, 0.008, 0.0016])
    assert sum(attempt_alpha(j) for j in range(1, 60)) == pytest.approx(ALPHA)


@pytest.mark.parametrize("name", DIFFERENCES)
def test_false_certificates_at_the_boundary(name):
    """1,000 certificates of a student that loses exactly the margin, each looked at after all 4,000 episodes."""
    draw, count = DIFFERENCES[name], 1_000
    (found,) = crossings(draw, -MARGIN, count, 77, ((1030.0, 0.05),))
    hits = int(np.isfinite(found).sum())
    assert Share(hits, count).interval[0] <= 0.05, f"{hits} of {count}"


def test_the_power_that_is_owed():
    """Of the test at 5 %, and of the first attempt, which has less."""
    tests = ((1030.0, ALPHA), (1030.0, attempt_alpha(1)))
    for sd50 in crossings(DIFFERENCES["normal, sd 50"], 0.0, 300, 5, tests):
        assert (sd50 <= 2_000).mean() >= 0.9
    for sd20 in crossings(DIFFERENCES["normal, sd 20"], 0.0, 200, 6, tests):
        assert np.minimum(sd20, 4_000).mean() <= 900


def test_the_simulation_plays_the_public_test():
    rng = np.random.default_rng(3)
    difference = DIFFERENCES["4 % lose 240"](rng, (20, 4_000), 0.0)
    reached = log_wealth(difference + MARGIN, 1030.0) >= log(20)
    for row, shown in zip(difference, reached, strict=True):
        made = noninferior(np.full(4_000, 250.0), 250 + row, np.full(4_000, -190.0), 0.99, return_range=RANGE)
        assert made.certified == shown.any()
        assert made.episodes == (shown.argmax() + 1 if shown.any() else 4_000)


@pytest.mark.parametrize(
    "name", [pytest.param("normal, sd 50", marks=pytest.mark.long), "1 % lose 440", "0.5 % lose 880"]
)
def test_the_lower_bound_covers_the_mean(name):
    """At every length at once: the bound of 600 episodes is above the true mean in at most 5 % of the cases."""
    rng, wrong = np.random.default_rng(11), 0
    for row in DIFFERENCES[name](rng, (200, 600), -3.0):
        wrong += lower_bound(row, 1030.0) > -3.0
    assert Share(int(wrong), 200).interval[0] <= 0.05


def test_the_lower_bound_is_the_bet_at_the_bound():
    rng = np.random.default_rng(2)
    difference, span = rng.normal(1, 30, 800), 400.0
    bound = lower_bound(difference, span, 0.05)
    assert bound < difference.mean()
    assert log_wealth(difference - bound, span + bound).max() == pytest.approx(log(20), abs=1e-6)
    assert lower_bound(difference, span, 0.2) > bound
    assert lower_bound(difference[:100], span) < bound
    assert lower_bound(np.array([-401.0]), span) is None
    assert lower_bound(np.zeros(0), span) == -span
    assert lower_bound(np.full(50, -400.0), span) == pytest.approx(-400.0)


def test_where_the_margin_is_certain_bound_and_verdict_agree():
    """Teacher − random constant: the claim is that the mean difference is at least −δ, which is what the bound says."""
    rng, agree = np.random.default_rng(8), 0
    for _ in range(60):
        difference = rng.normal(-1, 40, 1200)
        made = noninferior(np.full(1200, 250.0), 250 + difference, np.full(1200, -190.0), 0.99, return_range=RANGE)
        agree += made.certified == (lower_bound(difference, 1030.0) > -MARGIN)
    assert agree >= 57


def test_about_how_many_episodes():
    assert episodes_needed(1030, 4.4, 0, 0.05) == 703
    assert episodes_needed(1030, 4.4, 50, 0.05) == 808
    assert episodes_needed(1030, 4.4, 50, 0.04) == 868
    assert episodes_needed(1030, 0, 50, 0.05) is None
    rng = np.random.default_rng(0)
    teacher = rng.normal(250, 60, 200)
    pilot = Pilot(teacher, teacher + rng.normal(0, 20, 200), rng.normal(-190, 90, 200))
    rows = forecasts(pilot, 0.99, 1030, 0.05)
    assert [row["keep"] for row in rows] == [0.99, 0.95, 0.9]
    assert 600 < rows[0]["episodes"] < 800
    assert rows[1]["episodes"] == pytest.approx(rows[0]["episodes"] / 5, rel=0.05)
    assert [row["keep"] for row in forecasts(pilot, 0.9, 1030, 0.05)] == [0.9]
