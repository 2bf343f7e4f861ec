"""What a run that started from another policy made of it."""

from __future__ import annotations

from nimbleq.report import units
from nimbleq.report.html import paragraph, table
from nimbleq.report.markup import Markup, join
from nimbleq.report.read import RunData


def started_from(data: RunData) -> Markup | None:
    """The section; None for a run without a source, or one that is not finished."""
    found = data.train.record("transfer")
    if not found:
        return None
    asked = data.config.record("train").record("transfer")
    source, method = asked.text("source") or "another policy", asked.text("method") or "transfer"
    rows = [
        (what, units.value(found.number(key)))
        for what, key in (
            ("the source, in this environment", "teacher_return"),
            ("random play", "random_return"),
            ("with the source, at its last check in the race", "transfer_return"),
            ("from scratch, likewise", "scratch_return"),
        )
        if found.number(key) is not None
    ]
    words = f"Training started from {source} ({method}). {_sentence(found.text('why', 400) or '')}"
    if found.text("goes_on") == "scratch":
        words += " So the network is one that began from scratch; part of what it learnt from the other one played."
    return join(paragraph(words), table(("return", "mean"), rows))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
