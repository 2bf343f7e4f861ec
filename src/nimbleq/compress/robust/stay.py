"""For visited states: does the action stay as it is in the whole box around them?

A box is ``± radius`` standard deviations of each feature. Only legal actions compete. For an integer policy the answer
is exact; for a float policy it holds on every engine, whatever the order of its sums.
"""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np

from nimbleq.compress.robust.native import engine, lower_bounds
from nimbleq.compress.robust.observe import observed
from nimbleq.compress.robust.search import SAT, UNKNOWN, UNSAT, Answer, Limits, Question
from nimbleq.compress.robust.subject import Subject, subject_of
from nimbleq.compress.states import States, actions
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Int
from nimbleq.types import Array, Tick, no_tick

STAYS, CHANGES, OPEN = 1, -1, 0
"""Verdicts about a state: proven for the whole box; an observation in the box gets another action; not decided."""
_BOXES = (32, 1_024, 1 << 40)
"""Boxes that one state may take, pass by pass: the easy ones first."""
_CHUNK = 64
_PLAIN_CHUNK = 256


@dataclass(frozen=True, eq=False)
class Stay:
    """Attributes:
    action: ``int64[K]`` at each state.
    verdict: ``int8[K]`` `STAYS`, `CHANGES` or `OPEN`.
    """

    action: Array
    verdict: Array

    def share(self, verdict: int, of: int | None = None) -> float:
        """Share of the states (with the action ``of``) that have this verdict; 0 where there are none."""
        chosen = self.verdict if of is None else self.verdict[self.action == of]
        return float((chosen == verdict).mean()) if len(chosen) else 0.0


def deviations(obs: Array) -> Array:
    """``float64[F]`` standard deviation of each feature of ``obs [K, *O]``: the unit of a radius."""
    return np.asarray(obs.reshape(len(obs), -1).std(axis=0, dtype=np.float64))


def boxes_around(obs: Array, deviation: Array, radius: float, graph: Graph) -> tuple[Array, Array]:
    """Ends ``[K, F]`` of the boxes: float32, or int32 where the observation is whole numbers."""
    flat = obs.reshape(len(obs), -1).astype(np.float64)
    low, high = flat - radius * deviation, flat + radius * deviation
    kind = graph.obs_type.qtype
    if isinstance(kind, Int):
        ends = np.maximum(np.ceil(low), kind.low), np.minimum(np.floor(high), kind.high)
        return ends[0].astype(np.int32), ends[1].astype(np.int32)
    single_low, single_high = low.astype(np.float32), high.astype(np.float32)
    return np.minimum(single_low, obs.reshape(len(obs), -1)), np.maximum(single_high, obs.reshape(len(obs), -1))


def stays(graph: Graph, states: States, deviation: Array, radius: float, limits: Limits, tick: Tick = no_tick) -> Stay:
    """The verdict for every state.

    Args:
        graph: the policy.
        deviation: ``float64[F]`` see `deviations`.
        limits: seconds for all states, and boxes for any one; what is not decided then stays `OPEN`.

    Raises:
        UnsupportedOpError: an op has no bounds.
    """
    subject, search = subject_of(graph), engine()
    chosen = actions(graph, states)
    ends = boxes_around(states.obs, deviation, radius, graph)
    low, high = _inputs(subject, *ends)
    deadline = time.monotonic() + limits.seconds
    verdict: Array = np.zeros(len(states), np.int8)
    done = 0

    def decide(index: int, boxes: int) -> int:
        question = flip(subject, low[index], high[index], int(chosen[index]), _legal(states, index, graph.actions))
        if question is None:
            return STAYS
        for careful in (False, True):
            left = deadline - time.monotonic()
            if left <= 0:
                return OPEN
            found = search(subject.network, question, Limits(left, boxes, careful))
            if found.verdict != SAT or subject.whole:
                break
            assert found.witness is not None
            obs = observed(subject, found.witness, (ends[0][index], ends[1][index]))
            if obs is not None and _acts(subject, obs, states, index) != chosen[index]:
                break
            found = Answer(UNKNOWN, None, found.boxes)
        return {UNSAT: STAYS, SAT: CHANGES}.get(found.verdict, OPEN)

    with ThreadPoolExecutor(os.cpu_count() or 1) as pool:
        parts = np.array_split(np.arange(len(states)), max(1, len(states) // _PLAIN_CHUNK))
        plain = partial(_plainly_stay, subject, states, chosen, low, high, deadline)
        verdict[np.concatenate(list(pool.map(plain, parts)))] = STAYS
        for boxes in _BOXES:
            remaining = np.flatnonzero(verdict == OPEN)
            for part in np.array_split(remaining, max(1, len(remaining) // _CHUNK)):
                verdict[part] = list(pool.map(partial(decide, boxes=min(boxes, limits.boxes)), part))
                done = int((verdict != OPEN).sum())
                tick(done, len(states), f"{(verdict == STAYS).sum() / max(done, 1):.0%} stay")
            if boxes >= limits.boxes or time.monotonic() > deadline:
                break
    return Stay(chosen, verdict)


def _plainly_stay(
    subject: Subject, states: States, chosen: Array, low: Array, high: Array, deadline: float, part: Array
) -> Array:
    """Those of the states ``part`` that one bound of the whole box settles, for all states of an action at once."""
    settled, count = [part[:0]], subject.graph.actions
    for action in np.unique(chosen[part]).tolist():
        if time.monotonic() > deadline:
            break
        own = part[chosen[part] == action]
        rows = -np.eye(count)
        rows[:, action] += 1.0
        found = lower_bounds(subject.network, low[own], high[own], rows)
        rivals = np.ones((len(own), count), bool) if states.mask is None else states.mask[own].astype(bool)
        rivals[:, action] = False
        settled.append(own[(~rivals | (found > _ties(subject, action))).all(axis=1)])
    return np.concatenate(settled)


def _ties(subject: Subject, action: int) -> Array:
    """``float64[A]`` what another action's value may be short of that of ``action``, and still not be taken.

    Ties go to the lowest index; in float they count as a change.
    """
    return np.where(subject.whole & (np.arange(subject.graph.actions) > action), -1.0, 0.0)


def _acts(subject: Subject, obs: Array, states: States, index: int) -> int:
    """The action at ``obs [1, F]`` among those that are legal in the state ``index``."""
    mask = None if states.mask is None else states.mask[index : index + 1]
    return int(actions(subject.graph, States(obs.reshape(1, *states.obs.shape[1:]), mask))[0])


def _legal(states: States, index: int, count: int) -> Array:
    return np.ones(count, bool) if states.mask is None else states.mask[index].astype(bool)


def _inputs(subject: Subject, low: Array, high: Array) -> tuple[Array, Array]:
    """The boxes of the network's inputs, float64 ``[K, n]``."""
    if subject.levels is None:
        return low.astype(np.float64), high.astype(np.float64)
    ends = [subject.levels.of(end.astype(np.float32)).astype(np.float64) for end in (low, high)]
    return np.minimum(*ends), np.maximum(*ends)


def flip(subject: Subject, low: Array, high: Array, action: int, legal: Array) -> Question | None:
    """Can another legal action be taken in the box? None if there is none."""
    others = [other for other in np.flatnonzero(legal).tolist() if other != action]
    if not others:
        return None
    rows = np.zeros((len(others), len(legal)))
    rows[:, action] = 1.0
    rows[np.arange(len(others)), others] = -1.0
    return Question(low, high, rows, _ties(subject, action)[others], np.arange(len(others)))
