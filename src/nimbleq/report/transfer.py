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
            ("with the source, at the comparison", "transfer_return"),
            ("from scratch, after as many steps", "scratch_return"),
        )
        if found.number(key) is not None
    ]
    back = found.text("goes_on") == "scratch"
    words = f"Training started from {source} ({method}). {_sentence(found.text('why', 400) or '')}"
    if back:
        words += " What was trained in the end is a policy from scratch: nothing of the source is in it."
    spent = units.count(found.number("discarded_steps"))
    words += f" {spent} steps of the run that was given up are part of the steps of training."
    return join(paragraph(words), table(("return", "mean"), rows))


def _sentence(text: str) -> str:
    return f"{text[:1].upper()}{text[1:]}."
