"""How long a decision takes, compared with peers: one row per engine on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import log10

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
    padded_log,
    polygon,
    svg,
    text,
    tipped,
)

BINS = 240
"""Bins of a drawn histogram over the whole axis."""
MOST = 24
"""Rows drawn at most."""


@dataclass(frozen=True)
class Row:
    """Latency of one engine.

    Attributes:
        engine: its name.
        what: ``"artefact"`` (compressed) or ``"teacher"``.
        p50_us, p99_us, p999_us: percentiles.
        ratio: p50 divided by that of our C, measured side by side by the benchmark; None if it was not.
        histogram: ``(low_us, high_us, count)`` per bin; empty when there is none.
    """

    engine: str
    what: str
    p50_us: float
    p99_us: float | None
    p999_us: float | None
    ratio: float | None
    histogram: tuple[tuple[float, float, float], ...]

    @property
    def ours(self) -> bool:
        """One of nimbleq's own engines."""
        return self.engine.startswith("nimbleq")

    @property
    def idle(self) -> bool:
        """A timed loop around nothing."""
        return self.engine.startswith("empty")

    @property
    def name(self) -> str:
        """Engine, and what it ran if that is not the artefact."""
        return self.engine if self.what == "artefact" else f"{self.engine}, {self.what}"


def rows_of(data: RunData) -> tuple[Row, ...]:
    """The timed engines, fastest first, then the empty loops."""
    ratios = data.bench.record("ratios")
    found = [row for row in (_row(record, ratios) for record in data.bench.records("rows")) if row is not None]
    return tuple(sorted(found, key=lambda row: (row.idle, row.p50_us))[:MOST])


def headline_row(rows: Sequence[Row]) -> Row | None:
    """The engine that a deployment would use: our C, else our Python runtime, else the fastest."""
    mine = [row for row in rows if row.what == "artefact" and not row.idle]
    for engine in ("nimbleq-c", "nimbleq-python"):
        for row in mine:
            if row.engine == engine:
                return row
    return mine[0] if mine else None


def _row(record: Record, ratios: Record) -> Row | None:
    p50 = record.number("p50_us")
    if p50 is None or p50 <= 0:
        return None
    tails = (record.number(key) for key in ("p99_us", "p999_us"))
    p99, p999 = (value if value is not None and value > 0 else None for value in tails)
    what = record.text("what") or "artefact"
    engine = record.text("engine") or "unnamed"
    ratio = ratios.number(engine if what == "artefact" else f"{engine} ({what})")
    return Row(engine, what, p50, p99, p999, ratio, _histogram(record.record("histogram")))


def _histogram(record: Record) -> tuple[tuple[float, float, float], ...]:
    """``{"edges_us": [n + 1 values], "counts": [n values]}``."""
    edges, counts = record.numbers("edges_us"), record.numbers("counts")
    if len(edges) != len(counts) + 1:
        return ()
    bins = zip(edges, edges[1:], counts, strict=False)
    return tuple((low, high, number) for low, high, number in bins if 0 < low < high and number > 0)


def draw_latency(rows: Sequence[Row], width: float) -> Markup:
    """The plot, ``width`` pixels wide."""
    slim = width <= 500
    pitch = 54 if any(row.histogram for row in rows) else 40
    if slim:
        pitch += 16
    longest = max(len(row.name) for row in rows)
    key, key_height = legend(_entries(rows), 14, 10, width - 14)
    frame = Frame(
        width,
        key_height + 10 + pitch * len(rows) + 46,
        left=14 if slim else min(24 + longest * 6.8, 240),
        top=key_height + 8,
    )
    values = [v for row in rows for v in (row.p50_us, row.p99_us, row.p999_us) if v is not None]
    x = Scale(*padded_log(values, 0.05), *frame.x, log=True)
    parts = [axes(frame, x, None, x_label="latency of one decision (logarithmic)", x_format=units.latency), key]
    for index, row in enumerate(rows):
        base = frame.y[1] + pitch * (index + 1) - 12
        parts.append(_draw_row(row, x, base, pitch - (34 if slim else 18), frame, slim=slim))
    return svg(frame.width, frame.height, "Latency of one decision by engine: p50, p99 and p99.9", *parts)


def _draw_row(row: Row, x: Scale, base: float, height: float, frame: Frame, *, slim: bool) -> Markup:
    class_ = ("ours" if row.ours else "idle" if row.idle else "peer") + ("" if row.what == "artefact" else " parent")
    name = row.name if len(row.name) <= 34 else row.name[:33] + "…"
    words = "label strong" if row.ours else "label"
    parts = [
        text(frame.x[0], base - height - 4, name, class_=words)
        if slim
        else text(frame.x[0] - 12, base + 4, name, anchor="end", class_=words)
    ]
    outline = _ridge(row, x, base, height)
    if outline:
        parts.append(polygon(outline, f"ridge {class_}"))
    last = next(v for v in (row.p999_us, row.p99_us, row.p50_us) if v is not None)
    parts.append(line((x(row.p50_us), base), (x(last), base), f"range {class_}"))
    if row.p999_us is not None:
        parts.append(line((x(row.p999_us), base - 5), (x(row.p999_us), base + 5), f"tail {class_}"))
    if row.p99_us is not None:
        parts.append(line((x(row.p99_us), base - 8), (x(row.p99_us), base + 8), f"tail strong {class_}"))
    parts.append(marker("circle", x(row.p50_us), base, 5, class_))
    tails = f"p99 {units.latency(row.p99_us)}\np99.9 {units.latency(row.p999_us)}"
    return tipped(join(*parts), f"{row.name}\np50 {units.latency(row.p50_us)}\n{tails}")


def _ridge(row: Row, x: Scale, base: float, height: float) -> list[Point]:
    """Outline of the histogram over ``log(latency)``, its highest bin ``height`` tall."""
    if not row.histogram:
        return []
    low, high = log10(x.low), log10(x.high)
    width = (high - low) / BINS
    density = [0.0] * BINS
    for left, right, number in row.histogram:
        a, b = log10(left), log10(right)
        first, last = (min(max(int((edge - low) / width), 0), BINS - 1) for edge in (a, b))
        if b < low or a > high:
            continue
        for k in range(first, last + 1):
            shared = min(b, low + (k + 1) * width) - max(a, low + k * width)
            density[k] += number * max(shared, 0.0) / (b - a)
    tallest = max(density)
    if tallest <= 0:
        return []
    filled = [k for k, value in enumerate(density) if value > 0]
    outline: list[Point] = [(x(10 ** (low + filled[0] * width)), base)]
    for k in range(filled[0], filled[-1] + 1):
        top = base - height * density[k] / tallest
        outline += [(x(10 ** (low + k * width)), top), (x(10 ** (low + (k + 1) * width)), top)]
    return [*outline, (outline[-1][0], base)]


def _entries(rows: Sequence[Row]) -> list[tuple[Markup, str]]:
    entries = [
        (marker("circle", 0, 0, 5, "ours"), "p50"),
        (line((0, -8), (0, 8), "tail strong ours"), "p99"),
        (line((0, -5), (0, 5), "tail ours"), "p99.9"),
    ]
    if any(row.histogram for row in rows):
        entries.append((polygon([(-7, 5), (-3, -5), (1, 0), (7, 4), (7, 5)], "ridge ours"), "distribution"))
    if any(not row.ours and not row.idle for row in rows):
        entries.append((marker("circle", 0, 0, 5, "peer"), "peers"))
    if any(row.idle for row in rows):
        entries.append((marker("circle", 0, 0, 5, "idle"), "empty loop"))
    return entries
