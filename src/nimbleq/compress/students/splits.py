"""One split of a decision tree: the half-space to send right that costs least."""

from __future__ import annotations

import numpy as np

from nimbleq.types import Array

_NEWTON_STEPS = 6
_RIDGE = 1e-3
"""Of the logistic regression, relative to the mean curvature."""


def split_cost(x: Array, extra: Array, split: Array) -> float:
    """Sum of ``extra`` over the rows that go right."""
    return float(extra @ goes_right(x, split))


def goes_right(x: Array, split: Array) -> Array:
    """``bool[K]`` where ``w·x > t`` of ``split = (w, −t)``."""
    right: Array = x @ split[:-1] + split[-1] > 0
    return right


def fit_split(x: Array, extra: Array, start: Array | None, sweeps: int, oblique: bool) -> Array:
    """The split ``(w, −t)`` that sends right what is cheaper there: least Σ ``extra`` over the right side.

    The better of ``start`` and of a logistic regression weighted by |extra| (without ``oblique``: of the best split on
    one feature); then each coefficient in turn moves to where the sum is least, exactly (OC1, Murthy, Kasif &
    Salzberg 1994).

    Args:
        x: ``float64[K, F]``, standardised.
        extra: ``float64[K]`` what sending a row right costs more than sending it left; negative where it is cheaper.
        start: a split to improve.
        sweeps: over all coefficients; without ``oblique`` there are none.
    """
    candidates = [] if start is None else [start]
    candidates.append(_logistic_split(x, extra) if oblique else _axis_split(x, extra))
    costs = [split_cost(x, extra, split) for split in candidates]
    best, cost = candidates[int(np.argmin(costs))], min(costs)
    for _ in range(sweeps if oblique else 0):
        before = cost
        for k in range(len(best)):
            best, cost = _move(x, extra, best, cost, k)
        if cost >= before:
            break
    return best


def best_step(position: Array, change: Array) -> tuple[float, float]:
    """Where a sum is least that changes by ``change[i]`` as one passes ``position[i]`` from below.

    Returns:
        Least change (0 before the first), and the middle of the interval where it is.
    """
    order = np.argsort(position, kind="stable")
    where, total = position[order], np.concatenate([[0.0], np.cumsum(change[order])])
    # Between equal positions one cannot stand.
    free = np.concatenate([[True], where[1:] > where[:-1], [True]])
    total = np.where(free, total, np.inf)
    at = int(total.argmin())
    if at == 0:
        return 0.0, float(where[0] - 1.0)
    if at == len(where):
        return float(total[at]), float(where[-1] + 1.0)
    return float(total[at]), float(0.5 * (where[at - 1] + where[at]))


def _axis_split(x: Array, extra: Array) -> Array:
    """The best split on one feature, its larger values to the right."""
    # Raising t takes rows off the right side, from the smallest up.
    steps = [best_step(column, -extra) for column in x.T]
    feature = int(np.argmin([change for change, _ in steps]))
    split = np.zeros(x.shape[1] + 1)
    split[feature], split[-1] = 1.0, -steps[feature][1]
    return split


def _logistic_split(x: Array, extra: Array) -> Array:
    """Weighted logistic regression by Newton's method, with the threshold that costs least along its direction."""
    weight = np.abs(extra) / max(float(np.abs(extra).mean()), 1e-30)
    target = np.where(extra < 0, 1.0, 0.0)
    wide = np.concatenate([x, np.ones((len(x), 1))], axis=1)
    beta = np.zeros(wide.shape[1])
    for _ in range(_NEWTON_STEPS):
        p = 1 / (1 + np.exp(-np.clip(wide @ beta, -30, 30)))
        curvature = (wide * (weight * p * (1 - p))[:, None]).T @ wide
        ridge = _RIDGE * float(np.trace(curvature)) / len(beta) + 1e-9
        gradient = wide.T @ (weight * (target - p)) - ridge * beta
        step = np.linalg.solve(curvature + ridge * np.eye(len(beta)), gradient)
        beta += step * min(1.0, 5.0 / max(float(np.abs(step).max()), 1e-30))
    size = float(np.linalg.norm(beta[:-1]))
    if size < 1e-12:
        return beta
    beta /= size
    beta[-1] = -best_step(x @ beta[:-1], -extra)[1]
    return beta


def _move(x: Array, extra: Array, split: Array, cost: float, k: int) -> tuple[Array, float]:
    """``split`` with its coefficient ``k`` (the last: the threshold) where the sum is least."""
    column = x[:, k] if k < x.shape[1] else np.ones(len(x))
    rest = x @ split[:-1] + split[-1] - column * split[k]
    moves = column != 0
    if not moves.any():
        return split, cost
    # A row goes right where rest + v·column > 0: above −rest/column if its column is positive, below it otherwise.
    change, v = best_step(-rest[moves] / column[moves], (extra * np.sign(column))[moves])
    least = change + float(extra[moves & (column < 0)].sum()) + float(extra[~moves & (rest > 0)].sum())
    if least >= cost - 1e-12 * abs(cost):
        return split, cost
    moved = split.copy()
    moved[k] = v
    size = float(np.linalg.norm(moved[:-1]))
    moved = moved / size if size > 1e-9 else moved
    # Rounding may have put rows on the other side of a tie.
    checked = split_cost(x, extra, moved)
    return (moved, checked) if checked < cost else (split, cost)
