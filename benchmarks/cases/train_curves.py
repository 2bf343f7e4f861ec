"""Return against time and against steps as a picture, drawn with the report's own plots."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from nimbleq.files import write_bytes
from nimbleq.report import units
from nimbleq.report.markup import Markup, number, tag
from nimbleq.report.page import package_file
from nimbleq.report.svg import Frame, Point, Scale, axes, legend, line, padded, polyline, rect, svg, text
from nimbleq.types import Array

PANEL, HEIGHT = 420.0, 320.0
_STYLE = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}.paper{fill:#fff}"


def mean_curve(curves: Sequence[Sequence[Point]], points: int = 60) -> list[Point]:
    """Mean over runs of their ``(x, return)``, interpolated, from the latest first x to the earliest last x."""
    start, end = max(curve[0][0] for curve in curves), min(curve[-1][0] for curve in curves)
    at: Array = np.linspace(start, end, points)
    rows = [np.interp(at, *np.array(curve, float).T) for curve in curves]
    return list(zip(at.tolist(), np.mean(rows, axis=0).tolist(), strict=True))


def draw(curves: Sequence[Sequence[Sequence[float]]], title: str) -> Markup:
    """Two panels: return against training seconds, and against environment steps.

    Args:
        curves: of each seed, ``[steps, seconds, mean return]`` of its greedy checks (two or more).
        title: for those who cannot see it.
    """
    by_seconds = [[(point[1], point[2]) for point in curve] for curve in curves]
    by_steps = [[(point[0], point[2]) for point in curve] for curve in curves]
    panels = [
        _panel(by_seconds, "training seconds", units.trimmed),
        tag("g", _panel(by_steps, "environment steps", units.compact), transform=f"translate({number(PANEL)} 0)"),
    ]
    marks = ((line((-7, 0), (7, 0), "line training"), "a seed"), (line((-7, 0), (7, 0), "line check"), "mean of seeds"))
    key, _ = legend(marks, 56, 12, PANEL)
    return svg(2 * PANEL, HEIGHT, title, *panels, key)


def _panel(curves: Sequence[Sequence[Point]], label: str, shown: object) -> Markup:
    frame = Frame(PANEL, HEIGHT, top=52)
    x = Scale(0.0, max(point[0] for curve in curves for point in curve), *frame.x)
    y = Scale(*padded(point[1] for curve in curves for point in curve), *frame.y)
    parts = [axes(frame, x, y, x_label=label, y_label="return", x_format=shown, y_format=units.trimmed)]  # type: ignore[arg-type]
    parts += [polyline([(x(a), y(b)) for a, b in curve], "line training") for curve in curves]
    parts.append(polyline([(x(a), y(b)) for a, b in mean_curve(curves)], "line check"))
    last = mean_curve(curves)[-1]
    parts.append(text(x(last[0]) - 4, y(last[1]) - 8, units.trimmed(last[1]), anchor="end"))
    return tag("g", *parts)


def write_svg(curves: Sequence[Sequence[Sequence[float]]], title: str, path: Path) -> None:
    """A standalone SVG on white paper.

    Raises:
        FileError: ``path`` cannot be written.
    """
    write_bytes(path, standalone(draw(curves, title), 2 * PANEL))


def standalone(drawing: Markup, width: float) -> bytes:
    """A drawing as a file of its own, on white paper."""
    opening, rest = drawing.split(">", 1)
    style = tag("style", Markup(package_file("plot.css").replace(":root", "svg") + _STYLE))
    paper = rect(0, 0, width, 10_000, "paper")
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{paper}{rest}\n'.encode()
