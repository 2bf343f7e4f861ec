"""The picture of the leaderboard: for each teacher a panel, bytes (logarithmic) against the share of return kept."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

from nimbleq.report import units
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.picture import standalone
from nimbleq.report.svg import Frame, Scale, axes, legend, line, marker, padded_log, place_labels, svg, text, tipped

_WIDTH, _HEIGHT, _LOWEST = 820.0, 330.0, 0.0
_LOOKS = {
    "certified": ("circle", "passed", "certified"),
    "not certified": ("ring", "failed", "not certified"),
    "linear": ("up", "linear", "a linear policy"),
    "scratch": ("down", "scratch", "same size, from scratch"),
    "peer": ("diamond", "refused", "another tool"),
    "teacher": ("square", "teacher", "teacher"),
}
"""Kind → marker, class of its colour, meaning."""


class Mark(NamedTuple):
    """One policy. ``kind`` is a key of `_LOOKS`."""

    method: str
    seed: int
    kind: str
    size_bytes: float
    share: float
    macs: float


def picture(panels: Mapping[str, Sequence[Mark]]) -> str:
    """A standalone SVG.

    Args:
        panels: title → marks.
    """
    used = {mark.kind for marks in panels.values() for mark in marks}
    entries = [(marker(shape, 0, 0, 5.5, look), words) for kind, (shape, look, words) in _LOOKS.items() if kind in used]
    key, height = legend(entries, 14, 12, _WIDTH - 14)
    parts = [key]
    for number, (title, marks) in enumerate(panels.items()):
        parts.append(_panel(title, marks, height + number * _HEIGHT))
    drawing = svg(_WIDTH, height + len(panels) * _HEIGHT, "Bytes against the share of the return kept", *parts)
    return standalone(drawing, _WIDTH)


def _panel(title: str, marks: Sequence[Mark], top: float) -> Markup:
    frame = Frame(_WIDTH, _HEIGHT, top=46)
    x = Scale(*padded_log((mark.size_bytes for mark in marks), 0.06), *frame.x, log=True)
    y = Scale(_LOWEST - 0.03, max(1.1, *(mark.share + 0.05 for mark in marks)), *frame.y)
    drawn = [
        axes(frame, x, y, x_label="bytes (logarithmic)", y_label="kept", x_format=units.size, y_format="{:.0%}".format),
        text(frame.x[0], 20, title, class_="label strong"),
        line((frame.x[0], y(1.0)), (frame.x[1], y(1.0)), "margin"),
    ]
    for mark in sorted(marks, key=lambda mark: list(_LOOKS).index(mark.kind)):
        shape, look, _ = _LOOKS[mark.kind]
        tip = f"{mark.method}, seed {mark.seed}\n{units.size(mark.size_bytes)}, {mark.macs:,.0f} MACs\n{mark.share:.1%}"
        drawn.append(tipped(marker(shape, x(mark.size_bytes), y.clamped(mark.share), 5, look), tip))
    named = _named(marks)
    places = place_labels([(x(m.size_bytes), y.clamped(m.share), m.method) for m in named], frame)
    words = [text(a, b, m.method, anchor=anchor) for (a, b, anchor), m in zip(places, named, strict=True)]
    return tag("g", join(*drawn, *words), transform=f"translate(0 {top})")


def _named(marks: Sequence[Mark]) -> list[Mark]:
    """The smallest that is certified, and the smallest of each other kind."""
    smallest: dict[str, Mark] = {}
    for mark in sorted(marks, key=lambda mark: mark.size_bytes):
        smallest.setdefault(mark.kind, mark)
    return list(smallest.values())
