"""Latencies as a picture: a panel per network, a line from p50 to p99.9 per engine, on a logarithmic axis."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.train_curves import standalone
from nimbleq.files import write_bytes
from nimbleq.report.markup import Markup, number, tag
from nimbleq.report.svg import Scale, line, marker, padded_log, svg, text, tipped

WIDTH, LEFT, ROW, HEAD = 760.0, 150.0, 16.0, 40.0


def write_plot(rows: Mapping[str, Sequence[Mapping[str, Any]]], engines: Sequence[str], path: Path) -> None:
    """A standalone SVG.

    Args:
        rows: network → its engines' ``p50_us`` and ``p999_us``.
        engines: in the order in which they are drawn.

    Raises:
        FileError: ``path`` cannot be written.
    """
    every = [each[key] for panel in rows.values() for each in panel for key in ("p50_us", "p999_us")]
    scale = Scale(*padded_log(every), LEFT, WIDTH - 60, log=True)
    panels, y = [], 0.0
    for name, found in rows.items():
        by_engine = {each["engine"]: each for each in found}
        drawn = [engine for engine in engines if engine in by_engine]
        panels.append(
            tag("g", *_panel(name, [by_engine[e] for e in drawn], scale), transform=f"translate(0 {number(y)})")
        )
        y += HEAD + ROW * len(drawn) + 24
    made = svg(WIDTH, y, "Latency of one decision by engine: p50 to p99.9 in microseconds", *panels)
    write_bytes(path, standalone(made, WIDTH))


def _panel(name: str, rows: Sequence[Mapping[str, Any]], scale: Scale) -> list[Markup]:
    bottom = HEAD + ROW * len(rows)
    parts = [text(LEFT, 20, name)]
    for tick in scale.ticks():
        parts += [line((scale(tick), HEAD - 8), (scale(tick), bottom), "grid")]
        parts.append(text(scale(tick), bottom + 12, f"{tick:g} µs", anchor="middle"))
    for index, row in enumerate(rows):
        y = HEAD + ROW * index
        parts.append(text(LEFT - 8, y + 4, row["engine"], anchor="end"))
        parts.append(line((scale(row["p50_us"]), y), (scale(row["p999_us"]), y), "line training"))
        tip = f"{row['engine']}\np50 {row['p50_us']:.3g} µs\np99.9 {row['p999_us']:.3g} µs"
        parts.append(tipped(marker("circle", scale(row["p50_us"]), y, 4, "mark"), tip))
    return parts
