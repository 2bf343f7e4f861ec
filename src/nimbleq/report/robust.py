"""How far decisions hold: the share of visited states whose action provably stays, and a plane of the decision map."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import groupby

from nimbleq.report import units
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.read import Record
from nimbleq.report.svg import Frame, Point, Scale, axes, legend, line, marker, polyline, rect, svg, tipped

_LOOKS = 8
"""Colours of actions in ``plot.css``; further actions use them again."""
_MOST_CELLS = 4_096


@dataclass(frozen=True)
class Line:
    """The share proven over the radius.

    Attributes:
        action: None: all states.
        states: how many.
        points: ``(radius, share)``, radii above 0 and increasing.
    """

    action: int | None
    states: int
    points: tuple[Point, ...]


@dataclass(frozen=True)
class Plane:
    """A plane through the decision map, in standard deviations from a visited state.

    Attributes:
        features: of the columns and of the rows.
        reach: half its width and half its height.
        rows: the action of every cell, lowest row first.
    """

    features: tuple[int, int]
    reach: Point
    rows: tuple[tuple[int, ...], ...]


def lines_of(found: Record) -> tuple[Line, ...]:
    """The curves of ``nimbleq robust``, that of all states first; empty if there are too few points."""
    points: dict[int | None, list[Point]] = {}
    states: dict[int | None, int] = {}
    for point in found.records("curve"):
        radius = point.number("radius")
        if radius is None or radius <= 0:
            continue
        for entry in (point, *point.records("by_action")):
            action, share, count = entry.number("action"), entry.number("share_proven"), entry.number("states")
            key = None if action is None else int(action)
            if share is not None and count:
                points.setdefault(key, []).append((radius, min(max(share, 0.0), 1.0)))
                states[key] = int(count)
    ordered = sorted(points, key=lambda key: -1 if key is None else key)
    lines = tuple(Line(key, states[key], tuple(sorted(points[key]))) for key in ordered)
    return lines if lines and lines[0].action is None and len({r for r, _ in lines[0].points}) > 1 else ()


def plane_of(found: Record) -> Plane | None:
    """The plane, or None if there is none or it is damaged."""
    part = found.record("slice")
    features, low, high = (part.numbers(key) for key in ("features", "low", "high"))
    deviation, rows = part.numbers("deviation"), part.fields.get("action")
    if {len(features), len(low), len(high), len(deviation)} != {2} or not isinstance(rows, list) or not rows:
        return None
    if not all(isinstance(row, list) and row and all(type(a) is int and a >= 0 for a in row) for row in rows):
        return None
    width = len(rows[0])
    if any(len(row) != width for row in rows) or width * len(rows) > _MOST_CELLS or min(deviation) <= 0:
        return None
    reach = [(b - a) / 2 / unit for a, b, unit in zip(low, high, deviation, strict=True)]
    if min(reach) <= 0:
        return None
    return Plane((int(features[0]), int(features[1])), (reach[0], reach[1]), tuple(map(tuple, rows)))


def draw_lines(lines: tuple[Line, ...], width: float) -> Markup:
    """Share proven to stay over the half width of the box."""
    key, height = legend([(line((-7, 0), (7, 0), _look(one.action)), _name(one)) for one in lines], 14, 10, width - 14)
    frame = Frame(width, 270 + height, top=height + 30)
    radii = [radius for radius, _ in lines[0].points]
    x, y = Scale(min(radii), max(radii), *frame.x, log=True), Scale(0.0, 1.0, *frame.y)
    parts = [
        axes(frame, x, y, x_label="half width of the box, in standard deviations (logarithmic)",
             y_label="states proven", x_format=units.trimmed, y_format=units.percent),
        key,
    ]  # fmt: skip
    for one in reversed(lines):  # that of all states lies on top
        at = [(x(radius), y(share)) for radius, share in one.points]
        parts.append(polyline(at, _look(one.action)))
        for (radius, share), (a, b) in zip(one.points, at, strict=True):
            tip = f"{_name(one)}\n± {units.trimmed(radius)} standard deviations\n{units.percent(share)} proven to stay"
            parts.append(tipped(marker("circle", a, b, 3.2, _dot(one.action)), tip))
    return svg(
        frame.width, frame.height, "Share of states whose action provably stays, over the size of the box", *parts
    )


def draw_plane(plane: Plane, radius: float, width: float) -> Markup:
    """The actions over two features, with the box of ``radius`` standard deviations around the state."""
    known = sorted({action for row in plane.rows for action in row})
    entries = [(tag("g", rect(-7, -6, 14, 12, _cell(action)), class_="map"), f"action {action}") for action in known]
    key, height = legend(entries, 14, 10, width - 14)
    side = min(width, 460.0)
    frame = Frame(side, side - 20 + height, top=height + 30)
    across, up = plane.reach
    x, y = Scale(-across, across, *frame.x), Scale(-up, up, *frame.y)
    columns, count = len(plane.rows[0]), len(plane.rows)
    wide, tall = (frame.x[1] - frame.x[0]) / columns, (frame.y[0] - frame.y[1]) / count
    cells = []
    for row, content in enumerate(plane.rows):
        start = 0
        for action, run in groupby(content):
            length = len(list(run))
            top = frame.y[0] - (row + 1) * tall
            cells.append(rect(frame.x[0] + start * wide, top, length * wide, tall, _cell(action)))
            start += length
    box = rect(x(-radius), y(radius), x(radius) - x(-radius), y(-radius) - y(radius), "around") if radius > 0 else ""
    parts = [
        tag("g", *cells, class_="map"), key,
        axes(frame, x, y, x_label=f"feature {plane.features[0]}, in standard deviations from the state",
             y_label=f"feature {plane.features[1]}", x_format=units.trimmed, y_format=units.trimmed),
        tipped(join(box, marker("ring", x(0), y(0), 4, "state")), "a visited state and the box around it"),
    ]  # fmt: skip
    return svg(frame.width, frame.height, "The action over two features, the others as in a visited state", *parts)


def words(found: Record) -> list[str]:
    """The result in sentences."""
    states, radius, proven = found.number("states"), found.number("radius"), found.number("share_proven")
    changes, undecided = found.number("share_changes") or 0.0, found.number("share_open") or 0.0
    said = [
        f"For {units.percent(proven)} of {units.count(states)} visited states it is proven that no observation within "
        f"± {units.trimmed(radius or 0.0)} standard deviations of every feature gets another action; for "
        f"{units.percent(changes)} one that does was found."
    ]
    if undecided:
        said.append(f"{units.percent(undecided)} were not decided in the time given.")
    beside = found.record("teacher")
    at, gap = beside.record("difference_at_states").number("median"), beside.number("median_gap")
    around = beside.record("difference_in_boxes").number("median")
    if at is not None and around is not None and gap is not None:
        said.append(
            f"At the median state the student's centred action values are within {units.significant(at)} of the "
            f"teacher's, and within {units.significant(around)} in the whole box; the teacher's median gap between its "
            f"two best actions is {units.significant(gap)}. The gap exceeds twice the difference, so that student and "
            f"teacher provably act alike, at {units.percent(beside.number('share_flip_free'))} of the states."
        )
    return said


def _name(one: Line) -> str:
    return f"all {units.count(one.states)} states" if one.action is None else f"action {one.action}"


def _look(action: int | None) -> str:
    return "line every" if action is None else f"line action{action % _LOOKS}"


def _dot(action: int | None) -> str:
    return "every" if action is None else f"action{action % _LOOKS}"


def _cell(action: int) -> str:
    return f"cell action{action % _LOOKS}"
