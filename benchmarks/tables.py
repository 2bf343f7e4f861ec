"""Figures as text, and tables between marks in the README."""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from pathlib import Path
from typing import Any

from benchmarks.chinese import chinese_page, in_chinese
from benchmarks.record import MISSING, ROOT

README = ROOT / "README.md"


def number(value: float | None) -> str:
    """Three significant digits; a dash for none."""
    if value is None or not isfinite(value):
        return "–"
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def reached(seconds: float | None) -> str:
    """Seconds to a score, ∞ when it was not reached."""
    return "∞" if seconds is None else number(seconds)


def interval(bounds: Sequence[float | None]) -> str:
    """``[low, high]``."""
    return f"[{', '.join(map(reached, bounds))}]"


def quotient_text(quotient: dict[str, Any] | None, short: bool = False) -> str:
    """Of a `benchmarks.statistics.ratio`: ``×47 [45, 60] (45–61)``; ``short``: without the range."""
    if quotient is None:
        return "–"
    sign = "≥ " if quotient.get("bound") else ""
    text = f"{sign}×{number(quotient['median'])} {interval(quotient['ci95'])}"
    return text if short else f"{text} ({number(quotient['least'])}–{number(quotient['most'])})"


def time_text(seconds: float) -> str:
    """``1:02:03`` or ``4:05``."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02}:{rest:02}" if hours else f"{minutes}:{rest:02}"


def header(*columns: str) -> str:
    """The first two lines of a Markdown table."""
    return f"| {' | '.join(columns)} |\n|{'---|' * len(columns)}"


def owed(missed: Sequence[str]) -> list[str]:
    """Lines below a table: the floors that its figures miss."""
    return ["", f"Owed and missed: {'; '.join(missed)}."] if missed else []


def unmeasured(missing: Sequence[str]) -> list[str]:
    """Lines below a table: the cells that it cannot show."""
    return ["", f"Cells {MISSING}: {', '.join(missing)}."] if missing else []


def into_readme(name: str, table: str) -> None:
    """Put ``table`` into the README; see `into_page`."""
    into_page(README, name, table)


def into_page(page: Path, name: str, table: str) -> None:
    """Put ``table`` between ``<!-- name: … -->`` and ``<!-- /name -->`` of ``page`` and of its Chinese form."""
    _between_marks(page, name, table)
    if chinese_page(page).exists():
        _between_marks(chinese_page(page), name, in_chinese(table))


def _between_marks(page: Path, name: str, table: str) -> None:
    text = page.read_text()
    before, rest = text.split(f"<!-- {name}:", 1)
    mark, rest = rest.split("\n", 1)
    _, after = rest.split(f"<!-- /{name} -->", 1)
    page.write_text(f"{before}<!-- {name}:{mark}\n{table.strip()}\n<!-- /{name} -->{after}")
