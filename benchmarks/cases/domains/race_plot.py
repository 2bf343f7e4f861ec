"""What a race earns against the time that a decision takes, as a picture."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.cases.train_curves import standalone
from nimbleq.files import write_bytes
from nimbleq.report import units
from nimbleq.report.svg import Frame, Scale, axes, legend, line, marker, padded, padded_log, polyline, svg, text

WIDTH, HEIGHT = 760.0, 380.0


def write_plot(fast: Mapping[str, Any], own: Sequence[Mapping[str, float]], path: Path) -> None:
    """A standalone SVG.

    Args:
        fast: the ``curve`` of one policy over latencies, and where ``engines`` stand on it.
        own: policies that were trained for the latency they meet.

    Raises:
        FileError: ``path`` cannot be written.
    """
    curve, marks = fast["curve"], fast["engines"]
    frame = Frame(WIDTH, HEIGHT, top=64)
    x = Scale(*padded_log([point["latency_us"] for point in (*curve, *marks)]), *frame.x, log=True)
    y = Scale(*padded([point["mean"] for point in (*curve, *own)]), *frame.y)
    parts = [axes(frame, x, y, x_label="a decision takes (µs)", y_label="ticks a race", x_format=units.trimmed)]
    parts.append(line((frame.x[0], y(0.0)), (frame.x[1], y(0.0)), "zero"))
    parts.append(polyline([(x(point["latency_us"]), y(point["mean"])) for point in curve], "line check"))
    for point in own:
        parts.append(marker("diamond", x(point["latency_us"]), y(point["mean"]), 5, "scratch"))
    for rank, mark in enumerate(sorted(marks, key=lambda mark: float(mark["latency_us"]))):
        at = x(mark["latency_us"])
        parts.append(line((at, frame.y[0]), (at, frame.y[1] - 4), "line ours"))
        parts.append(text(at + 4, frame.y[1] + 10 + 14 * rank, mark["engine"], class_="label"))
    entries = (
        (line((-7, 0), (7, 0), "line check"), "trained for 1 µs"),
        (marker("diamond", 0, 0, 5, "scratch"), "trained for its own time"),
        (line((-7, 0), (7, 0), "line ours"), "this policy, on this machine"),
    )
    key, _ = legend(entries, frame.left, 14, WIDTH)
    words = "What a race earns, in ticks, by the microseconds that a decision takes"
    write_bytes(path, standalone(svg(WIDTH, HEIGHT, words, *parts, key), WIDTH))
