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
    parts = [axes(frame, x, y, x_label="a move takes (ms)", y_label="Elo", x_format=units.trimmed,
                  y_format=units.trimmed)]  # fmt: skip
    ladder = sorted((ms, elo) for name, elo, ms in players if name.startswith("search of"))
    parts.append(polyline([(x(ms), y(elo)) for ms, elo in ladder], "line check"))
    middle = sum(frame.x) / 2
    for name, elo, ms in players:  # words of ours above, of the others below, towards the middle of the picture
        ours = not name.startswith("search")
        shape, size, colour, below = ("diamond", 5, "chosen", -9) if ours else ("circle", 4, "check", 17)
        parts.append(marker(shape, x(ms), y(elo), size, colour))
        parts.append(text(x(ms), y(elo) + below, name, anchor="end" if x(ms) > middle else "start", class_="label"))
    entries = (
        (marker("circle", 0, 0, 4, "check"), "OpenSpiel's search"),
        (marker("diamond", 0, 0, 5, "chosen"), "with a network"),
    )
    key, _ = legend(entries, frame.left, 14, WIDTH)
    words = "Elo above chance by the milliseconds of processor time that a move takes"
    write_bytes(path, standalone(svg(WIDTH, HEIGHT, words, *parts, key), WIDTH))
