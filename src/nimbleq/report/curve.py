"""The learning curve: return against environment steps, with the wall-clock along the top."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from statistics import fmean

from nimbleq.report import units
from nimbleq.report.markup import Markup, join
from nimbleq.report.read import Record, RunData
from nimbleq.report.svg import (
    Frame,
    Point,
    Scale,
    axes,
    legend,
    line,
    marker,
    padded,
    polygon,
    polyline,
    svg,
    text,
    tipped,
)

BUCKETS = 240
"""Points drawn of a series; longer ones are averaged, with their extremes as a band."""


@dataclass(frozen=True)
class Thinned:
    """A series in at most `BUCKETS` buckets: means, and the extremes around them (empty when nothing was averaged)."""

    means: tuple[Point, ...]
    band: tuple[Point, ...]


@dataclass(frozen=True)
class Curve:
    """The series of the plot; ``seconds`` are ``(step, wall-clock)``, ``threshold`` the return that ends training."""

    training: Thinned
    checks: Thinned
    seconds: tuple[Point, ...]
    threshold: float | None
    final: Record


def curve_of(data: RunData) -> Curve | None:
    """The curve of a run, or None when fewer than two points of either series were written."""
    training = data.metrics.series("return_mean")
    checks = data.metrics.series("check_return")
    if max(len(training), len(checks)) < 2:
        return None
    threshold = data.config.record("train").record("evaluation").number("stop_return")
    return Curve(
        thinned(training), thinned(checks), thinned(data.metrics.series("seconds")).means, threshold, data.train
    )


def thinned(points: Sequence[Point], buckets: int = BUCKETS) -> Thinned:
    """Average ``(x, y)`` points, ordered by x, in equal buckets of x."""
    ordered = sorted(points)
    if len(ordered) <= buckets:
        return Thinned(tuple(ordered), ())
    low, high = ordered[0][0], ordered[-1][0]
    groups: dict[int, list[Point]] = {}
    for x, y in ordered:
        groups.setdefault(min(int((x - low) / (high - low or 1) * buckets), buckets - 1), []).append((x, y))
    middles = [fmean(x for x, _ in group) for group in groups.values()]
    values = [[y for _, y in group] for group in groups.values()]
    means = tuple((x, fmean(ys)) for x, ys in zip(middles, values, strict=True))
    upper = tuple((x, max(ys)) for x, ys in zip(middles, values, strict=True))
    lower = tuple((x, min(ys)) for x, ys in zip(middles, values, strict=True))
    return Thinned(means, upper + lower[::-1])


def draw_curve(curve: Curve, width: float) -> Markup:
    """The plot, ``width`` pixels wide."""
    every = [*curve.training.means, *curve.training.band, *curve.checks.means]
    final, final_step = curve.final.number("return_mean"), curve.final.number("steps")
    returns = [y for _, y in every] + [v for v in (curve.threshold, final) if v is not None]
    steps = [x for x, _ in every] + [v for v in (final_step,) if v is not None]
    key, key_height = _key(curve, width)
    frame = Frame(width, (290 if width > 500 else 250) + key_height, top=38 + key_height)
    x = Scale(min(0.0, min(steps)), max(max(steps), 1.0), *frame.x)
    y = Scale(*padded(returns), *frame.y)

    def at(points: Sequence[Point]) -> list[Point]:
        return [(x(a), y(b)) for a, b in points]

    parts = [
        axes(frame, x, y, x_label="environment steps", y_label="return", x_format=units.compact, y_format=units.trimmed)
    ]
    parts.append(_clock(curve.seconds, x, frame))
    if curve.threshold is not None:
        level = y(curve.threshold)
        parts.append(line((frame.x[0], level), (frame.x[1], level), "threshold"))
        parts.append(text(frame.x[0] + 6, level - 5, f"aim {units.trimmed(curve.threshold, 4)}", class_="label muted"))
    if curve.training.band:
        parts.append(polygon(at(curve.training.band), "band training"))
    if len(curve.training.means) > 1:
        parts.append(polyline(at(curve.training.means), "line training"))
    if len(curve.checks.means) > 1:
        parts.append(polyline(at(curve.checks.means), "line check"))
    for a, b in curve.checks.means:
        tip = f"greedy check\n{units.count(a)} steps\nreturn {units.value(b)}"
        parts.append(tipped(marker("circle", x(a), y(b), 3.2, "check"), tip))
    if final is not None and final_step is not None:
        parts.append(_final(curve.final, x(final_step), y))
    parts.append(key)
    return svg(frame.width, frame.height, "Learning curve: return against environment steps", *parts)


def _final(train: Record, at: float, y: Scale) -> Markup:
    mean = train.number("return_mean") or 0.0
    bounds = train.numbers("return_ci95")
    whisker = line((at, y.clamped(bounds[0])), (at, y.clamped(bounds[1])), "whisker chosen") if len(bounds) == 2 else ""
    tip = f"best checkpoint, fresh episodes\nreturn {units.value(mean)}\n95 % interval {units.interval(bounds)}"
    return tipped(join(whisker, marker("star", at, y(mean), 6.5, "chosen")), tip)


def _clock(seconds: Sequence[Point], x: Scale, frame: Frame) -> Markup:
    """Wall-clock times above the plot, at the steps of the tick marks."""
    if len(seconds) < 2:
        return Markup("")
    top = frame.y[1]
    marks = []
    for step in x.ticks(max(3, int((frame.x[1] - frame.x[0]) / 90))):
        clock = _interpolate(seconds, step)
        if clock is not None:
            marks.append(text(x(step), top - 6, units.duration(clock), anchor="middle", class_="tick"))
    return join(*marks, text(frame.x[1], top - 22, "wall-clock", anchor="end", class_="title"))


def _interpolate(points: Sequence[Point], at: float) -> float | None:
    for (x0, y0), (x1, y1) in pairwise(points):
        if x0 <= at <= x1 and x1 > x0:
            return y0 + (at - x0) / (x1 - x0) * (y1 - y0)
    return None


def _key(curve: Curve, width: float) -> tuple[Markup, float]:
    entries = []
    if len(curve.training.means) > 1:
        entries.append((line((-7, 0), (7, 0), "line training"), "training episodes"))
    if curve.checks.means:
        entries.append(
            (join(line((-7, 0), (7, 0), "line check"), marker("circle", 0, 0, 3.2, "check")), "greedy checks")
        )
    if curve.final.number("return_mean") is not None:
        entries.append((marker("star", 0, 0, 6, "chosen"), "final, 95 % interval"))
    return legend(entries, 14, 10, width - 14)
