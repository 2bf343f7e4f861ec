"""Growing and refining a decision tree that costs little on given states."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import combinations

import numpy as np

from nimbleq.compress.students.splits import fit_split, goes_right
from nimbleq.graph.ops import tree_depth
from nimbleq.types import Array

_PASSES = 6
_SWEEPS = 2
_GAIN = 1e-3
"""A pass that lowers the cost by a smaller share is the last."""


@dataclass(frozen=True, eq=False)
class Tree:
    """A complete tree in the order of `nimbleq.graph.ops.ObliqueTree`.

    Attributes:
        split: ``float64[N, F + 1]`` rows ``(w, −t)``: right where ``w·x − t > 0``.
        action: ``int64[N + 1]`` of the leaves.
    """

    split: Array
    action: Array

    def leaves(self, x: Array, start: int = 0) -> Array:
        """``int64[K]`` leaf that each row of ``x [K, F]`` reaches from the node ``start``."""
        node, splits = np.full(len(x), start), len(self.split)
        for _ in range(tree_depth(splits)):
            inner = np.flatnonzero(node < splits)
            if not len(inner):
                break
            rows = self.split[node[inner]]
            right = np.einsum("kf,kf->k", x[inner], rows[:, :-1]) + rows[:, -1] > 0
            node[inner] = 2 * node[inner] + 1 + right
        return node - splits

    def act(self, x: Array) -> Array:
        """``int64[K]`` actions."""
        return np.asarray(self.action[self.leaves(x)])

    def cost(self, x: Array, cost: Array) -> float:
        """Mean of ``cost [K, A]`` of the actions taken."""
        return float(cost[np.arange(len(x)), self.act(x)].mean())


def grow(x: Array, cost: Array, depth: int, oblique: bool, choose: Choose) -> Tree:
    """A tree from the root down.

    Args:
        x: ``float64[K, F]`` states, standardised.
        cost: ``float64[K, A]`` what each action costs there: the teacher's regret, which weights a state by its stake.
        depth: splits on every way.
        oblique: splits may weigh all features.
        choose: among the splits that a node could have; see `cheapest`.
    """
    splits = 2**depth - 1
    split = np.zeros((splits, x.shape[1] + 1))
    split[:, -1] = -1.0  # everything goes left
    action = np.zeros(splits + 1, np.int64)
    rows_of = {0: np.arange(len(x))}
    for node in range(2 * splits + 1):
        rows = rows_of.pop(node)
        if node >= splits:
            action[node - splits] = cost[rows].sum(axis=0).argmin()
            continue
        found = _candidates(x[rows], cost[rows], oblique)
        if found:
            chosen = choose(found)
            split[node] = fit_split(x[rows], chosen.extra, chosen.split, _SWEEPS, oblique)
        right = goes_right(x[rows], split[node])
        rows_of[2 * node + 1], rows_of[2 * node + 2] = rows[~right], rows[right]
    return Tree(split, action)


@dataclass(frozen=True, eq=False)
class Candidate:
    """Attributes:
    split: ``(w, −t)``.
    extra: what it was fitted to, see `fit_split`.
    cost: sum over the states with the best single action on either side.
    impurity: of the teacher's actions on either side, weighted by stake (Gini), summed.
    """

    split: Array
    extra: Array
    cost: float
    impurity: float


Choose = Callable[[list[Candidate]], Candidate]


def cheapest(found: list[Candidate]) -> Candidate:
    """The split that costs least if the tree ends there."""
    return min(found, key=lambda candidate: candidate.cost)


def purest(found: list[Candidate]) -> Candidate:
    """The split that tells the actions apart best."""
    return min(found, key=lambda candidate: candidate.impurity)


def _candidates(x: Array, cost: Array, oblique: bool) -> list[Candidate]:
    """Splits between two actions, and between one and all others; none where a single action is best everywhere."""
    best, stake = cost.argmin(axis=1), cost.max(axis=1)
    mass = np.bincount(best, weights=stake, minlength=cost.shape[1])
    present = np.flatnonzero(mass)
    extras = [cost[:, right] - cost[:, left] for left, right in combinations(present, 2)]
    if len(present) > 2:
        extras += [np.where(best == one, -stake / mass[one], stake / (mass.sum() - mass[one])) for one in present]
    if not oblique:  # a weighted sum can point either way, a feature cannot
        extras += [-extra for extra in extras]
    found = []
    for extra in extras:
        split = fit_split(x, extra, None, 0, oblique)
        right = goes_right(x, split)
        sides = [cost[side].sum(axis=0).min() for side in (right, ~right)]
        masses = [np.bincount(best[side], weights=stake[side], minlength=len(mass)) for side in (right, ~right)]
        found.append(Candidate(split, extra, float(sum(sides)), sum(map(_impurity, masses))))
    return found


def _impurity(mass: Array) -> float:
    return float(mass.sum() - (mass**2).sum() / max(float(mass.sum()), 1e-30))


def refine(tree: Tree, x: Array, cost: Array, oblique: bool) -> Tree:
    """The tree with every split, from the leaves up, moved to where the tree as a whole costs least, then every leaf;
    again until that gains little (tree alternating optimisation, Carreira-Perpiñán & Tavallali 2018, on the regret)."""
    split, action = tree.split.copy(), tree.action.copy()
    now, before = Tree(split, action), tree.cost(x, cost)
    for _ in range(_PASSES):
        for node in reversed(range(len(split))):
            rows = _reaching(split, x, node)
            if len(rows) > 1:
                _improve(now, x[rows], cost[rows], node, oblique)
        leaf = now.leaves(x)
        totals = np.stack([np.bincount(leaf, weights=column, minlength=len(action)) for column in cost.T], axis=1)
        reached = np.bincount(leaf, minlength=len(action)) > 0
        action[reached] = totals[reached].argmin(axis=1)
        spent = now.cost(x, cost)
        if spent >= before * (1 - _GAIN):
            break
        before = spent
    return now


def _improve(tree: Tree, x: Array, cost: Array, node: int, oblique: bool) -> None:
    """Moves the split of ``node``, which the rows reach, given the subtrees below it."""
    rows = np.arange(len(x))
    left, right = (cost[rows, tree.action[tree.leaves(x, child)]] for child in (2 * node + 1, 2 * node + 2))
    extra = right - left
    matters = extra != 0
    if matters.any():
        tree.split[node] = fit_split(x[matters], extra[matters], tree.split[node], _SWEEPS, oblique)


def _reaching(split: Array, x: Array, node: int) -> Array:
    """Rows of ``x`` that reach ``node``."""
    way: list[tuple[int, bool]] = []
    while node:
        way.append(((node - 1) // 2, node % 2 == 0))
        node = (node - 1) // 2
    rows = np.arange(len(x))
    for parent, right in reversed(way):
        rows = rows[goes_right(x[rows], split[parent]) == right]
    return rows
