"""A property of a policy: decided, and its witness checked by running the policy."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.robust.native import engine
from nimbleq.compress.robust.observe import observed
from nimbleq.compress.robust.search import SAT, UNKNOWN, UNSAT, Engine, Limits, Question
from nimbleq.compress.robust.subject import Subject, decided_by, subject_of
from nimbleq.compress.robust.vnnlib import Disjunct
from nimbleq.errors import GraphError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Q
from nimbleq.graph.interpret import trace
from nimbleq.graph.tensor import Int
from nimbleq.types import Array


@dataclass(frozen=True, eq=False)
class Verdict:
    """Attributes:
    verdict: ``sat``, ``unsat`` or ``unknown``.
    witness: ``[F]`` an observation in the box whose outputs are unsafe, with ``sat``.
    outputs: ``float64[A]`` the outputs there, as the interpreter computes them.
    boxes: how many were bounded.
    """

    verdict: str
    witness: Array | None
    outputs: Array | None
    boxes: int


def decide(graph: Graph, disjuncts: Sequence[Disjunct], limits: Limits, search: Engine | None = None) -> Verdict:
    """Whether any observation in the property's boxes has outputs that satisfy it.

    If the property only compares action values, and the action is the largest of integers, these are compared;
    otherwise the output ``q`` is taken.

    Args:
        graph: the policy; a mask plays no part.
        limits: for all boxes together.
        search: an engine (None: the fastest there is).

    Raises:
        UnsupportedOpError: an op has no bounds.
        GraphError: a box holds no observation of an integer input.
    """
    search = engine() if search is None else search
    name = _asked(graph, disjuncts)
    subject = subject_of(graph, name)
    boxes, start, unknown = 0, time.monotonic(), False
    for group in _by_box(disjuncts):
        if any(not len(part.rows) for part in group):  # nothing is asked of the outputs: any input will do
            obs = _inside(subject, group[0])[0][None]
            return _checked(subject, name, group, obs, boxes)
        low, high, single = _box(subject, group[0])
        question = Question(
            low, high, np.concatenate([part.rows for part in group]), np.concatenate([part.bounds for part in group]),
            np.concatenate([np.full(len(part.rows), case) for case, part in enumerate(group)]),
        )  # fmt: skip
        for careful in (False, True):
            left = limits.seconds - (time.monotonic() - start)
            answer = search(subject.network, question, Limits(max(left, 0.0), limits.boxes, careful))
            boxes += answer.boxes
            if answer.witness is None:
                break
            found = observed(subject, answer.witness, single)
            checked = None if found is None else _checked(subject, name, group, found, boxes)
            if checked is not None and checked.verdict == SAT:
                return checked
            # A witness that float32 does not confirm: look for one beyond rounding.
        unknown |= answer.verdict != UNSAT
    return Verdict(UNKNOWN if unknown else UNSAT, None, None, boxes)


def _asked(graph: Graph, disjuncts: Sequence[Disjunct]) -> str:
    """The tensor that the property speaks about."""
    chosen = decided_by(graph)
    comparisons = all(
        not part.bounds.any() and ((part.rows != 0).sum(axis=1) == 2).all() and not part.rows.sum(axis=1).any()
        for part in disjuncts
    )
    made = graph.producer(Q)
    if not comparisons or made is None or not isinstance(made.op, ops.Dequantize) or made.inputs[0] != chosen:
        return Q
    scale = made.op.scales(graph.weights)
    return chosen if scale.size == 1 and scale > 0 else Q


def _by_box(disjuncts: Sequence[Disjunct]) -> list[list[Disjunct]]:
    groups: dict[bytes, list[Disjunct]] = {}
    for part in disjuncts:
        groups.setdefault(np.concatenate([part.low, part.high]).tobytes(), []).append(part)
    return list(groups.values())


def _inside(subject: Subject, box: Disjunct) -> tuple[Array, Array]:
    """The observations that a policy can be given within a box: the first and the last, in the type of its input.

    Where no float32 number lies between the ends, it is the one closest to their middle.
    """
    kind = subject.graph.obs_type.qtype
    if isinstance(kind, Int):
        low, high = np.ceil(box.low), np.floor(box.high)
        if (low > high).any() or low.min() < kind.low or high.max() > kind.high:
            raise GraphError(f"the box holds no {kind} observation, or reaches beyond {kind.low} … {kind.high}")
        return low.astype(np.int32), high.astype(np.int32)
    low, high = box.low.astype(np.float32), box.high.astype(np.float32)
    low = np.where(low < box.low, np.nextafter(low, np.float32(np.inf)), low)
    high = np.where(high > box.high, np.nextafter(high, np.float32(-np.inf)), high)
    nearest = (0.5 * (box.low + box.high)).astype(np.float32)
    none = low > high
    return np.where(none, nearest, low), np.where(none, nearest, high)


def _box(subject: Subject, box: Disjunct) -> tuple[Array, Array, tuple[Array, Array]]:
    """The box of the network's inputs, float64, and `_inside`."""
    ends = _inside(subject, box)
    if subject.levels is not None:
        levels = subject.levels.of(np.stack(ends)).astype(np.float64)
        return levels.min(axis=0), levels.max(axis=0), ends
    if subject.network.integer:
        return ends[0].astype(np.float64), ends[1].astype(np.float64), ends
    low, high = np.minimum(box.low, ends[0]), np.maximum(box.high, ends[1])
    return low, high, ends


def _checked(subject: Subject, name: str, group: Sequence[Disjunct], obs: Array, boxes: int) -> Verdict:
    """``sat`` with this witness if the interpreter agrees."""
    shaped = obs.reshape(1, *subject.graph.obs_type.shape)
    outputs = trace(subject.graph, shaped)[name].reshape(-1).astype(np.float64)
    unsafe = any((part.rows @ outputs <= part.bounds).all() for part in group)
    return Verdict(SAT, obs[0], outputs, boxes) if unsafe else Verdict(UNKNOWN, None, None, boxes)
