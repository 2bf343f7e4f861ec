"""The certificate in plain words, and its plots: the wealth of the bet, and the difference with its bound."""

from __future__ import annotations

from dataclasses import dataclass
from math import log10

from nimbleq.report import units
from nimbleq.report.markup import Markup
from nimbleq.report.read import Record, as_number
from nimbleq.report.svg import Frame, Point, Scale, axes, line, marker, padded, polyline, rect, svg, text, tipped

_DRAWN = (-6.0, 12.0)
"""Powers of ten between which wealth is drawn; values beyond are drawn at the edge."""


@dataclass(frozen=True)
class Verdict:
    """The numbers of the plot.

    Attributes:
        mean: of student minus teacher over paired episodes.
        bound: its one-sided lower bound.
        margin: δ ≥ 0, the loss that is allowed.
        certified: the verdict.
    """

    mean: float
    bound: float
    margin: float
    certified: bool


def verdict_of(certificate: Record) -> Verdict | None:
    """The numbers of the plot, or None if one is missing."""
    mean, bound, margin = (certificate.number(key) for key in ("difference_mean", "difference_lower95", "margin"))
    if mean is None or bound is None or margin is None:
        return None
    return Verdict(mean, bound, abs(margin), certificate.flag("certified") is True)


def draw_verdict(verdict: Verdict, width: float) -> Markup:
    """The plot, ``width`` pixels wide."""
    frame = Frame(width, 164, left=20, right=20, top=40)
    x = Scale(*padded([verdict.mean, verdict.bound, -verdict.margin, verdict.margin, 0.0], 0.12), *frame.x)
    bottom, top = frame.y
    middle = (bottom + top) / 2 + 4
    class_ = "passed" if verdict.certified else "refused"
    edge = x(-verdict.margin)
    allowed = f"margin −{units.value(verdict.margin)}"
    tip = f"difference {units.value(verdict.mean)}\nlower 95 % bound {units.value(verdict.bound)}\n{allowed}"
    parts = [
        rect(frame.x[0], top, edge - frame.x[0], bottom - top, "below"),
        axes(frame, x, None, x_label="return of the compressed policy − return of the teacher", x_format=units.trimmed),
        line((x(0), top), (x(0), bottom), "zero"),
        line((edge, top - 6), (edge, bottom), "margin"),
        text(edge, top - 12, allowed, anchor=_anchor(edge, frame), class_="label strong"),
        text(x(0), top - 12, "equal", anchor="middle", class_="label") if abs(x(0) - edge) > 120 else "",
        line((x(verdict.bound), middle), (frame.x[1], middle), f"bound {class_}"),
        line((x(verdict.bound), middle - 10), (x(verdict.bound), middle + 10), f"bound {class_}"),
        tipped(marker("circle", x(verdict.mean), middle, 6, f"{class_} solid"), tip),
        text(
            x(verdict.bound),
            middle + 26,
            f"bound {units.value(verdict.bound)}",
            anchor=_anchor(x(verdict.bound), frame),
        ),
        text(
            x(verdict.mean),
            middle - 14,
            f"measured {units.value(verdict.mean)}",
            anchor=_anchor(x(verdict.mean), frame),
        ),
    ]
    return svg(frame.width, frame.height, "Measured difference and its lower bound against the margin", *parts)


def _anchor(x: float, frame: Frame) -> str:
    if x < frame.width * 0.2:
        return "start"
    return "end" if x > frame.width * 0.8 else "middle"


@dataclass(frozen=True)
class Wealth:
    """Attributes:
    curve: ``((episodes, log₁₀ W), …)`` from the start.
    needed: wealth at which the claim is certified, ``1/α``.
    certified: the verdict.
    episodes: at which it was certified; None if it was not.
    """

    curve: tuple[Point, ...]
    needed: float
    certified: bool
    episodes: float | None


def wealth_of(certificate: Record) -> Wealth | None:
    """The wealth over the episodes, or None if it is missing."""
    points = certificate.fields.get("wealth_curve")
    needed = certificate.number("wealth_needed")
    if not isinstance(points, list) or needed is None or needed <= 1:
        return None
    pairs = [(as_number(p[0]), as_number(p[1])) for p in points if isinstance(p, list) and len(p) == 2]
    curve = tuple((x, y) for x, y in pairs if x is not None and y is not None)
    if len(curve) < 2 or len(curve) < len(points) or curve[-1][0] <= curve[0][0]:
        return None
    certified = certificate.flag("certified") is True
    return Wealth(curve, needed, certified, certificate.number("episodes") if certified else None)


def draw_wealth(wealth: Wealth, width: float) -> Markup:
    """The plot on a logarithmic axis, ``width`` pixels wide, with the line that it must reach."""
    frame = Frame(width, 240, left=64, right=20, top=30)
    goal = log10(wealth.needed)
    powers = [min(max(y, _DRAWN[0]), _DRAWN[1]) for _, y in wealth.curve]
    low, high = padded([*powers, 0.0, goal], 0.08)
    x = Scale(wealth.curve[0][0], wealth.curve[-1][0], *frame.x)
    y = Scale(low, high, *frame.y)
    class_ = "passed" if wealth.certified else "refused"
    caption = f"{units.trimmed(wealth.needed)} needed"
    middle = (wealth.curve[0][0] + wealth.curve[-1][0]) / 2
    early = wealth.episodes is not None and wealth.episodes < middle
    at, anchor = (frame.x[1], "end") if early else (frame.x[0] + 4, "start")  # clear of where the curve crosses it
    parts = [
        axes(
            frame, x, y, x_label="episodes", y_label="wealth", x_format=units.compact,
            y_format=lambda power: units.trimmed(10.0**power),
        ),
        line((frame.x[0], y(0)), (frame.x[1], y(0)), "zero"),
        line((frame.x[0], y(goal)), (frame.x[1], y(goal)), "margin"),
        text(at, y(goal) - 6, caption, anchor=anchor, class_="label strong"),
        polyline([(x(n), y(p)) for (n, _), p in zip(wealth.curve, powers, strict=True)], f"line {class_}"),
    ]  # fmt: skip
    if wealth.episodes is not None and wealth.curve[0][0] <= wealth.episodes <= wealth.curve[-1][0]:
        tip = f"certified after {units.count(wealth.episodes)} episodes"
        parts.append(tipped(marker("circle", x(wealth.episodes), y(min(goal, high)), 6, f"{class_} solid"), tip))
    return svg(frame.width, frame.height, "Wealth of the bet over the episodes, and what was needed", *parts)


def plain_words(certificate: Record) -> list[str]:
    """The certificate as sentences: what was played, what the test is, what was assumed, what came out, what to do."""
    if is_older(certificate):
        return ["This certificate is of an older kind, whose error was larger than stated: certify the policy again."]
    words = (
        _played(certificate),
        _bet(certificate),
        _assumed(certificate),
        _outcome(certificate),
        _advice(certificate),
    )
    return [sentence for sentence in words if sentence]


def is_older(certificate: Record) -> bool:
    """Whether a certificate was made by the test that this one replaced."""
    return bool(certificate) and "wealth" not in certificate.fields


def _played(certificate: Record) -> str:
    episodes = certificate.number("episodes_played")
    if episodes is None:
        return ""
    words = (
        f"The teacher, the compressed policy and random play each played the same {units.count(episodes)} episodes: the"
        " same seeds, hence the same starts and the same chance events. The seeds follow from the finished policy;"
        " none of them helped to choose it."
    )
    teacher, student, random = (
        certificate.number(key) for key in ("teacher_return_mean", "student_return_mean", "random_return_mean")
    )
    if teacher is not None and student is not None:
        words += f" The teacher averaged {units.value(teacher)}, the compressed policy {units.value(student)}"
        words += f"; random play averages {units.value(random)}." if random is not None else "."
    return words


def _bet(certificate: Record) -> str:
    keep, margin = certificate.number("keep"), certificate.number("margin")
    needed, alpha = certificate.number("wealth_needed"), certificate.number("alpha")
    if margin is None:
        return ""
    words = "The claim"
    if keep is not None:
        who = "the policy behind its guard" if certificate.flag("guarded") is True else "the policy"
        words += f", that {who} keeps {units.percent(keep)} of the teacher's gain over random play,"
    words += f" allows an average loss of at most {units.value(abs(margin))} (the margin)."
    if needed is not None and alpha is not None and 0 < alpha < 1:
        words += (
            " The test is a bet that starts with a wealth of 1 and wins on average only when the claim is true: a false"
            f" claim reaches a wealth of {units.trimmed(needed)} with a probability of at most {units.percent(alpha)},"
            " whatever the returns look like and whenever you stop."
        )
    attempt = certificate.number("attempt")
    if attempt is not None and attempt > 1:
        words += (
            f" It is attempt {units.count(attempt)} about this policy; every attempt needs more wealth than the last."
        )
    first = next((row.number("episodes") for row in certificate.records("forecast")), None)
    if first is not None:
        words += f" Before it began, about {units.count(first)} episodes were expected for a policy that loses nothing."
    return words


def _assumed(certificate: Record) -> str:
    ends = certificate.numbers("return_range")
    if len(ends) != 2:
        return ""
    words = f"The range assumed beforehand: returns lie between {units.value(ends[0])} and {units.value(ends[1])}"
    source = certificate.text("return_range_source", 300)
    words += f" ({source})." if source else "."
    rare, episodes = certificate.number("beyond_range_frequency_at_most"), certificate.number("episodes_played")
    if rare is not None and episodes is not None:
        words += (
            f" No loss of more than {units.value(ends[1] - ends[0])} was seen in {units.count(episodes)} episodes: with"
            f" 95 % confidence at most {units.percent(rare)} of the episodes have one."
        )
    return words


def _outcome(certificate: Record) -> str:
    wealth, needed = certificate.number("wealth"), certificate.number("wealth_needed")
    mean, bound = certificate.number("difference_mean"), certificate.number("difference_lower95")
    words = ""
    if mean is not None:
        words = f"Measured difference: {units.value(mean)}"
        words += "." if bound is None else f", with 95 % confidence no less than {units.value(bound)}."
    if certificate.flag("certified") is True:
        episodes = certificate.number("episodes")
        after = "" if episodes is None else f" after {units.count(episodes)} episodes"
        return f"{words} The wealth reached the needed value{after}: certified."
    if wealth is None or needed is None:
        return words
    return f"{words} The wealth reached {units.trimmed(wealth)} of the {units.trimmed(needed)} needed: not certified."


def _advice(certificate: Record) -> str:
    if certificate.flag("certified") is not False:
        return ""
    reason = (certificate.text("reason", 600) or "").removeprefix("refused: ").rstrip(".")
    words = f"Reason given: {reason}. " if reason else ""
    verdict = verdict_of(certificate)
    if verdict is not None and verdict.mean > -verdict.margin:
        return words + "The measured loss itself is within the margin: more episodes or a larger candidate may do."
    return words + "A larger candidate, longer distillation, or a lower --keep is needed."


def figures(certificate: Record) -> list[tuple[str, str, str]]:
    """More numbers of the certificate: name, value, what it means."""
    rows: list[tuple[str, str, str]] = []
    teacher, student = certificate.number("teacher_worst_decile"), certificate.number("student_worst_decile")
    if student is not None:
        beside = f", teacher {units.value(teacher)}" if teacher is not None else ""
        rows.append(("worst decile", units.value(student) + beside, "mean return of the worst tenth of the episodes"))
    flips = certificate.number("action_flips")
    if flips is not None:
        rows.append(
            (
                "action flips",
                units.percent(flips) if flips <= 1 else units.count(flips),
                "visited states where the two choose different actions",
            )
        )
    dead = certificate.fields.get("dead_actions")
    if isinstance(dead, list | int) and not isinstance(dead, bool):
        listed = [str(action) for action in dead[:20]] if isinstance(dead, list) else ([] if dead == 0 else [str(dead)])
        rows.append(
            (
                "dead actions",
                ", ".join(listed) or "none",
                "actions that the teacher uses and the compressed policy never uses",
            )
        )
    return rows
