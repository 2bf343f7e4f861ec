"""The page of a search for settings: how it went, what mattered, and what to use."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from nimbleq.report import units
from nimbleq.report.html import commands, figure, missing, paragraph, section, table
from nimbleq.report.markup import Markup, join, tag
from nimbleq.report.page import package_file
from nimbleq.report.svg import Frame, Scale, axes, legend, line, marker, padded, polyline, rect, svg, text, tipped
from nimbleq.version import VERSION

_ROW = 26  # pixels of a bar


@dataclass(frozen=True)
class Trial:
    """One trial.

    Attributes:
        number: from 0.
        value: mean return (for a pruned trial its last check; None: there was none).
        complete: it was not pruned.
        values: its settings, by name.
    """

    number: int
    value: float | None
    complete: bool
    values: Mapping[str, str]


@dataclass(frozen=True)
class Tuning:
    """A search.

    Attributes:
        title: environment and budget.
        trials: the finished ones.
        importances: share by setting.
        lines: commands that use the best settings.
        enough: complete trials needed before importances mean something.
    """

    title: str
    trials: Sequence[Trial]
    importances: Mapping[str, float]
    lines: Sequence[str]
    enough: int


def render_tuning(tuning: Tuning) -> str:
    """The page as HTML source."""
    head = tag(
        "head",
        tag("meta", charset="utf-8"),
        tag("meta", http_equiv="Content-Security-Policy", content="default-src 'none'; style-src 'unsafe-inline'"),
        tag("meta", name="viewport", content="width=device-width, initial-scale=1"),
        tag("meta", name="color-scheme", content="light dark"),
        tag("title", f"{tuning.title} · nimbleq tune"),
        tag("style", Markup(package_file("plot.css") + package_file("style.css"))),
    )
    main = tag(
        "main",
        tag("h1", tuning.title),
        section("history", "The search", _history(tuning)),
        section("importance", "What mattered", _importance(tuning)),
        section("best", "The best trials", _best(tuning)),
        section("use", "Use it", commands(tuning.lines)),
        tag("footer", f"Made by nimbleq {VERSION}."),
    )
    return "<!doctype html>\n" + tag("html", head, tag("body", main), lang="en") + "\n"


def _history(tuning: Tuning) -> Markup:
    if not any(trial.value is not None for trial in tuning.trials):
        return missing("No trial has ended yet.")
    caption = "Each mark is a trial; the line is the best so far. Pruned trials are drawn at their last greedy check."
    return figure(lambda width: _draw_history(tuning.trials, width), caption)


def _draw_history(trials: Sequence[Trial], width: float) -> Markup:
    known = [(trial, trial.value) for trial in trials if trial.value is not None]
    entries = [
        (marker("circle", 0, 0, 3.2, "check"), "trial"),
        (marker("cross", 0, 0, 4, "refused"), "pruned"),
        (line((-7, 0), (7, 0), "line check"), "best so far"),
    ]
    key, key_height = legend(entries, 14, 10, width - 14)
    frame = Frame(width, 270 + key_height, top=38 + key_height)
    x = Scale(-0.5, max(trial.number for trial, _ in known) + 0.5, *frame.x, whole=True)
    y = Scale(*padded(value for _, value in known), *frame.y)
    parts = [axes(frame, x, y, x_label="trial", y_label="return", x_format=units.trimmed, y_format=units.trimmed)]
    best: list[tuple[float, float]] = []
    for trial, value in known:
        if trial.complete:
            best.append((x(trial.number), y(value) if not best else min(best[-1][1], y(value))))
    if len(best) > 1:
        parts.append(polyline(best, "line check"))
    for trial, value in known:
        shape, radius, class_ = ("circle", 3.2, "check") if trial.complete else ("cross", 4.0, "refused")
        mark = marker(shape, x(trial.number), y(value), radius, class_)
        settings = "\n".join(f"{name} {shown}" for name, shown in trial.values.items())
        parts.append(tipped(mark, f"trial {trial.number}\nreturn {units.value(value)}\n{settings}"))
    return svg(frame.width, frame.height, "Return of every trial, and the best so far", *parts, key)


def _importance(tuning: Tuning) -> Markup:
    if not tuning.importances:
        return missing(
            f"Too few trials have ended to say which settings matter: this many settings need {tuning.enough}."
        )
    caption = "Share of the difference between good and bad trials that each setting explains (PED-ANOVA)."
    return figure(lambda width: _draw_importance(tuning.importances, width), caption)


def _draw_importance(importances: Mapping[str, float], width: float) -> Markup:
    ranked = sorted(importances.items(), key=lambda item: -item[1])
    left = 160.0
    scale = Scale(0.0, max(max(importances.values()), 1e-9), left, width - 60)
    parts = []
    for row, (name, share) in enumerate(ranked):
        top = row * _ROW + 8.0
        parts.append(text(left - 8, top + 13, name, anchor="end"))
        parts.append(rect(left, top, scale(share) - left, _ROW - 8, "band training"))
        parts.append(text(scale(share) + 6, top + 13, units.percent(share)))
    return svg(width, len(ranked) * _ROW + 16, "Importance of each setting", *parts)


def _best(tuning: Tuning) -> Markup:
    complete = sorted((t for t in tuning.trials if t.complete), key=lambda t: -(t.value or 0.0))[:10]
    if not complete:
        return missing("No trial is complete yet.")
    names = list(complete[0].values)
    rows = [(str(t.number), units.value(t.value), *(t.values.get(name, "–") for name in names)) for t in complete]
    given_up = sum(not trial.complete for trial in tuning.trials)
    note = paragraph(f"{len(tuning.trials)} trials, of which {given_up} were pruned early.")
    return join(note, table(("trial", "return", *names), rows, strong=[0]))
