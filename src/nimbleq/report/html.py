"""Tables, figures and sections of the page."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from nimbleq.report.markup import Markup, join, tag

WIDE = 820
NARROW = 360
"""Widths in CSS pixels at which every plot is drawn; the style sheet shows the one that fits."""


def section(key: str, heading: str, *parts: str) -> Markup:
    """A part of the report with an anchor."""
    return tag("section", tag("h2", heading), *parts, id=key)


def figure(draw: Callable[[float], Markup], caption: str) -> Markup:
    """A plot for wide and for narrow windows, with a caption."""
    wide = tag("div", draw(WIDE), class_="wide")
    narrow = tag("div", draw(NARROW), class_="narrow")
    return tag("figure", wide, narrow, tag("figcaption", caption))


def table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, text_columns: int = 1, strong: Sequence[int] = ()
) -> Markup:
    """A table; all but the first ``text_columns`` columns are numbers, aligned right. ``strong`` rows stand out."""

    def class_of(column: int) -> str | None:
        return None if column < text_columns else "number"

    head = tag("tr", *(tag("th", name, scope="col", class_=class_of(column)) for column, name in enumerate(headings)))
    body = [
        tag(
            "tr", *(tag("td", cell, class_=class_of(column)) for column, cell in enumerate(row)),
            class_="strong" if index in strong else None,
        )
        for index, row in enumerate(rows)
    ]  # fmt: skip
    return tag("div", tag("table", tag("thead", head), tag("tbody", *body)), class_="scroll")


def pairs(rows: Sequence[tuple[str, str]]) -> Markup:
    """Names with their values."""
    return tag("dl", *(join(tag("dt", name), tag("dd", value)) for name, value in rows))


def missing(words: str, command: str | None = None) -> Markup:
    """One sentence for something that does not exist yet, and the command that makes it."""
    return tag("p", words, *((" Run ", tag("code", command), ".") if command else ()), class_="missing")


def commands(lines: Sequence[str]) -> Markup:
    """Commands to copy."""
    return tag("pre", tag("code", "\n".join(lines)))


def paragraph(*parts: str) -> Markup:
    """A paragraph."""
    return tag("p", *parts)
