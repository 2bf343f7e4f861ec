"""Elo against the time that a move takes, as a picture."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from benchmarks.cases.train_curves import standalone
from nimbleq.files import write_bytes
from nimbleq.report import units
from nimbleq.report.svg import Frame, Scale, axes, legend, marker, padded, padded_log, polyline, svg, text

WIDTH, HEIGHT = 760.0, 400.0
ALONE = "alone"


class Kind(NamedTuple):
    """Players of one kind, a point for each number of simulations.

    Attributes:
        start: of their names.
        words: of the legend.
        shape, size, colour: of their marks.
        below: how far below a mark its number is, in pixels.
    """

    start: str
    words: str
    shape: str
    size: float
    colour: str
    below: float


KINDS = (
    Kind("network from recorded games", "network from recorded games", "diamond", 5, "chosen", -10),
    Kind("network", "the same after learning on", "square", 5, "chosen", 20),
    Kind("search in Python of", "search in Python", "ring", 5, "check", 20),
    Kind("search of", "OpenSpiel's search", "circle", 4, "check", 20),
)
"""The first whose start fits; inside a search a network says so after it."""


def kind_of(name: str) -> Kind:
    """Of a player."""
    return next(kind for kind in KINDS if name.startswith(kind.start))


def simulations(name: str) -> str:
    """A player's simulations a move."""
    last = name.split()[-1]
    return last if last.isdigit() else ALONE


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
    for kind in KINDS:
        own = sorted((ms, elo, name) for name, elo, ms in players if kind_of(name) is kind)
        if kind is KINDS[-1]:
            parts.append(polyline([(x(ms), y(elo)) for ms, elo, _ in own], "line check"))
        for ms, elo, name in own:
            parts.append(marker(kind.shape, x(ms), y(elo), kind.size, kind.colour))
            parts.append(text(x(ms), y(elo) + kind.below, simulations(name), anchor="middle", class_="label"))
    key, _ = legend(
        [(marker(kind.shape, 0, 0, kind.size, kind.colour), kind.words) for kind in KINDS], frame.left, 14, WIDTH
    )
    words = "Elo above chance by the processor time of a move in milliseconds, for each number of simulations"
    write_bytes(path, standalone(svg(WIDTH, HEIGHT, words, *parts, key), WIDTH))
