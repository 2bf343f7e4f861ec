"""One HTML file about a run directory: numbers first, then the plots behind them."""

from nimbleq.report.page import write_report
from nimbleq.report.picture import write_frontier_svg

__all__ = ["write_frontier_svg", "write_report"]
