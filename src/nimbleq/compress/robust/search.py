"""Branch and bound: does any input of a box have unsafe outputs? The reference engine, in numpy.

A batch of boxes is bounded at once. A box is done when no case is possible in it any more. Corners that the bounds
point to are tried as witnesses. Any other box is halved along the input with the largest ``|slope|·width``.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from nimbleq.compress.robust.bounds import backward, relax
from nimbleq.compress.robust.network import UNIT_ROUNDOFF, Network, evaluate
from nimbleq.types import Array

UNSAT, SAT, UNKNOWN = "unsat", "sat", "unknown"
_SAMPLES = 256
_BATCH = 128
_CELLS = 1 << 21
"""Most numbers in one array of factors."""


@dataclass(frozen=True, eq=False)
class Question:
    """Is there an input in a box whose outputs ``y`` satisfy all rows of any one case: ``rows·y ≤ bounds``?

    Attributes:
        low, high: float64 ``[n]``.
        rows: float64 ``[R, A]``.
        bounds: float64 ``[R]``.
        case: ``int64[R]`` the case that each row belongs to, 0 … C − 1.
    """

    low: Array
    high: Array
    rows: Array
    bounds: Array
    case: Array

    @property
    def cases(self) -> int:
        """Their number ``C``."""
        return int(self.case.max()) + 1


@dataclass(frozen=True, eq=False)
class Limits:
    """When to give up.

    Attributes:
        seconds: of time.
        boxes: of work; the compiled engine gives up sooner where the share of the volume that is settled by then
            foretells that many more would be needed.
        careful: a witness must hold beyond any rounding of any float32 engine; else in real arithmetic.
    """

    seconds: float = 60.0
    boxes: int = 1 << 40
    careful: bool = False


@dataclass(frozen=True, eq=False)
class Answer:
    """Attributes:
    verdict: ``unsat``: no input does, on any engine; ``sat``: the witness does; ``unknown``: limits were reached.
    witness: float64 ``[n]`` with ``sat``.
    boxes: how many were bounded.
    """

    verdict: str
    witness: Array | None
    boxes: int


class Engine(Protocol):
    """Answers a `Question` about a `Network`."""

    def __call__(self, network: Network, question: Question, limits: Limits) -> Answer:
        """The answer."""
        ...


def search(network: Network, question: Question, limits: Limits) -> Answer:
    """The answer; see `Engine`."""
    deadline = time.monotonic() + limits.seconds
    judge = _Judge(network, question, limits.careful)
    low, high = question.low[None], question.high[None]
    rng = np.random.default_rng(0)
    shots = low + rng.random((_SAMPLES, network.inputs)) * (high - low)
    if judge.try_points(_snapped(network, np.concatenate([(low + high) / 2, shots]), low, high)):
        return Answer(SAT, judge.witness, 0)
    cases = question.cases
    widest = max(len(question.rows), *(2 * size for size in network.sizes()))
    batch = int(max(1, min(_BATCH, _CELLS // (widest * max(network.sizes())))))
    stack, boxes = [(low, high, np.ones((1, cases), bool))], 0
    undecided = False
    rows, constant = network.scattered(question.rows), -question.bounds
    while stack:
        low, high, open_cases = _joined(stack, batch)
        boxes += len(low)
        bounded = backward(network, relax(network, low, high), low, high, rows, constant)
        for case in range(cases):
            open_cases[:, case] &= ~(bounded.lower[:, question.case == case] > 0).any(axis=1)
        left = open_cases.any(axis=1)
        low, high, open_cases = low[left], high[left], open_cases[left]
        slopes, lower = bounded.slopes[left], bounded.lower[left]
        if not len(low):
            continue
        # The row of an open case that is closest to making it impossible: follow that one.
        useful = np.where(open_cases[:, question.case], lower, -np.inf)
        slope = slopes[np.arange(len(low)), useful.argmax(axis=1)]
        corner = _snapped(network, np.where(slope > 0, low, high), low, high)
        if judge.try_points(np.concatenate([corner, _snapped(network, (low + high) / 2, low, high)])):
            return Answer(SAT, judge.witness, boxes)
        points = ((high - low) <= _finest(network, low, high)).all(axis=1)
        undecided |= bool(points.any())
        low, high, open_cases, slope = (array[~points] for array in (low, high, open_cases, slope))
        if boxes >= limits.boxes or time.monotonic() > deadline:
            return Answer(UNKNOWN, None, boxes)
        if len(low):
            stack += _halved(network, low, high, open_cases, slope)
    return Answer(UNKNOWN if undecided else UNSAT, None, boxes)


class _Judge:
    """Tries points as witnesses.

    Attributes:
        witness: the first that was found.
    """

    def __init__(self, network: Network, question: Question, careful: bool) -> None:
        self.network, self.question, self.careful = network, question, careful
        self.witness: Array | None = None

    def try_points(self, points: Array) -> bool:
        """Whether a witness is among ``points [B, n]``."""
        outputs, errors = evaluate(self.network, points)
        excess = outputs @ self.question.rows.T - self.question.bounds
        doubt = (errors if self.careful else 0 * errors) @ np.abs(self.question.rows).T
        for case in range(self.question.cases):
            own = self.question.case == case
            holds = (excess[:, own] + doubt[:, own] <= 0).all(axis=1)
            if holds.any():
                self.witness = points[holds.argmax()]
                return True
        return False


def _snapped(network: Network, points: Array, low: Array, high: Array) -> Array:
    """Points that the network can be given: integers, or float32 numbers within the box where there are any."""
    if network.integer:
        return np.clip(np.rint(points), low, high)
    single = points.astype(np.float32).astype(np.float64)
    return np.asarray(np.clip(single, low, high))


def _finest(network: Network, low: Array, high: Array) -> Array:
    """Width of a box that is not halved any more: a point of an exact network, else about the rounding of an input."""
    if network.exact:
        return np.zeros_like(low)
    return np.asarray(np.maximum(UNIT_ROUNDOFF * np.maximum(np.abs(low), np.abs(high)), 1e-30))


Box = tuple[Array, Array, Array]


def _joined(stack: list[Box], batch: int) -> Box:
    """The last boxes of the stack, about ``batch``."""
    taken = [stack.pop()]
    while stack and sum(len(part[0]) for part in taken) + len(stack[-1][0]) <= batch:
        taken.append(stack.pop())
    low, high, cases = (np.concatenate(parts) for parts in zip(*taken, strict=True))
    if len(low) > batch:
        stack.append((low[batch:], high[batch:], cases[batch:]))
        low, high, cases = low[:batch], high[:batch], cases[:batch]
    return low, high, cases


def _halved(network: Network, low: Array, high: Array, cases: Array, slope: Array) -> list[Box]:
    width = high - low
    width[width <= _finest(network, low, high)] = 0.0
    score = np.abs(slope) * width
    flat = score.max(axis=1) <= 0
    score[flat] = width[flat]
    at = score.argmax(axis=1)
    rows = np.arange(len(low))
    cut = 0.5 * (low[rows, at] + high[rows, at])
    single = cut.astype(np.float32).astype(np.float64)
    cut = np.where((single > low[rows, at]) & (single < high[rows, at]), single, cut)
    left_high, right_low = high.copy(), low.copy()
    left_high[rows, at] = np.floor(cut) if network.integer else cut
    right_low[rows, at] = np.floor(cut) + 1 if network.integer else cut
    return [(low, left_high, cases), (right_low, high, cases.copy())]
