"""The engines that answer questions: the compiled one, and numpy where there was no compiler."""

from __future__ import annotations

import importlib
from functools import lru_cache
from typing import Any

import numpy as np

from nimbleq.compress.robust.bounds import backward, relax
from nimbleq.compress.robust.network import Layer, Network
from nimbleq.compress.robust.search import SAT, UNKNOWN, UNSAT, Answer, Engine, Limits, Question, search
from nimbleq.types import Array

_VERDICTS = (UNSAT, SAT, UNKNOWN)


def engine() -> Engine:
    """The fastest engine here."""
    try:
        importlib.import_module("nimbleq.native._robust")
    except ModuleNotFoundError:
        return search
    return native_search


def native_search(network: Network, question: Question, limits: Limits) -> Answer:
    """As `search`, compiled; other threads run meanwhile."""
    verdict, witness, boxes = _compiled(network).search(
        question.low, question.high, question.rows, question.bounds, question.case, question.cases, limits.seconds,
        limits.boxes, limits.careful,
    )  # fmt: skip
    return Answer(_VERDICTS[verdict], witness, boxes)


def lower_bounds(network: Network, low: Array, high: Array, rows: Array) -> Array:
    """Lower bounds float64 ``[B, R]`` of ``rows [R, A]`` of the outputs over the boxes ``[low, high]``, ``[B, n]``."""
    if engine() is native_search:
        found: Array = _compiled(network).lower(low, high, rows)
        return found
    scattered, constant = network.scattered(rows), np.zeros(len(rows))
    parts = [
        backward(network, relax(network, a[None], b[None]), a[None], b[None], scattered, constant).lower
        for a, b in zip(low, high, strict=True)
    ]
    return np.concatenate(parts)


@lru_cache(maxsize=8)
def _compiled(network: Network) -> Any:
    """The network in the extension's own layout."""
    module = importlib.import_module("nimbleq.native._robust")
    layers = tuple(_packed(layer) for layer in network.layers)
    return module.Network(network.inputs, network.integer, network.exact, layers, network.outputs)


def _packed(layer: Layer) -> tuple[Any, ...]:
    f = layer.function
    return (
        layer.sources, layer.matrices, layer.bias, f.scale, f.zero, f.multiplier, f.shift, f.low, f.high, f.slope,
        -1.0 if f.eps is None else f.eps, layer.slack, f.rounds, layer.integer,
    )  # fmt: skip
