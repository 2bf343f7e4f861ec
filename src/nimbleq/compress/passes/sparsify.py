"""Sparse weights: zeros come in steps along a cubic schedule, and distillation repairs the rest between the steps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nimbleq.compress.passes.base import PassRow
from nimbleq.compress.passes.context import Context
from nimbleq.compress.passes.fit import fit
from nimbleq.compress.passes.patterns import Masks, Pattern, cubic, parse_pattern
from nimbleq.compress.passes.second_order import hessians, removal_errors, repaired
from nimbleq.errors import ConfigError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph
from nimbleq.graph.rewrites.edit import unshare
from nimbleq.types import Array

STEPS = 5
_STATES = 4096


def layers_of(graph: Graph) -> dict[str, ops.Linear | ops.Conv2d]:
    """Weight → its layer, of the float layers whose weights can become sparse."""
    found = (node.op for node in graph.nodes if isinstance(node.op, ops.Linear | ops.Conv2d))
    return {op.weight: op for op in found if graph.weights[op.weight].dtype.kind == "f"}


def zeros_of(graph: Graph) -> Masks:
    """What is not 0 now, of every layer."""
    return {name: graph.weights[name] != 0 for name in layers_of(graph)}


def with_masks(graph: Graph, masks: Masks) -> Graph:
    """``graph`` with 0 outside of ``masks``."""
    return graph.with_weights({name: graph.weights[name] * mask for name, mask in masks.items()})


@dataclass(frozen=True)
class SaliencyRow:
    """A row of `SALIENCIES`.

    Attributes:
        scores: ``(graph, obs) → weight → importance of each entry``; 0 for what is 0 already.
        apply: the graph with zeros outside of masks, given the same states.
        purpose: in one line.
    """

    scores: Callable[[Graph, Array], dict[str, Array]]
    apply: Callable[[Graph, Masks, Array], Graph]
    purpose: str


def magnitudes(graph: Graph, obs: Array) -> dict[str, Array]:
    """``w²`` as a share of what is left of the layer above it (LAMP [2010.07611]), so that no layer is emptied."""
    return {name: _lamp(graph.weights[name].astype(np.float64) ** 2) for name in layers_of(graph)}


def _lamp(square: Array) -> Array:
    order = np.argsort(square, axis=None, kind="stable")
    above = np.cumsum(square.reshape(-1)[order][::-1])[::-1]
    scores = np.zeros(square.size)
    scores[order] = square.reshape(-1)[order] / np.maximum(above, 1e-300)
    return scores.reshape(square.shape)


def second_order(graph: Graph, obs: Array) -> dict[str, Array]:
    """Error of the layer's sums that the rest of the row cannot repair, as a share of their variance; in grouped
    convolutions by magnitude."""
    scores, known = magnitudes(graph, obs), hessians(graph, obs[:_STATES])
    for node in graph.nodes:
        if node.output in known and isinstance(node.op, ops.Linear | ops.Conv2d):
            weight, hessian = graph.weights[node.op.weight].astype(np.float64), known[node.output]
            rows = weight.reshape(len(weight), -1)
            variance = float(np.einsum("ri,ij,rj->", rows, hessian.matrix, rows, optimize=True))
            errors = removal_errors(rows, rows != 0, hessian) / max(variance, 1e-300)
            scores[node.op.weight] = errors.reshape(weight.shape)
    return scores


def repair(graph: Graph, masks: Masks, obs: Array) -> Graph:
    """``graph`` with zeros outside of ``masks`` and the rest of each row adjusted by least squares."""
    known, changed = hessians(graph, obs[:_STATES]), dict[str, Array]()
    for node in graph.nodes:
        if node.output in known and isinstance(node.op, ops.Linear | ops.Conv2d):
            op, weight = node.op, graph.weights[node.op.weight]
            bias = None if op.bias is None else graph.weights[op.bias].astype(np.float64)
            rows, mask = (array.reshape(len(weight), -1) for array in (weight, masks[op.weight]))
            new, new_bias = repaired(rows.astype(np.float64), bias, mask, known[node.output])
            changed[op.weight] = new.reshape(weight.shape).astype(np.float32)
            if op.bias is not None and new_bias is not None:
                changed[op.bias] = new_bias.astype(np.float32)
    return with_masks(graph.with_weights(changed), masks)


SALIENCIES: dict[str, SaliencyRow] = {
    "magnitude": SaliencyRow(magnitudes, lambda graph, masks, obs: with_masks(graph, masks), "the smallest go"),
    "obs": SaliencyRow(second_order, repair, "those go whose work the others can do, which they then do"),
}
"""Name on the command line → which weights become 0."""


@dataclass(frozen=True)
class Sparsify:
    """Zeros among the weights, in steps, with distillation between them that keeps the zeros.

    Attributes:
        pattern: of the zeros.
        saliency: a name in `SALIENCIES`.
        steps: of the schedule.
    """

    pattern: Pattern
    saliency: str = "magnitude"
    steps: int = STEPS

    def __call__(self, graph: Graph, context: Context) -> Graph:
        seen, row, config = context.from_teacher(), SALIENCIES[self.saliency], context.distill
        graph = unshare(graph)
        for step in range(self.steps):
            context.tick(step, self.steps, "making weights sparse")
            masks = self.pattern.masks(row.scores(graph, seen.obs), cubic((step + 1) / self.steps))
            graph = row.apply(graph, masks, seen.obs)
            lr = config.lr * (1 - 0.5 * step / self.steps)
            graph = fit(graph, [seen], config, config.updates, lr, context.seed + step, masks=masks)
        return graph

    def __str__(self) -> str:
        by = "" if self.saliency == "magnitude" else f" by {self.saliency}"
        return f"sparsify {self.pattern}{by}"


def _parse(setting: str) -> Sparsify:
    """``PATTERN`` or ``SALIENCY:PATTERN``."""
    name, _, rest = setting.partition(":")
    if name in SALIENCIES:
        return Sparsify(parse_pattern(rest), name)
    if not setting:
        raise ConfigError("sparsify takes a share of zeros, e.g. 0.8, or a pattern, e.g. 2:4, not ''")
    return Sparsify(parse_pattern(setting))


ROW = PassRow(_parse, "make weights 0: a share, 2:4, 1:4 or block4, as SALIENCY:PATTERN by magnitude or obs", "0.8")
