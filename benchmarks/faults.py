"""The test bench of the guard: the same faults for every implementation, and where each ends.

A trial is a stretch of a clean episode in which one sensor fails for some periods, or nothing comes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Self

import numpy as np

from nimbleq.deploy.periods import Periods
from nimbleq.deploy.runtime import Runtime
from nimbleq.graph.graph import Graph
from nimbleq.graph.guard import Guard
from nimbleq.graph.guard_state import GuardState
from nimbleq.graph.interpret import GraphPolicy
from nimbleq.types import Array

LEAD, AFTER, LONGEST = 4, 3, 5
"""Periods before the fault and after it; of the longest fault."""
Change = Callable[[Array, Array, int, np.random.Generator, Array], Array | None]
"""``(clean, before, feature, rng, span) → what comes``; None: nothing does."""


def spike(times: float) -> Change:
    """The sensor jumps by so many spans of what it showed, up or down."""

    def change(clean: Array, before: Array, feature: int, rng: np.random.Generator, span: Array) -> Array:
        obs = clean.copy()
        obs[feature] += np.float32(times * span[feature] * rng.choice((-1.0, 1.0)))
        return obs

    return change


def value(give: Callable[[Array, int], float]) -> Change:
    """The sensor says something else."""

    def change(clean: Array, before: Array, feature: int, rng: np.random.Generator, span: Array) -> Array:
        obs = clean.copy()
        obs[feature] = give(before, feature)
        return obs

    return change


FAULTS: dict[str, Change] = {
    "NaN": value(lambda before, feature: np.nan),
    "infinity": value(lambda before, feature: np.inf),
    "missing or late": lambda *_: None,
    "stuck": value(lambda before, feature: float(before[feature])),
    "dead: zero": value(lambda before, feature: 0.0),
    "spike of 10 spans": spike(10),
    "spike of 1 span": spike(1),
    "spike of 1/3 span": spike(1 / 3),
    "spike of 1/10 span": spike(1 / 10),
}
SEEN = ("NaN", "infinity", "missing or late", "stuck", "spike of 10 spans", "spike of 1 span")
"""Those that a guard has to see: the others may lie inside of the envelope."""


@dataclass(frozen=True, eq=False)
class Bench:
    """Attributes:
    periods: of all trials, one after the other, with what the reference's guard makes of them.
    faulty: ``bool[N]`` a fault was there.
    stuck: ``bool[N]`` it was a stuck sensor, which is seen when it stays as it never did in visited states.
    should: ``int64[N]`` the action without the fault.
    """

    periods: Periods
    faulty: Array
    stuck: Array
    should: Array

    @classmethod
    def of(
        cls, graph: Graph, guard: Guard, episodes: Sequence[Array], features: int, count: int,
        kinds: Sequence[str] = SEEN,
    ) -> Self:  # fmt: skip
        """``count`` faults of ``kinds`` by turns, at random times of clean ``episodes``.

        Args:
            features: the first of the observation's numbers, of which one fails.
        """
        assert guard.envelope is not None
        rng, span = np.random.default_rng(0), guard.envelope.high - guard.envelope.low
        obs, came, begins, faulty, stuck, clean = [], [], [], [], [], []
        long = [episode for episode in episodes if len(episode) > LEAD + LONGEST + AFTER]
        for index in range(count):
            change, length = FAULTS[kinds[index % len(kinds)]], int(rng.integers(1, LONGEST + 1))
            episode, feature = long[int(rng.integers(len(long)))], int(rng.integers(features))
            start = int(rng.integers(0, len(episode) - LEAD - length - AFTER))
            part = episode[start : start + LEAD + length + AFTER]
            for time, one in enumerate(part):
                bad = LEAD <= time < LEAD + length
                given = change(one, part[LEAD - 1], feature, rng, span) if bad else one
                obs.append(np.zeros_like(one) if given is None else given)
                came.append(given is not None)
                begins.append(time == 0)
                faulty.append(bad)
                stuck.append(bad and kinds[index % len(kinds)] == "stuck")
                clean.append(one)
        row, state, found = np.zeros(1, np.int64), GuardState(guard, graph), []
        for one, here, first in zip(obs, came, begins, strict=True):
            if first:
                state.reset()
            standby = state.standby(row)[0]
            action, faults = state.step(row, one[None], np.array([here]))
            found.append((standby, action[0], faults[0]))
        answers = np.array(found, np.int64).T
        periods = Periods(
            np.stack(obs), np.array(came), np.array(begins), None, np.zeros(len(obs), bool), *answers
        )  # fmt: skip
        return cls(periods, np.array(faulty), np.array(stuck), GraphPolicy(graph)(np.stack(clean)))

    def ends(self, action: Array, faults: Array) -> dict[str, Any]:
        """How an implementation's answers end, period by period of the faults, and where they are not the reference's.

        Its answers may be fewer: of the first periods.
        """
        part = slice(len(action))
        bad, should = self.faulty[part], self.should[part]
        right, fallback = action == should, (faults != 0) & (action == self.periods.action[part])
        differs = (action != self.periods.action[part]) | (faults != self.periods.faults[part])
        before, unseen = self.periods.begins[part], bad & ~right & ~fallback
        still = unseen & self.stuck[part]
        by_fault = np.bincount(np.cumsum(before)[still], minlength=1)
        return {
            "faults": int(self._started[part].sum()), "periods": len(action), "faulty": int(bad.sum()),
            "right": int((bad & right).sum()), "fallback": int((bad & ~right & fallback).sum()),
            "still": int(still.sum()), "still_faults": int((by_fault > 0).sum()), "longest": int(by_fault.max()),
            "neither": int((unseen & ~self.stuck[part]).sum()),
            "differs": int(differs.sum()), "runs": int(before.sum()),
        }  # fmt: skip

    @property
    def _started(self) -> Array:
        return self.faulty & ~np.roll(self.faulty, 1)


def in_python(graph: Graph, guard: Guard, engine: str) -> Callable[[Periods], tuple[Array, Array]]:
    """`nimbleq.Runtime` with an engine."""
    stream = Runtime(graph, engine, guard=guard).stream()

    def run(periods: Periods) -> tuple[Array, Array]:
        found = np.empty((2, len(periods.obs)), np.int64)
        for at, obs in enumerate(periods.obs):
            if periods.begins[at]:
                stream.reset()
            found[:, at] = stream.act(obs if periods.came[at] else None), stream.bits
        return found[0], found[1]

    return run


@contextmanager
def over_http(port: int, name: str) -> Iterator[Callable[[Periods], tuple[Array, Array]]]:
    """A server, asked by Triton's client: each trial is a sequence; without inputs no observation came."""
    import tritonclient.http as triton

    client = triton.InferenceServerClient(f"localhost:{port}")

    def run(periods: Periods) -> tuple[Array, Array]:
        found, sequence = np.empty((2, len(periods.obs)), np.int64), 0
        for at, obs in enumerate(periods.obs):
            sequence += int(periods.begins[at])
            inputs = []
            if periods.came[at]:
                inputs = [triton.InferInput("obs", list(obs.shape), "FP32")]
                inputs[0].set_data_from_numpy(obs)
            answer = client.infer(name, inputs, sequence_id=sequence, sequence_start=bool(periods.begins[at]))
            found[:, at] = answer.as_numpy("action")[0], answer.as_numpy("faults")[0]
        return found[0], found[1]

    try:
        yield run
    finally:
        client.close()
