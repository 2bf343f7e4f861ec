"""The times of a real-time loop as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import log10
from typing import Any

from nimbleq.report.markup import Markup, join
from nimbleq.report.picture import standalone
from nimbleq.report.svg import Frame, Point, Scale, axes, line, padded_log, polygon, svg, text, tipped
from nimbleq.report.units import latency

ROWS = (
    ("decision", "decision"),
    ("response", "period to action"),
    ("wake", "late waking"),
    ("jitter", "period jitter"),
)
"""Histogram → what it is called."""
_WIDTH, _PITCH, _TALL = 820.0, 74.0, 46.0
_LEAST_US = 0.05


def loop_svg(result: Mapping[str, Any]) -> str:
    """The standalone SVG of the result of ``nimbleq loop``: a histogram of each time, with its percentiles."""
    period_us = 1e6 / float(result["hz"])
    tall = 2 * _TALL + len(ROWS) * _PITCH
    frame = Frame(_WIDTH, tall + 24, left=130, right=24, top=58)
    ends = [max(edge, _LEAST_US) for key, _ in ROWS for edge in result["histograms"][key]["edges_us"]]
    x = Scale(*padded_log([*ends, period_us]), *frame.x, log=True)
    bottom, top = frame.y
    parts = [
        text(
            24,
            24,
            f"{result['hz']:g} Hz: {result['misses']:,} of {result['periods']:,} deadlines missed",
            class_="label",
        ),
        axes(frame, x, None, x_label="duration (logarithmic)", x_format=latency),
        line((x(period_us), bottom), (x(period_us), top - 6), "axis"),
        text(x(period_us), top - 10, f"one period, {latency(period_us)}", anchor="middle", class_="tick"),
    ]
    for index, (key, name) in enumerate(ROWS):
        base = top + (index + 1) * _PITCH - 22
        drawn, times = result["histograms"][key], result["times_us"][key]
        words = " ".join(f"{label} {latency(times[share])}" for label, share in _SHARES)
        parts.append(text(118, base - 12, name, anchor="end", class_="label"))
        parts.append(tipped(_hill(drawn["edges_us"], drawn["counts"], x, base), f"{name}: {words}"))
        parts += [_mark(x, base, times[share], label) for label, share in _SHARES if times[share] > 0]
    label = f"Times of a control loop at {result['hz']:g} Hz"
    return standalone(svg(_WIDTH, frame.height, label, *parts), _WIDTH)


_SHARES = (("p50", "p50"), ("p99.9", "p999"), ("worst", "worst"))
_ANCHORS = {"p50": "middle", "p99.9": "end", "worst": "start"}


def _hill(edges: Sequence[float], counts: Sequence[float], x: Scale, base: float) -> Markup:
    """Bars as high as the logarithm of their counts, so that rare long durations are seen."""
    most = log10(1 + max(counts, default=1.0))
    points: list[Point] = []
    for low, high, count in zip(edges, edges[1:], counts, strict=False):
        height = _TALL * log10(1 + count) / most
        points += [(x(max(low, _LEAST_US)), base - height), (x(max(high, _LEAST_US)), base - height)]
    if not points:
        return Markup("")
    return polygon([(points[0][0], base), *points, (points[-1][0], base)], "ridge ours")


def _mark(x: Scale, base: float, value: float, label: str) -> Markup:
    at = x.clamped(max(value, _LEAST_US))
    return join(
        line((at, base), (at, base + 5), "axis"), text(at, base + 16, label, anchor=_ANCHORS[label], class_="tick")
    )
