"""Flown paths as a picture: seen from the side for the figure of eight, from above for the pillar."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import cos, pi, sin
from pathlib import Path
from typing import Any

from benchmarks.cases.train_curves import standalone
from nimbleq.files import write_bytes
from nimbleq.report import units
from nimbleq.report.svg import Frame, Point, Scale, axes, legend, line, marker, padded, polygon, polyline, svg

WIDTH, TOP = 640.0, 64.0
PILLAR_RADIUS = 0.25


def write_plot(task: str, ours: Mapping[str, Any], theirs: Mapping[str, Any], path: Path) -> None:
    """A standalone SVG with the first flight of both.

    Args:
        task: ``FigureOfEight`` or ``BehindThePillar``.
        ours, theirs: ``path_mm`` and ``course`` of a flight.

    Raises:
        FileError: ``path`` cannot be written.
    """
    side = task == "FigureOfEight"
    flown = [seen(each["path_mm"], 2 if side else 1) for each in (ours, theirs)]
    ideal = eight() if side else circle(ours["course"][3], ours["course"][4], PILLAR_RADIUS)
    every = [*ideal, *flown[0], *flown[1]]
    wide, high = padded([x for x, _ in every]), padded([y for _, y in every])
    frame = Frame(WIDTH, 0.0, top=TOP)
    inner = (
        (frame.x[1] - frame.x[0]) * (high[1] - high[0]) / (wide[1] - wide[0])
    )  # a metre is as long in both directions
    frame = Frame(WIDTH, TOP + inner + frame.bottom, top=TOP)
    x, y = Scale(*wide, *frame.x), Scale(*high, *frame.y)

    def placed(points: Sequence[Point]) -> list[Point]:
        return [(x(across), y(up)) for across, up in points]

    parts = [axes(frame, x, y, x_label="x (m)", y_label="z (m)" if side else "y (m)", x_format=units.trimmed)]
    parts.append(polyline(placed(ideal), "line pareto") if side else polygon(placed(ideal), "band"))
    parts += [polyline(placed(flown[1]), "line check"), polyline(placed(flown[0]), "line action1")]
    parts.append(marker("diamond", *placed(flown[0][:1])[0], 5, "teacher"))
    if not side:
        parts.append(marker("diamond", *placed([tuple(ours["course"][:2])])[0], 6, "chosen"))
    entries = [
        (line((-7, 0), (7, 0), "line action1"), "small policy"),
        (line((-7, 0), (7, 0), "line check"), "built-in controller" + ("" if side else ", straight")),
        (marker("diamond", 0, 0, 5, "teacher"), "start"),
    ]
    entries += [(line((-7, 0), (7, 0), "line pareto"), "reference")] if side else []
    entries += [] if side else [(marker("diamond", 0, 0, 5, "chosen"), "place to reach")]
    key, _ = legend(entries, frame.left, 14, WIDTH)
    words = "A figure of eight, seen from the side" if side else "Around a pillar, seen from above"
    write_bytes(path, standalone(svg(WIDTH, frame.height, words, *parts, key), WIDTH))


def seen(path_mm: Sequence[Sequence[int]], up: int) -> list[Point]:
    """The path in metres: x, and the axis ``up``."""
    return [(point[0] / 1000, point[up] / 1000) for point in path_mm]


def eight() -> list[Point]:
    """The curve to follow."""
    return [(sin(angle), 0.5 * sin(2 * angle) + 1) for angle in (2 * pi * part / 200 for part in range(201))]


def circle(x: float, y: float, radius: float) -> list[Point]:
    """Its outline."""
    angles = (2 * pi * part / 48 for part in range(48))
    return [(x + radius * cos(angle), y + radius * sin(angle)) for angle in angles]
