"""The plot of the frontier: marks, their labels, the lines of the margin and of random play."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from math import log10
from typing import NamedTuple

from nimbleq.report import units
from nimbleq.report.frontier import LOOKS, Candidate, Frontier, pareto
from nimbleq.report.markup import Markup, join
from nimbleq.report.svg import (
    Box,
    Frame,
    Point,
    Scale,
    axes,
    legend,
    line,
    marker,
    overlap,
    padded,
    padded_log,
    place_labels,
    polyline,
    rect,
    svg,
    text,
    tipped,
)


def draw_frontier(frontier: Frontier, width: float) -> Markup:
    """All candidates over the whole range of returns."""
    returns = [c.returns for c in frontier.candidates]
    returns += [v for v in (frontier.random_return, frontier.margin_return) if v is not None]
    label = "Frontier: return against size of every candidate"
    return _panel(frontier, padded(returns, 0.08), width, label, keyed=True)


def draw_close_up(frontier: Frontier, width: float) -> Markup | None:
    """The neighbourhood of the margin, or None if the whole plot shows it well enough or nothing is there."""
    teacher = next((c for c in frontier.candidates if c.status == "teacher"), None)
    if teacher is None or frontier.margin_return is None:
        return None
    delta = abs(teacher.returns - frontier.margin_return)
    returns = [c.returns for c in frontier.candidates] + [v for v in (frontier.random_return,) if v is not None]
    if delta <= 0 or delta > 0.12 * (max(returns) - min(returns)):
        return None
    near = tuple(c for c in frontier.candidates if abs(c.returns - teacher.returns) <= 4 * delta)
    if len(near) < 3:
        return None
    domain = padded([*(c.returns for c in near), frontier.margin_return - delta, teacher.returns + delta], 0.1)
    return _panel(
        replace(frontier, candidates=near), domain, width, "Close-up of the frontier at the margin", keyed=False
    )


def _panel(frontier: Frontier, domain: Point, width: float, label: str, *, keyed: bool) -> Markup:
    entries = [
        (marker(LOOKS[s][0], 0, 0, 5.5, s), LOOKS[s][1])
        for s in LOOKS
        if any(c.status == s for c in frontier.candidates)
    ]
    sized = _radii(frontier.candidates)
    drawn_key, key_height = legend(entries, 14, 10, width - 14) if keyed else (Markup(""), 0.0)
    frame = Frame(width, (360 if keyed else 280) + key_height, top=key_height + 30)
    x = Scale(*padded_log((c.size_bytes for c in frontier.candidates), 0.08), *frame.x, log=True)
    y = Scale(*domain, *frame.y)
    parts = [
        axes(frame, x, y, x_label="size of the model (logarithmic)", y_label="return",
             x_format=units.size, y_format=units.trimmed),
        drawn_key,
        _levels(frontier, x, y, frame, shaded=not keyed),
    ]  # fmt: skip
    tried = [c for c in frontier.candidates if c.status in ("failed", "passed", "refused", "chosen")]
    steps = _stairs([(x(c.size_bytes), y(c.returns)) for c in pareto(tried)])
    if len(steps) > 1:
        parts.append(polyline(steps, "line pareto"))
    for candidate in frontier.candidates:
        parts.append(_mark(candidate, x, y, sized.get(candidate.latency_us, 5.5)))
    notable = [c for s in ("chosen", "teacher", "linear", "scratch") for c in frontier.candidates if c.status == s][:8]
    words = [(x(c.size_bytes), y(c.returns), _words(c)) for c in notable]
    places = place_labels(words, frame, _obstacles(frontier, steps, x, y, frame))
    for (_, _, said), (at_x, at_y, anchor), candidate in zip(words, places, notable, strict=True):
        parts.append(
            text(at_x, at_y, said, anchor=anchor, class_="label strong" if candidate.status == "chosen" else "label")
        )
    return svg(frame.width, frame.height, label, *parts)


def _obstacles(frontier: Frontier, steps: Sequence[Point], x: Scale, y: Scale, frame: Frame) -> list[Box]:
    """Where labels should not lie: on marks and intervals, the stairs, and the lines and captions of `_levels`."""
    marks = [(x(c.size_bytes), y(c.returns)) for c in frontier.candidates]
    boxes = [(a - 6, b - 6, a + 6, b + 6) for a, b in marks]
    ends = [(x(c.size_bytes), *(y.clamped(v) for v in sorted(c.ci))) for c in frontier.candidates if c.ci]
    boxes += [(at - 1, top, at + 1, bottom) for at, bottom, top in ends]
    boxes += [(min(a, c) - 1, min(b, d) - 1, max(a, c) + 1, max(b, d) + 1) for (a, b), (c, d) in pairwise(steps)]
    levels = [y(v) for v in (frontier.margin_return, frontier.random_return) if v is not None and y.low <= v <= y.high]
    boxes += [(frame.x[0], level - 1, frame.x[1], level + 1) for level in levels]
    return boxes + [caption.box for caption in _captions(frontier, x, y, frame)]


def _words(candidate: Candidate) -> str:
    name = {"linear": "linear", "scratch": "from scratch"}.get(candidate.status, candidate.status)
    return f"{name} {units.size(candidate.size_bytes)}"


def _mark(candidate: Candidate, x: Scale, y: Scale, radius: float) -> Markup:
    at = x(candidate.size_bytes)
    whisker = ""
    if candidate.ci:
        low, high = sorted(candidate.ci)
        whisker = line((at, y.clamped(low)), (at, y.clamped(high)), f"whisker {candidate.status}")
    mark = marker(LOOKS[candidate.status][0], at, y(candidate.returns), radius, candidate.status)
    return tipped(join(whisker, mark), candidate.tip())


def _levels(frontier: Frontier, x: Scale, y: Scale, frame: Frame, *, shaded: bool) -> Markup:
    left, right = frame.x
    parts = []
    for value, class_ in ((frontier.margin_return, "margin"), (frontier.random_return, "random")):
        if value is not None and y.low <= value <= y.high:
            if shaded and class_ == "margin":
                parts.append(rect(left, y(value), right - left, frame.y[0] - y(value), "below"))
            parts.append(line((left, y(value)), (right, y(value)), class_))
    for caption in _captions(frontier, x, y, frame):
        parts.append(text(caption.x, caption.y, caption.words, anchor=caption.anchor, class_="label muted"))
    return join(*parts)


class _Caption(NamedTuple):
    """Words at a horizontal line; ``y`` is their baseline, ``box`` the room that they take."""

    x: float
    y: float
    anchor: str
    words: str
    box: Box


def _captions(frontier: Frontier, x: Scale, y: Scale, frame: Frame) -> list[_Caption]:
    """Captions of the two lines, at the end where the fewest marks are in the way."""
    taken = [
        (x(c.size_bytes) - 8, y(c.returns) - 8, x(c.size_bytes) + 8, y(c.returns) + 8) for c in frontier.candidates
    ]
    placed = []
    for value, words, at_first in (
        (frontier.margin_return, "teacher − margin", ("end", 15)),
        (frontier.random_return, "random play", ("start", -5)),
    ):
        if value is None or not y.low <= value <= y.high:
            continue
        said = f"{words} {units.value(value)}"
        places = [(anchor, dy) for anchor in ("start", "end") for dy in (-5, 15) if y(value) + dy < frame.y[0]]
        options = [_caption(said, anchor, y(value) + dy, frame) for anchor, dy in (at_first, *places)]
        placed.append(min(options, key=lambda option: sum(overlap(option.box, other) for other in taken)))
        taken.append(placed[-1].box)
    return placed


def _caption(words: str, anchor: str, baseline: float, frame: Frame) -> _Caption:
    width = len(words) * 6.9
    left = frame.x[0] + 6 if anchor == "start" else frame.x[1] - 4 - width
    at = left if anchor == "start" else left + width
    return _Caption(at, baseline, anchor, words, (left, baseline - 11, left + width, baseline + 3))


def _stairs(points: Sequence[Point]) -> list[Point]:
    """Points joined by horizontal then vertical steps: between two sizes the smaller model applies."""
    steps = list(points[:1])
    for before, after in pairwise(points):
        steps += [(after[0], before[1]), after]
    return steps


def _radii(candidates: Sequence[Candidate]) -> dict[float | None, float]:
    """Marker radius by latency, area growing with its logarithm; equal if all latencies are."""
    known = sorted({c.latency_us for c in candidates if c.latency_us is not None and c.latency_us > 0})
    if len(known) < 2:
        return {}
    low, high = log10(known[0]), log10(known[-1])
    return {value: (4.0**2 + (9.0**2 - 4.0**2) * (log10(value) - low) / (high - low)) ** 0.5 for value in known}
