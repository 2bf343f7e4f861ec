"""Elo against the time that a move takes, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.cases.train_curves import standalone
from nimbleq.files import write_bytes
from nimbleq.report import units
from nimbleq.report.svg import Frame, Scale, axes, legend, marker, padded, padded_log, polyline, svg, text

WIDTH, HEIGHT = 760.0, 400.0


def write_plot(players: Sequence[tuple[str, float, float]], path: Path) -> None:
    """A standalone SVG.

    Args:
        players: name, Elo, milliseconds a move.

    Raises:
        FileError: ``path`` cannot be written.
    """
    frame = Frame(WIDTH, HEIGHT, top=48)
    x = Scale(*padded_log([ms for _, _, ms in players]), *frame.x, log=True)
    y = Scale(*padded([elo for _, elo, _ in players]), *frame.y)
    parts = [axes(frame, x, y, x_label="a move takes (ms)", y_label="Elo above chance", x_format=units.trimmed)]
    ladder = sorted((ms, elo) for name, elo, ms in players if name.startswith("search of"))
    parts.append(polyline([(x(ms), y(elo)) for ms, elo in ladder], "line check"))
    for name, elo, ms in players:
        ours = not name.startswith("search")
        parts.append(
            marker("diamond" if ours else "circle", x(ms), y(elo), 5 if ours else 4, "scratch" if ours else "check")
        )
        parts.append(text(x(ms) + 8, y(elo) + 4, name, class_="label"))
    entries = (
        (marker("circle", 0, 0, 4, "check"), "OpenSpiel's search in C++"),
        (marker("diamond", 0, 0, 5, "scratch"), "with a network"),
    )
    key, _ = legend(entries, frame.left, 14, WIDTH)
    words = "Elo above chance by the milliseconds of processor time that a move takes"
    write_bytes(path, standalone(svg(WIDTH, HEIGHT, words, *parts, key), WIDTH))
