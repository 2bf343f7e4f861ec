"""The frontier as a standalone SVG, for a README."""

from __future__ import annotations

from pathlib import Path

from nimbleq.errors import ConfigError
from nimbleq.files import write_bytes
from nimbleq.report.frontier import frontier_of
from nimbleq.report.frontier_plot import draw_frontier
from nimbleq.report.markup import Markup, tag
from nimbleq.report.page import package_file
from nimbleq.report.read import read_run
from nimbleq.report.svg import rect
from nimbleq.rundir import RunDir

_PLOT_STYLE = "text{font-family:system-ui,-apple-system,'Segoe UI',Roboto,'DejaVu Sans',sans-serif}.paper{fill:#fff}"


def write_frontier_svg(run: RunDir, path: Path, width: float = 820) -> Path:
    """Write the frontier of a run as a standalone SVG on a white background.

    Raises:
        ConfigError: nothing has been compressed in this run.
        FileError: a file of the run is not valid JSON, or ``path`` cannot be written.
    """
    found = frontier_of(read_run(run))
    if found is None:
        raise ConfigError(f"{run.path} holds no frontier: run nimbleq compress {run.path} first")
    write_bytes(path, standalone(draw_frontier(found, width), width).encode())
    return path


def standalone(drawing: Markup, width: float) -> str:
    """An SVG of `nimbleq.report.svg.svg` as a file of its own, on white paper."""
    opening, rest = drawing.split(">", 1)
    style = tag("style", Markup(package_file("plot.css").replace(":root", "svg") + _PLOT_STYLE))
    paper = rect(0, 0, width, 10_000, "paper")
    return f'{opening} xmlns="http://www.w3.org/2000/svg">{style}{paper}{rest}\n'
