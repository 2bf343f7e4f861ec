"""The certificate in plain words, and its picture: the estimate with its bound against the margin."""

from __future__ import annotations

from dataclasses import dataclass

from nimbleq.report import units
from nimbleq.report.markup import Markup
from nimbleq.report.read import Record
from nimbleq.report.svg import Frame, Scale, axes, line, marker, padded, rect, svg, text, tipped

_HOPELESS = 1e9
"""Planned episodes from which on no number would do."""


@dataclass(frozen=True)
class Verdict:
    """What is drawn.

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
    """The numbers of the picture, or None when one is missing."""
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


def plain_words(certificate: Record) -> list[str]:
    """The certificate as sentences: what was compared, how often and why that often, what came out, what to do."""
    return [
        sentence
        for sentence in (
            _compared(certificate),
            _why_that_many(certificate),
            _outcome(certificate),
            _advice(certificate),
        )
        if sentence
    ]


def _compared(certificate: Record) -> str:
    episodes = certificate.number("episodes")
    if episodes is None:
        return ""
    pilot = certificate.record("seeds").number("pilot_count")
    if episodes > 0:
        said = (
            f"The teacher and the compressed policy each played the same {units.count(episodes)} episodes: the same"
            " seeds, hence the same starts and the same chance events, and none that had helped to choose the policy."
        )
    else:
        said = (
            f"Only a pilot of {units.count(pilot)} paired episodes was played: it showed that the test would be futile."
        )
    teacher, student, random = (
        certificate.number(key) for key in ("teacher_return_mean", "student_return_mean", "random_return_mean")
    )
    if teacher is not None and student is not None:
        said += f" The teacher averaged {units.value(teacher)}, the compressed policy {units.value(student)}"
        said += f"; random play averages {units.value(random)}." if random is not None else "."
    return said


def _why_that_many(certificate: Record) -> str:
    keep, margin = certificate.number("keep"), certificate.number("margin")
    if margin is None:
        return ""
    said = "The claim"
    if keep is not None:
        said += f", that {units.percent(keep)} of the way from random play to the teacher is kept,"
    said += f" allows an average loss of at most {units.value(abs(margin))} (the margin)."
    scatter, episodes = certificate.number("difference_std"), certificate.number("episodes")
    if scatter is not None and scatter > 0:
        said += (
            f" From episode to episode the difference scatters by {units.value(scatter)} (standard deviation),"
            " and such a loss has to be told from luck."
        )
    elif scatter is not None:
        said += " From episode to episode the difference did not vary at all."
    planned = certificate.number("planned_episodes")
    if planned is None:
        return said
    if planned >= _HOPELESS:
        return said + " No number of episodes would show it, going by the pilot."
    said += (
        f" That needs {units.count(planned)} episodes, computed from a pilot on other seeds before the first was played"
    )
    if episodes is not None and 0 < episodes < planned:
        return said + f"; an interim look, paid for in error probability, settled it after {units.count(episodes)}."
    return said + "."


def _outcome(certificate: Record) -> str:
    verdict = verdict_of(certificate)
    if verdict is None:
        return ""
    alpha = certificate.number("alpha")
    sure = (
        f"with {units.percent(1 - alpha)} confidence"
        if alpha is not None and 0 < alpha < 1
        else "with the stated confidence"
    )
    said = f"Measured difference: {units.value(verdict.mean)}. Its lower bound, {sure}, is {units.value(verdict.bound)}"
    if verdict.certified:
        return said + f", which is above −{units.value(verdict.margin)}: certified."
    if verdict.bound > -verdict.margin:
        return said + f", above −{units.value(verdict.margin)}, but the certificate was refused all the same."
    return said + f", not above −{units.value(verdict.margin)}: refused. A larger loss has not been ruled out."


def _advice(certificate: Record) -> str:
    if certificate.flag("certified") is not False:
        return ""
    reason = (certificate.text("reason", 600) or "").removeprefix("refused: ").rstrip(".")
    said = f"Reason given: {reason}. " if reason else ""
    verdict = verdict_of(certificate)
    if verdict is not None and verdict.mean > -verdict.margin:
        return said + "The measured loss itself is within the margin: more episodes or a larger candidate may do."
    return said + "A larger candidate, longer distillation, or a lower --keep is needed."


def figures(certificate: Record) -> list[tuple[str, str, str]]:
    """The numbers beside the verdict: name, value, what it means."""
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
                "actions that the teacher uses and the compressed policy never",
            )
        )
    return rows
