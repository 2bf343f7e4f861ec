"""The frontier: every candidate that was tried, size against return against latency."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from nimbleq.report import units
from nimbleq.report.read import Record, RunData

Status = Literal["failed", "passed", "refused", "chosen", "teacher", "linear", "scratch"]
MOST = 300
"""Candidates drawn at most."""

LOOKS: dict[Status, tuple[str, str]] = {
    "failed": ("ring", "failed the screening"),
    "passed": ("circle", "passed, but larger"),
    "refused": ("cross", "certificate refused"),
    "chosen": ("star", "chosen"),
    "teacher": ("square", "teacher"),
    "linear": ("up", "linear policy"),
    "scratch": ("down", "same size, from scratch"),
}
"""Marker and meaning of each status. The shape alone tells them apart; the colour repeats it."""


@dataclass(frozen=True)
class Candidate:
    """One policy of the plot; ``ci`` is empty or its 95 % interval."""

    name: str
    status: Status
    size_bytes: float
    returns: float
    ci: tuple[float, ...] = ()
    macs: float | None = None
    latency_us: float | None = None
    detail: str = ""

    def tip(self) -> str:
        """The text under the pointer."""
        lines = [
            self.name + (f" ({LOOKS[self.status][1]})" if self.name != LOOKS[self.status][1] else ""),
            f"{units.size(self.size_bytes)}" + (f", {units.count(self.macs)} MACs" if self.macs is not None else ""),
            f"return {units.value(self.returns)}" + (f" ({units.interval(self.ci)})" if self.ci else ""),
            f"p50 {units.latency(self.latency_us)}" if self.latency_us is not None else "",
            self.detail,
        ]
        return "\n".join(entry for entry in lines if entry)


@dataclass(frozen=True)
class Frontier:
    """The data of the plot.

    Attributes:
        candidates: teacher and baselines included, least important first (drawn in that order).
        random_return: of random play, or None.
        margin_return: teacher minus the margin: the chosen policy must provably lie above, or None.
        hidden: candidates that could not be drawn (no size or return) or were too many.
    """

    candidates: tuple[Candidate, ...]
    random_return: float | None
    margin_return: float | None
    hidden: int


def frontier_of(data: RunData) -> Frontier | None:
    """The frontier of a run, or None if nothing was compressed."""
    found = data.compress
    raw = found.records("candidates")
    drawable = [c for c in (_candidate(record) for record in raw) if c is not None]
    if not drawable:
        return None
    baselines = found.record("baselines")
    named: tuple[Status, ...] = ("linear", "scratch")
    fixed = [_candidate(baselines.record(kind), kind) for kind in named]
    drawn = sorted(drawable, key=lambda c: list(LOOKS).index(c.status))[-MOST:]
    return Frontier(
        candidates=(*drawn, *(c for c in [*fixed, _teacher(data)] if c is not None)),
        random_return=found.number("random_return_mean"),
        margin_return=margin_return(found),
        hidden=len(raw) - len(drawn),
    )


def margin_return(compress: Record) -> float | None:
    """``teacher − δ`` with ``δ = (1 − keep)·(teacher − random)``."""
    teacher, random, keep = (compress.number(key) for key in ("teacher_return_mean", "random_return_mean", "keep"))
    return None if teacher is None or random is None or keep is None else teacher - (1 - keep) * (teacher - random)


def _candidate(record: Record, kind: Status | None = None) -> Candidate | None:
    size_bytes, returns = record.number("size_bytes"), record.number("return_mean")
    if size_bytes is None or size_bytes <= 0 or returns is None:
        return None
    stated = record.text("status")
    status = kind or next((s for s in LOOKS if s == stated), None) or "failed"
    agreement, regret, episodes = (record.number(key) for key in ("agreement", "regret", "episodes"))
    detail = [
        f"same action as the teacher {units.percent(agreement)}" if agreement is not None else "",
        f"regret {units.value(regret)}" if regret is not None else "",
        f"{units.count(episodes)} episodes" if episodes is not None else "",
    ]
    return Candidate(
        name=LOOKS[kind][1] if kind else record.text("name") or "candidate",
        status=status,
        size_bytes=size_bytes,
        returns=returns,
        ci=record.numbers("return_ci95") if len(record.numbers("return_ci95")) == 2 else (),
        macs=record.number("macs"),
        latency_us=record.number("latency_us"),
        detail=", ".join(part for part in detail if part),
    )


def _teacher(data: RunData) -> Candidate | None:
    size_bytes, returns = (data.compress.number(key) for key in ("teacher_size_bytes", "teacher_return_mean"))
    if size_bytes is None or size_bytes <= 0 or returns is None:
        return None
    return Candidate("teacher", "teacher", size_bytes, returns, macs=data.compress.number("teacher_macs"))


def pareto(candidates: Sequence[Candidate]) -> list[Candidate]:
    """Those that no smaller candidate beats, by size."""
    best: list[Candidate] = []
    for candidate in sorted(candidates, key=lambda c: (c.size_bytes, -c.returns)):
        if not best or candidate.returns > best[-1].returns:
            best.append(candidate)
    return best


def latency_note(frontier: Frontier) -> str:
    """What marker size means, or nothing if latencies were not measured."""
    known = sorted(c.latency_us for c in frontier.candidates if c.latency_us is not None and c.latency_us > 0)
    if len(set(known)) < 2:
        return ""
    return f" Larger marks decide more slowly: {units.latency(known[0])} to {units.latency(known[-1])}."
