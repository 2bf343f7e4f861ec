"""The parts of the report with answers known beforehand."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from nimbleq.report import units
from nimbleq.report.certificate import plain_words
from nimbleq.report.curve import thinned
from nimbleq.report.frontier import Candidate, margin_return, pareto
from nimbleq.report.markup import Markup, escape, join, tag
from nimbleq.report.read import Record
from nimbleq.report.svg import SHAPES, Frame, Scale, marker, padded, padded_log, place_labels

REALS = st.floats(-1e15, 1e15, allow_nan=False).filter(lambda value: value == 0 or abs(value) >= 1e-15)


def plain(words: str) -> str:
    return words.replace(units.NARROW, " ")


@pytest.mark.parametrize(
    ("shown", "expected"),
    [
        (units.size(999), "999 B"),
        (units.size(1234), "1.23 kB"),
        (units.size(275_984), "276 kB"),
        (units.size(6_770_000), "6.77 MB"),
        (units.size(None), "–"),
        (units.latency(0.0463), "46.3 ns"),
        (units.latency(3.4), "3.4 µs"),
        (units.latency(1234.0), "1.23 ms"),
        (units.duration(0.84), "0.84 s"),
        (units.duration(200), "3 min 20 s"),
        (units.duration(7500), "2 h 5 min"),
        (units.times(141.4), "×141"),
        (units.times(48.73), "×48.7"),
        (units.times(2.04), "×2.0"),
        (units.percent(0.99), "99 %"),
        (units.percent(0.0612), "6.12 %"),
        (units.percent(1.0), "100 %"),
        (units.value(-0.83), "−0.83"),
        (units.value(500.0), "500"),
        (units.value(8926.4), "8 926"),
        (units.count(68_608), "68 608"),
        (units.compact(1500), "1.5k"),
        (units.compact(-200), "−200"),
        (units.significant(9.996), "10.0"),
        (units.significant(0.0), "0"),
    ],
)
def test_numbers_read_well(shown: str, expected: str) -> None:
    assert plain(shown) == expected


@given(REALS)
def test_any_number_can_be_shown(value: float) -> None:
    for show in (units.value, units.size, units.latency, units.duration, units.percent, units.count, units.compact):
        assert "e" not in show(value).replace("e-", "").lower() or show is units.duration


@given(st.text())
def test_text_never_becomes_markup(words: str) -> None:
    assert "<" not in escape(words)
    assert '"' not in escape(words)
    assert "<b>" not in tag("p", words, title=words)


def test_markup_is_not_escaped_again() -> None:
    assert join(Markup("<b>"), "<") == "<b>&lt;"
    assert tag("p", "a & b", class_="x", stroke_width=1.0, gone=None) == '<p class="x" stroke-width="1">a &amp; b</p>'


def test_ticks_are_round() -> None:
    assert Scale(0, 10, 0, 100).ticks(5) == [0, 2, 4, 6, 8, 10]
    assert Scale(1, 1000, 0, 100, log=True).ticks(4) == [1, 10, 100, 1000]
    assert Scale(1, 10, 0, 100, log=True).ticks(6) == [1, 2, 5, 10]


@given(st.lists(REALS, min_size=1), st.integers(2, 12))
def test_linear_ticks_lie_inside(values: list[float], wanted: int) -> None:
    low, high = padded(values)
    scale = Scale(low, high, 40, 400)
    span = high - low
    assert all(low - 1e-6 * span <= tick <= high + 1e-6 * span for tick in scale.ticks(wanted))
    assert all(39 < scale(value) < 401 for value in values)


@given(st.lists(st.floats(1e-15, 1e15), min_size=1), st.integers(2, 12))
def test_log_ticks_lie_inside(values: list[float], wanted: int) -> None:
    scale = Scale(*padded_log(values), 40, 400, log=True)
    ticks = scale.ticks(wanted)
    assert ticks
    assert len(ticks) <= wanted + 2
    assert all(39 < scale(tick) < 401 for tick in ticks)


def test_markers_are_drawn_without_nan() -> None:
    assert all("nan" not in marker(shape, 10, 10, 5, "chosen") for shape in SHAPES)


def test_labels_keep_clear_of_each_other() -> None:
    frame = Frame(400, 300)
    points = [(200.0 + 5 * k, 150.0 + 2 * k, "candidate 2 kB") for k in range(5)]
    spans = []
    for x, y, anchor in place_labels(points, frame):
        left = {"start": x, "middle": x - 45, "end": x - 90}[anchor]
        assert all(abs(y - other) >= 12 or left >= end or left + 90 <= start for start, end, other in spans)
        spans.append((left, left + 90, y))


def test_a_long_series_is_averaged_with_its_extremes() -> None:
    found = thinned([(float(k), float(k % 2)) for k in range(10_000)], buckets=100)
    assert len(found.means) == 100
    assert all(y == pytest.approx(0.5) for _, y in found.means)
    assert {y for _, y in found.band} == {0.0, 1.0}


def test_a_short_series_is_drawn_as_it_is() -> None:
    assert thinned([(2.0, 1.0), (1.0, 5.0)]).means == ((1.0, 5.0), (2.0, 1.0))


def test_pareto_keeps_what_no_smaller_one_beats() -> None:
    sizes = [(10, 5.0), (20, 4.0), (30, 9.0), (30, 8.0), (40, 9.0)]
    best = pareto([Candidate("", "passed", size, returns) for size, returns in sizes])
    assert [(c.size_bytes, c.returns) for c in best] == [(10, 5.0), (30, 9.0)]


def test_margin_is_a_share_of_the_way_from_random_to_teacher() -> None:
    record = Record({"teacher_return_mean": 500.0, "random_return_mean": 20.0, "keep": 0.99})
    assert margin_return(record) == pytest.approx(495.2)
    assert margin_return(Record({"keep": 0.99})) is None


def test_a_record_gives_only_what_it_was_asked_for() -> None:
    record = Record(
        {"n": 1, "t": "x", "b": True, "l": [1, 2.5], "bad": [1, "x"], "o": {"n": 2}, "huge": 1e300, "nan": float("nan")}
    )
    assert record.number("n") == 1.0
    assert record.number("t") is None
    assert record.number("b") is None
    assert record.number("huge") is None
    assert record.number("nan") is None
    assert record.text("n") is None
    assert record.flag("n") is None
    assert record.numbers("l") == (1.0, 2.5)
    assert record.numbers("bad") == ()
    assert record.record("o").number("n") == 2.0
    assert not record.record("n")


@pytest.mark.parametrize("guarded", [True, False])
def test_a_certificate_says_whether_the_guard_was_there(guarded: bool) -> None:
    certificate = Record({"certified": True, "keep": 0.99, "margin": 1.0, "wealth": 30.0, "guarded": guarded})
    assert ("behind its guard" in " ".join(plain_words(certificate))) == guarded
