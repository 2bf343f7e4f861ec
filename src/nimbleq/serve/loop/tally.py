"""What a loop measured."""

from __future__ import annotations

from typing import Any

from nimbleq.serve.loop.histogram import Histogram

TIMES = ("wake", "jitter", "decision", "response")
"""Lateness of waking; how far a period is from its length; the decision; from the period's start to the action."""


class Tally:
    """Counted while the loop runs, without allocation; another thread may read it meanwhile.

    Attributes:
        periods: that have begun or were skipped.
        replaced: decisions that came after the deadline: the standby action was delivered in their place.
        skipped: periods that never began, because those before took too long.
        times: name → histogram; see `TIMES`.
        joules: of the processor's packages, start to end; None where it cannot be read.
        why_no_joules: then one line.
    """

    def __init__(self) -> None:
        self.periods = self.replaced = self.skipped = 0
        self.started_ns = self.ended_ns = 0
        self.times = {name: Histogram() for name in TIMES}
        self.joules: float | None = None
        self.why_no_joules = ""

    @property
    def misses(self) -> int:
        """Periods whose decision did not reach the machine in time."""
        return self.replaced + self.skipped

    def seconds(self, now_ns: int) -> float:
        """Since the start."""
        return max((self.ended_ns or now_ns) - self.started_ns, 1) / 1e9

    def line(self, now_ns: int) -> str:
        """The state in one line."""
        decision, jitter = (self.times[name].summary() for name in ("decision", "jitter"))
        return (
            f"{self.periods:,} periods at {self.periods / self.seconds(now_ns):,.1f}/s, {self.misses:,} missed; "
            f"decision p50 {decision['p50']:.3g} p99 {decision['p99']:.3g} worst {decision['worst']:.3g} µs; "
            f"jitter p99 {jitter['p99']:.3g} worst {jitter['worst']:.3g} µs"
        )

    def to_dict(self) -> dict[str, Any]:
        """JSON values; durations in microseconds."""
        seconds = self.seconds(self.ended_ns)
        decided = max(1, self.periods - self.skipped)
        return {
            "decisions": self.periods - self.skipped, "periods": self.periods, "seconds": seconds,
            "fps": self.periods / seconds, "misses": self.misses, "replaced": self.replaced, "skipped": self.skipped,
            "times_us": {name: times.summary() for name, times in self.times.items()},
            "histograms": {name: times.drawn() for name, times in self.times.items()},
            "joules_per_decision": None if self.joules is None else self.joules / decided,
            "why_no_joules": self.why_no_joules,
        }  # fmt: skip
