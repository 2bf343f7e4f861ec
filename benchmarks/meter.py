"""How many environment steps a second come from actors, for one delay of their environments after the other."""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Generator, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from benchmarks.sleeping import memory_mb, processes

CHUNK = 16
"""Steps that an actor sends at once."""
SAMPLES_PER_INSERT = 8
"""Transitions learnt from for each that is played: an update of 64 every 8 steps."""


class FinishedError(Exception):
    """All is measured."""


class Meter:
    """To be told of every arrival of steps; raises `FinishedError` after the last window.

    Args:
        folder: of the environments.
        actors: how many there are.
        delays_ms: of a step, in this order.
        seconds: of a window.
        windows: for each delay.
        others: processes with an environment that are no actors.
    """

    def __init__(
        self, folder: Path, actors: int, delays_ms: Sequence[float], seconds: float, windows: int, others: int = 0
    ) -> None:
        self.folder, self.actors, self.others = folder, actors, others
        self.rates: dict[str, list[float]] = {f"{delay:g}": [] for delay in delays_ms}
        self.memory_mb = 0.0
        self._set(delays_ms[0])
        self._measuring = self._measure(delays_ms, seconds, windows)
        next(self._measuring)

    def __call__(self, steps: float) -> None:
        """``steps`` have come so far."""
        self._measuring.send((time.perf_counter(), steps))

    def result(self) -> dict[str, Any]:
        """JSON values."""
        return {"steps_per_s": self.rates, "actor_mb": self.memory_mb}

    def _set(self, delay_ms: float) -> None:
        after = self.folder / "delay_ms.new"
        after.write_text(f"{delay_ms:g}")
        after.replace(self.folder / "delay_ms")

    def _measure(
        self, delays_ms: Sequence[float], seconds: float, windows: int
    ) -> Generator[None, tuple[float, float], None]:
        now, steps = yield
        while len(processes(self.folder)) < self.actors + self.others:
            now, steps = yield
        self.memory_mb = float(np.median([memory_mb(pid) for pid in processes(self.folder)]))
        for before, delay in zip([delays_ms[0], *delays_ms], delays_ms, strict=False):
            self._set(delay)
            # What was asked for goes by the delay before; and the first chunks come at one time.
            settled = now + 1 + 4 * CHUNK * max(before, delay) / 1_000
            while now < settled:
                now, steps = yield
            for _ in range(windows):
                start, first = now, steps
                while now - start < seconds:
                    now, steps = yield
                self.rates[f"{delay:g}"].append((steps - first) / (now - start))
        raise FinishedError


def options(purpose: str | None) -> tuple[int, list[float], float, int]:
    """``(actors, delays_ms, seconds, windows)`` of the command line of a peer."""
    os.environ.setdefault("RAY_worker_niceness", "0")  # or actors would give way to everything else on the machine
    parser = parser_of(purpose)
    args = parser.parse_args()
    return args.actors, args.delays, args.seconds, args.windows


def parser_of(purpose: str | None) -> argparse.ArgumentParser:
    """The options that all programs have."""
    parser = argparse.ArgumentParser(description=purpose)
    parser.add_argument("--actors", type=int, required=True)
    parser.add_argument("--delays", type=float, nargs="+", default=[2.0, 10.0, 50.0], metavar="MS")
    parser.add_argument("--seconds", type=float, default=4.0)
    parser.add_argument("--windows", type=int, default=5)
    return parser
