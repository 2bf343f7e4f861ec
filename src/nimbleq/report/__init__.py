"""One HTML file that shows what a run directory holds: numbers first, then the pictures behind them."""

from nimbleq.report.page import write_report
from nimbleq.report.picture import write_frontier_svg

__all__ = ["write_frontier_svg", "write_report"]
