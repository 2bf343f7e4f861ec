"""The loop itself."""

from __future__ import annotations

import gc
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

from nimbleq.errors import ConfigError
from nimbleq.serve.loop.clock import Sleeper, now_ns, prompt_wakes, take_core, take_priority
from nimbleq.serve.loop.energy import Meter
from nimbleq.serve.loop.machine import Machine
from nimbleq.serve.loop.tally import Tally
from nimbleq.serve.loop.watchdog import Watchdog

_SWITCH_SECONDS = 5e-5
"""After so long another thread gives the interpreter up to the loop that has woken."""
_MOST_TOLD = 1_000
"""Skipped periods that the guard is told of, at most."""


class Stream(Protocol):
    """A guarded policy; see `nimbleq.deploy.guarded.Guarded`."""

    def reset(self) -> None: ...
    def act(self, obs: Any, mask: Any = None) -> Any: ...
    def standby(self, held: bool = True) -> Any: ...
    def late(self) -> None: ...


@dataclass(frozen=True)
class Settings:
    """How a loop runs.

    Attributes:
        hz: periods a second.
        deadline_us: time in a period after which a decision is late (None: half of the period).
        periods: after which it ends (None: when it is stopped).
        priority: of SCHED_FIFO (None: as the process was started).
        core: that the loop is pinned to (None: any).
    """

    hz: float
    deadline_us: float | None = None
    periods: int | None = None
    priority: int | None = None
    core: int | None = None

    @property
    def period_ns(self) -> int:
        """Length of a period."""
        return round(1e9 / self.hz)

    @property
    def deadline_ns(self) -> int:
        """Time in a period after which a decision is late."""
        return self.period_ns // 2 if self.deadline_us is None else round(self.deadline_us * 1e3)

    def check(self) -> None:
        """Raise `ConfigError` for what no loop can keep."""
        if not 0.01 <= self.hz <= 100_000:
            raise ConfigError(f"--hz must be 0.01 … 100,000, not {self.hz:g}")
        if not 0 < self.deadline_ns <= self.period_ns:
            raise ConfigError(
                f"--deadline-us must be above 0 and at most the period, {self.period_ns / 1e3:g}, "
                f"not {self.deadline_us}"
            )


def run_loop(
    stream: Stream, machine: Machine, settings: Settings, tally: Tally,
    stopped: Callable[[], bool] = lambda: False, ended: Callable[[float], None] = lambda total: None,
) -> Tally:  # fmt: skip
    """Sense, decide and act, ``settings.hz`` times a second, in this thread.

    Args:
        stream: decides; it begins anew here.
        tally: counts; other threads may read it.
        stopped: asked once a period.
        ended: told the return of each episode that ``machine.finished`` reports.

    Raises:
        ConfigError: the rate, core or priority cannot be had.
        Exception: what the machine raises ends the loop.
    """
    settings.check()
    if settings.core is not None:
        take_core(settings.core)
    if settings.priority is not None:
        take_priority(settings.priority, above=1)  # of the watchdog, which has to interrupt what takes too long
    mask_of, finished = getattr(machine, "mask", None), getattr(machine, "finished", None)
    sleep, meter, period = Sleeper(), Meter.here(), settings.period_ns
    before, tally.why_no_joules = meter.read(), meter.why_not
    wake, jitter, decision, response = (tally.times[name].add for name in ("wake", "jitter", "decision", "response"))
    switch = sys.getswitchinterval()
    stream.reset()
    gc.collect()
    gc.freeze()
    gc.disable()
    sys.setswitchinterval(_SWITCH_SECONDS)
    start = tally.started_ns = now_ns() + max(2 * period, 2_000_000)
    watchdog = Watchdog(machine, start, period, settings.deadline_ns)
    watchdog.start(stream.standby(), stream.standby(held=False))
    if settings.priority is not None:
        take_priority(settings.priority)
    index, last = 0, start - period
    limit = sys.maxsize if settings.periods is None else settings.periods
    try:
        with prompt_wakes():
            while index < limit and not stopped() and watchdog.failure is None:
                due = start + index * period
                sleep(due)
                woke = now_ns()
                if woke < due:  # a signal
                    continue
                first = stream.standby()
                watchdog.arm(index, first, stream.standby(held=False))
                obs = machine.read()
                mask = None if mask_of is None or obs is None else mask_of()
                began = now_ns()
                action = stream.act(obs, mask)
                decided = now_ns()
                if not watchdog.deliver(index, action, first):
                    stream.late()
                    tally.replaced += 1
                done = now_ns()
                wake(woke - due)
                jitter(abs(woke - last - period))
                decision(decided - began)
                response(done - due)
                if finished is not None and (total := finished()) is not None:
                    stream.reset()
                    ended(total)
                last, index = woke, index + 1
                tally.periods = index
                if done >= due + 2 * period:
                    index = _skip(stream, tally, index, min((now_ns() - start) // period, limit))
                    last = start + (index - 1) * period
    finally:
        watchdog.stop()
        tally.ended_ns = max(now_ns(), tally.started_ns + 1)
        sys.setswitchinterval(switch)
        gc.enable()
        gc.unfreeze()
        tally.joules = meter.joules(before, meter.read()) if meter.zones else None
    if watchdog.failure is not None:
        raise watchdog.failure
    return tally


def _skip(stream: Stream, tally: Tally, index: int, upto: int) -> int:
    """Pass over periods that are gone, which the watchdog has acted in: the guard gets no observation in them."""
    gone = max(0, upto - index)
    for _ in range(min(gone, _MOST_TOLD)):
        stream.act(None)
    tally.skipped += gone
    tally.periods = index + gone
    return index + gone
