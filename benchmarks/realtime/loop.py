"""`nimbleq.serve.loop` beside an empty loop: ``python -m benchmarks.realtime.loop SLICES PERIODS HZ``.

Prints what `benchmarks/realtime/loop.c` prints.
"""

from __future__ import annotations

import gc
import subprocess
import sys
import time
from typing import Any

from benchmarks.cases.loop import policy
from nimbleq.deploy.runtime import Runtime
from nimbleq.serve.loop import Settings, Tally, run_loop
from nimbleq.serve.loop.clock import Sleeper, now_ns, prompt_wakes
from nimbleq.types import Array

_TIMES = ("decision", "wake", "jitter")


class Bench:
    """Goes round in observations."""

    def __init__(self, obs: Array) -> None:
        self._obs, self._at = obs, 0

    def read(self) -> Any:
        self._at = (self._at + 1) % len(self._obs)
        return self._obs[self._at]

    def write(self, action: Any) -> None:
        self.action = action


def empty(settings: Settings) -> Tally:
    """Sleeps and wakes, and does nothing."""
    tally, sleep, period, index = Tally(), Sleeper(), settings.period_ns, 0
    start = tally.started_ns = now_ns() + 2 * period + 2_000_000
    last = start - period
    while index < (settings.periods or 0):
        due = start + index * period
        sleep(due)
        woke = now_ns()
        tally.replaced += woke > due + settings.deadline_ns
        tally.times["wake"].add(woke - due)
        tally.times["jitter"].add(abs(woke - last - period))
        last, index = woke, index + 1
        gone = min((now_ns() - start) // period, settings.periods or 0) - index
        if gone > 0:
            tally.skipped += gone
            index += gone
            last = start + (index - 1) * period
    tally.periods, tally.ended_ns = index, now_ns()
    return tally


def show(who: str, tally: Tally) -> None:
    """One line."""
    times = [
        f"{times.percentile(0.5):.0f} {times.percentile(0.999):.0f} {times.worst}"
        for times in (tally.times[name] for name in _TIMES)
    ]
    print(who, tally.periods, tally.misses, *times, flush=True)


def main(slices: int, periods: int, hz: float) -> None:
    """The loop, and the empty one in a process of its own, at the same time and on the same core."""
    graph, guard, obs = policy()
    settings = Settings(hz, periods=slices * periods)
    stream, machine = Runtime(graph, guard=guard).stream(), Bench(obs)
    command = [sys.executable, "-m", "benchmarks.realtime.loop", "empty", str(settings.periods), str(hz)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as other:
        assert other.stdin is not None
        assert other.stdout is not None
        other.stdout.readline()  # it is ready
        print("now", file=other.stdin, flush=True)
        show("loop", run_loop(stream, machine, settings, Tally()))
        print(other.stdout.read(), end="")


def beside(periods: int, hz: float) -> None:
    """The other process: it begins when it is told, about when the loop does, which collects its garbage first."""
    gc.collect()
    gc.freeze()
    gc.disable()
    print("ready", flush=True)
    sys.stdin.readline()
    time.sleep(0.1)
    with prompt_wakes():  # as the loop does
        show("empty", empty(Settings(hz, periods=periods)))


if __name__ == "__main__":
    if sys.argv[1] == "empty":
        beside(int(sys.argv[2]), float(sys.argv[3]))
    else:
        main(int(sys.argv[1]), int(sys.argv[2]), float(sys.argv[3]))
