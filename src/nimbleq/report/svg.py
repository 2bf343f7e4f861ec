"""Scales, ticks, axes and marks: the parts of every plot.

Coordinates are SVG user units, which are CSS pixels at natural size; colours come from classes in ``plot.css``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from math import ceil, floor, log10

from nimbleq.report.markup import Markup, join, number, tag

Point = tuple[float, float]
Box = tuple[float, float, float, float]


@dataclass(frozen=True)
class Scale:
    """Maps ``low..high`` of the data to ``start..end`` of the page.

    ``log`` maps the logarithm (data > 0); ``whole`` has ticks only at whole numbers, for counts.
    """

    low: float
    high: float
    start: float
    end: float
    log: bool = False
    whole: bool = False

    def __call__(self, value: float) -> float:
        low, high, at = (log10(v) if self.log else v for v in (self.low, self.high, value))
        return self.start + (at - low) / (high - low) * (self.end - self.start)

    def ticks(self, wanted: int = 6) -> list[float]:
        """Round values inside the domain, about ``wanted`` of them."""
        if self.log:
            return _log_ticks(self.low, self.high, wanted)
        return _linear_ticks(self.low, self.high, wanted, 1.0 if self.whole else 0.0)

    def clamped(self, value: float) -> float:
        """Position of ``value``, or of the nearer end of the domain."""
        return self(min(max(value, self.low), self.high))


def _linear_ticks(low: float, high: float, wanted: int, least: float = 0.0) -> list[float]:
    """Round values ``least`` or more apart; where that is 1, whole numbers."""
    rough = max((high - low) / max(wanted, 1), least)
    power = 10.0 ** floor(log10(rough))
    factors = (1, 2, 5, 10) if least else (1, 2, 2.5, 5, 10)
    step = next(power * factor for factor in factors if power * factor >= rough * 0.999)
    first, last = ceil(low / step - 1e-9), floor(high / step + 1e-9)
    return [float(f"{k * step:.10g}") for k in range(first, last + 1)]


def _log_ticks(low: float, high: float, wanted: int) -> list[float]:
    decades = range(floor(log10(low)), ceil(log10(high)) + 1)
    for factors in ((1, 2, 5), (1, 3), (1,)):
        found = [f * 10.0**d for d in decades for f in factors if low * 0.999 <= f * 10.0**d <= high * 1.001]
        if len(found) <= wanted:
            break
    else:
        stride = ceil(len(found) / wanted)
        found = found[::stride]
    return found if len(found) > 1 else _linear_ticks(low, high, wanted)


def padded(values: Iterable[float], share: float = 0.06) -> Point:
    """A domain that holds ``values`` with ``share`` of its span free at both ends."""
    known = list(values)
    low, high = min(known), max(known)
    span = high - low or max(abs(high) * 0.1, 1.0)
    return low - share * span, high + share * span


def padded_log(values: Iterable[float], share: float = 0.06) -> Point:
    """As `padded` on a logarithmic axis; values must be positive."""
    low, high = padded((log10(value) for value in values), share)
    if high - low < 0.3:
        low, high = low - 0.15, high + 0.15
    return 10.0**low, 10.0**high


@dataclass(frozen=True)
class Frame:
    """The drawing area inside its margins."""

    width: float
    height: float
    left: float = 56
    right: float = 16
    top: float = 16
    bottom: float = 44

    @property
    def x(self) -> Point:
        """Left and right edge."""
        return self.left, self.width - self.right

    @property
    def y(self) -> Point:
        """Bottom and top edge (values grow upwards)."""
        return self.height - self.bottom, self.top


def svg(width: float, height: float, label: str, *children: str) -> Markup:
    """A drawing of natural size ``width × height`` that ``label`` describes to those who cannot see it."""
    return tag(
        "svg", *children,
        viewBox=f"0 0 {number(float(width))} {number(float(height))}",
        width=width, height=height, role="img", aria_label=label, class_="plot",
    )  # fmt: skip


def text(x: float, y: float, words: str, *, anchor: str = "start", class_: str = "label") -> Markup:
    """A line of text with its baseline at ``y``."""
    return tag("text", words, x=float(x), y=float(y), text_anchor=anchor, class_=class_)


def line(a: Point, b: Point, class_: str) -> Markup:
    """A straight line."""
    return tag("line", x1=float(a[0]), y1=float(a[1]), x2=float(b[0]), y2=float(b[1]), class_=class_)


def rect(x: float, y: float, width: float, height: float, class_: str) -> Markup:
    """A rectangle (nothing when it would be empty)."""
    if width <= 0 or height <= 0:
        return Markup("")
    return tag("rect", x=float(x), y=float(y), width=float(width), height=float(height), class_=class_)


def polyline(points: Sequence[Point], class_: str) -> Markup:
    """An open line through ``points``."""
    return tag("path", d=_path(points), class_=class_)


def polygon(points: Sequence[Point], class_: str) -> Markup:
    """A filled shape."""
    return tag("path", d=_path(points) + "Z", class_=class_)


def _path(points: Sequence[Point]) -> str:
    return "M" + "L".join(f"{number(float(x))} {number(float(y))}" for x, y in points)


def tipped(mark: str, tip: str) -> Markup:
    """A mark that shows ``tip`` under the pointer (lines separated by newlines)."""
    return tag("g", tag("title", tip), mark, class_="tip")


def axes(
    frame: Frame, x: Scale, y: Scale | None, *, x_label: str, y_label: str = "",
    x_format: Callable[[float], str], y_format: Callable[[float], str] = str,
) -> Markup:  # fmt: skip
    """Grid, tick labels and axis titles; without ``y`` only the horizontal axis."""
    bottom, top = frame.y
    left, right = frame.x
    parts = [line((left, bottom), (right, bottom), "axis")]
    for value in x.ticks(max(3, int((right - left) / 90))):
        parts.append(line((x(value), bottom), (x(value), top), "grid"))
        parts.append(text(x(value), bottom + 16, x_format(value), anchor="middle", class_="tick"))
    parts.append(text(right, bottom + 34, x_label, anchor="end", class_="title"))
    if y is not None:
        for value in y.ticks(max(3, int((bottom - top) / 45))):
            parts.append(line((left, y(value)), (right, y(value)), "grid"))
            parts.append(text(left - 8, y(value) + 4, y_format(value), anchor="end", class_="tick"))
        parts.append(text(left - 8, top - 12, y_label, anchor="start" if left < 40 else "middle", class_="title"))
    return tag("g", *parts, class_="axes")


SHAPES = ("circle", "ring", "diamond", "square", "up", "down", "cross", "star")


def marker(shape: str, x: float, y: float, radius: float, class_: str) -> Markup:
    """A mark of about equal area whatever its shape; one of `SHAPES`."""
    x, y, r = float(x), float(y), float(radius)
    if shape in ("circle", "ring"):
        return tag("circle", cx=x, cy=y, r=r, class_=f"{shape} {class_}")
    if shape == "cross":
        d = 0.8 * r
        strokes = (line((x - d, y - d), (x + d, y + d), class_), line((x - d, y + d), (x + d, y - d), class_))
        return tag("g", *strokes, class_="cross")
    outlines = {
        "diamond": ((0.0, -1.3), (1.3, 0.0), (0.0, 1.3), (-1.3, 0.0)),
        "square": ((-0.9, -0.9), (0.9, -0.9), (0.9, 0.9), (-0.9, 0.9)),
        "up": ((0.0, -1.2), (1.15, 0.85), (-1.15, 0.85)),
        "down": ((0.0, 1.2), (1.15, -0.85), (-1.15, -0.85)),
        "star": (
            (0.0, -1.5), (0.37, -0.5), (1.43, -0.46), (0.59, 0.19), (0.88, 1.21),
            (0.0, 0.62), (-0.88, 1.21), (-0.59, 0.19), (-1.43, -0.46), (-0.37, -0.5),
        ),
    }  # fmt: skip
    return polygon([(x + dx * r, y + dy * r) for dx, dy in outlines[shape]], class_)


def place_labels(
    anchors: Sequence[tuple[float, float, str]],
    frame: Frame,
    obstacles: Sequence[Box] = (),
    *,
    character: float = 6.9,
    height: float = 14,
) -> list[tuple[float, float, str]]:
    """Baseline positions ``(x, y, text-anchor)`` for labels next to points, with the fewest collisions.

    Args:
        anchors: ``(x, y, words)`` in order of importance.
        frame: labels stay inside.
        obstacles: boxes ``(left, top, right, bottom)`` to keep clear of.
        character: width of a character.
        height: of a line.
    """
    taken = [(x - 6, y - 6, x + 6, y + 6) for x, y, _ in anchors] + list(obstacles)
    placed = []
    for x, y, words in anchors:
        width = len(words) * character
        options = [
            (x + 12, y + 4, "start"), (x - 12, y + 4, "end"), (x, y - 13, "middle"), (x, y + 21, "middle"),
            (x + 10, y - 12, "start"), (x - 10, y - 12, "end"), (x + 10, y + 20, "start"), (x - 10, y + 20, "end"),
            (x, y - 29, "middle"), (x, y + 37, "middle"), (x + 10, y - 28, "start"), (x - 10, y + 36, "end"),
        ]  # fmt: skip
        boxes = [(_label_box(option, width, height), option) for option in options]
        inside = [
            (box, option) for box, option in boxes
            if box[0] >= frame.x[0] and box[2] <= frame.width and box[1] >= 0 and box[3] <= frame.y[0]
        ]  # fmt: skip
        # The first place with the fewest collisions.
        box, option = min(inside or boxes, key=lambda entry: sum(overlap(entry[0], other) for other in taken))
        taken.append(box)
        placed.append(option)
    return placed


def _label_box(option: tuple[float, float, str], width: float, height: float) -> Box:
    x, y, anchor = option
    left = {"start": x, "middle": x - width / 2, "end": x - width}[anchor]
    return left, y - height + 3, left + width, y + 3


def overlap(a: Box, b: Box) -> bool:
    """Whether two boxes have a point in common."""
    return a[0] < b[2] and b[0] < a[2] and a[1] < b[3] and b[1] < a[3]


def legend(entries: Sequence[tuple[Markup, str]], x: float, y: float, width: float) -> tuple[Markup, float]:
    """Marks (drawn around the origin) with their meaning, wrapped into lines; and the height they took."""
    parts = []
    column, row = 0.0, 0.0
    for mark, words in entries:
        advance = 22 + len(words) * 6.4 + 14
        if column and column + advance > width:
            column, row = 0.0, row + 20
        moved = tag("g", mark, transform=f"translate({number(x + column + 7)} {number(y + row)})")
        parts.append(join(moved, text(x + column + 20, y + row + 4, words, class_="tick start")))
        column += advance
    return tag("g", *parts, class_="legend"), row + 20
