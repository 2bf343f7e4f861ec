"""A thread that acts at the deadline of every period in which the loop has not."""

from __future__ import annotations

import threading
from typing import Any

from nimbleq.serve.loop.clock import Sleeper, now_ns, prompt_wakes
from nimbleq.serve.loop.machine import Machine

_MOST_NS = 100_000_000
"""It sleeps no longer at once, so that a slow loop can be stopped."""


class Watchdog:
    """Delivers exactly one action in each period: the loop's, or at the deadline the standby action.

    Args:
        machine: acts.
        start_ns: of period 0, a time of `now_ns`.
        period_ns, deadline_ns: length of a period, and time in it after which a decision is late.
    """

    def __init__(self, machine: Machine, start_ns: int, period_ns: int, deadline_ns: int) -> None:
        self._machine, self._start, self._period, self._deadline = machine, start_ns, period_ns, deadline_ns
        self._lock = threading.Lock()
        self._delivered = -1  # the last period that has got an action
        self._armed: tuple[int, Any, Any] = (-1, None, None)  # one value, so that the thread never sees half of it
        self._over = False
        self._thread = threading.Thread(target=self._watch, name="watchdog", daemon=True)
        self.failure: BaseException | None = None

    def start(self, first: Any, then: Any) -> None:
        """Begin; ``first`` and ``then`` as for `arm`."""
        self.arm(-1, first, then)
        self._thread.start()

    def stop(self) -> None:
        """End; returns when the thread has."""
        self._over = True
        self._thread.join()

    def arm(self, period: int, first: Any, then: Any) -> None:
        """What to do if no decision comes: ``first`` in this period, ``then`` in those after it."""
        self._armed = period, first, then

    def deliver(self, period: int, action: Any, first: Any) -> bool:
        """Act, in time; after the deadline with ``first`` in place of ``action``. Whether ``action`` was delivered."""
        with self._lock:
            if self._delivered >= period:
                return False
            in_time = now_ns() <= self._start + period * self._period + self._deadline
            self._machine.write(action if in_time else first)
            self._delivered = period
        return in_time

    def _watch(self) -> None:
        sleep, period = Sleeper(), 0
        try:
            with prompt_wakes():
                while not self._over:
                    due = self._start + period * self._period + self._deadline
                    sleep(min(due, now_ns() + _MOST_NS))
                    if now_ns() < due:
                        continue
                    if self._delivered < period and not self._over:
                        self._act(period)
                    period = max(period + 1, (now_ns() - self._start - self._deadline) // self._period + 1)
        except BaseException as error:  # noqa: BLE001 (the loop raises it: a machine that fails must stop it)
            self.failure = error

    def _act(self, period: int) -> None:
        with self._lock:
            if self._delivered < period:
                armed, first, then = self._armed
                self._machine.write(first if armed >= period else then)
                self._delivered = period
