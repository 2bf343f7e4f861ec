"""Optimal brain surgeon for whole units: what is lost when the units that are left repair it as well as they can.

Units go one by one, the cheapest first, and after each the inverse Hessian and the weights of the layers that read them
are updated [Hassibi & Stork 1993; for groups of columns, OBC 2208.11580].
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.importances.base import Evidence, ImportanceRow, Rated
from nimbleq.compress.passes.second_order import Hessian, hessians, without_columns
from nimbleq.compress.passes.units import Units
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.edit import unshare
from nimbleq.types import Array

_STATES = 4096


@dataclass
class _Reader:
    """A layer that reads units: its weight ``[out, d]``, the group of each column, and the inverse Hessian."""

    weight: Array
    groups: Array
    inverse: Array

    def errors(self, units: Array) -> Array:
        """``float64[units]`` squared error when each goes and the others repair it."""
        errors = np.zeros(len(units))
        for at, unit in enumerate(units):
            columns = np.flatnonzero(self.groups == unit)
            if len(columns) == 1:
                errors[at] = (self.weight[:, columns[0]] ** 2).sum() / self.inverse[columns[0], columns[0]]
            elif len(columns):
                block = self.weight[:, columns]
                errors[at] = float((block * np.linalg.solve(self.inverse[np.ix_(columns, columns)], block.T).T).sum())
        return errors

    def remove(self, unit: int) -> None:
        """The unit goes; the others repair it."""
        columns = np.flatnonzero(self.groups == unit)
        if len(columns):
            step = np.linalg.solve(self.inverse[np.ix_(columns, columns)], self.inverse[columns])
            self.weight -= self.weight[:, columns] @ step
            self.inverse -= self.inverse[:, columns] @ step
            self.groups = np.where(self.groups == unit, -2, self.groups)


def rate(evidence: Evidence) -> Rated:
    """The turn in which each unit of a layer would go."""
    graph, scores = unshare(evidence.graph), np.zeros(evidence.units.count)
    known = hessians(graph, evidence.seen.obs[:_STATES])
    for layer in evidence.units.layers:
        readers = [
            _Reader(weight.copy(), columns, np.linalg.inv(known[output].matrix))
            for output, weight, columns in _readers(graph, evidence.units, known)
            if np.isin(layer, columns).any()
        ]
        left = layer
        for turn in range(len(layer)):
            errors = sum((reader.errors(left) for reader in readers), np.zeros(len(left)))
            first = int(errors.argmin())
            scores[left[first]] = turn + 1
            for reader in readers:
                reader.remove(int(left[first]))
            left = np.delete(left, first)
    return Rated(evidence.graph, scores)


def _readers(graph: Graph, units: Units, known: dict[str, Hessian]) -> list[tuple[str, Array, Array]]:
    """Output of each layer with a Hessian, its weight ``float64[out, d]``, and the group of each column."""
    found = []
    for node in graph.nodes:
        if node.output in known:
            assert isinstance(node.op, ops.Linear | ops.Conv2d)
            weight = graph.weights[node.op.weight].astype(np.float64)
            columns = np.repeat(units.of[node.inputs[0]], weight[0, 0].size)
            found.append((node.output, weight.reshape(len(weight), -1), columns))
    return found


def compensated(graph: Graph, units: Units, keep: Array, obs: Array) -> Graph:
    """``graph`` whose layers no longer read what is not in ``keep``, repaired by least squares over ``obs``.

    Args:
        keep: group numbers that stay.
    """
    graph = unshare(graph)
    known, changed = hessians(graph, obs[:_STATES]), dict[str, Array]()
    for output, weight, columns in _readers(graph, units, known):
        gone = (columns >= 0) & ~np.isin(columns, keep)
        node = graph.producer(output)
        assert node is not None
        op = node.op
        assert isinstance(op, ops.Linear | ops.Conv2d)
        bias = None if op.bias is None else graph.weights[op.bias].astype(np.float64)
        new, new_bias = without_columns(weight, bias, gone, known[output])
        changed[op.weight] = new.reshape(graph.weights[op.weight].shape).astype(np.float32)
        if op.bias is not None and new_bias is not None:
            changed[op.bias] = new_bias.astype(np.float32)
    return graph.with_weights(changed)


ROW = ImportanceRow(rate, "error that the other units cannot repair (exact H), which they then do", compensate=True)
