"""Fine-tuning: the layers of a source's network become a fresh learner's; its head, too, for the same actions."""

from __future__ import annotations

import re

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.learner import Learner
from nimbleq.types import Array

_HEAD = ("advantage.", "value.")
_PREPARED = ("prepare.", "torso.numbers.")
"""Statistics of observations."""


def take_layers(learner: Learner, source: Graph, columns: Array | None, head: bool) -> int:
    """Put the weights of the source's torso and body into ``learner``, its target network too; how many layers.

    Args:
        columns: of the observation that the source reads, see `observed_columns`; the first layer has zeros elsewhere.
        head: the actions are the source's, in its order, so its head is taken, too, if it is of the same kind.

    Raises:
        ConfigError: a layer is missing or has another shape.
    """
    arrays, mine = learner.arrays(), learner.weights()
    # A head without a value of the state is named after what it computes.
    weights = {re.sub(r"^q\.", "advantage.", name): value for name, value in source.weights.items()}
    last = [name for name in mine if name.startswith(_HEAD)]
    same = all(name in weights and weights[name].shape == mine[name].shape for name in last)
    names = [name for name in mine if not name.startswith((*_HEAD, *_PREPARED)) and name.endswith((".weight", ".bias"))]
    first = next((name for name in names if name.endswith(".weight")), None)
    for name in names + (last if head and same else []):
        given = weights.get(name)
        if given is None or given.dtype != np.float32:
            raise ConfigError(
                f"the source has no layer {name.rpartition('.')[0]} with float weights: name its run, or the "
                "teacher in it, and the same settings of the network; or use --transfer qdagger, which takes any policy"
            )
        if name == first and columns is not None:
            placed = np.zeros_like(mine[name])
            placed[:, columns] = given
            given = placed
        if given.shape != mine[name].shape:
            raise ConfigError(
                f"the layer {name.rpartition('.')[0]} of the source has the shape {given.shape}, not "
                f"{mine[name].shape}: give the network its settings, or use --transfer qdagger, which takes any policy"
            )
        for group in ("online", "target"):
            if f"{group}.{name}" in arrays:
                arrays[f"{group}.{name}"] = given.astype(np.float32)
    learner.load_arrays(arrays)
    return sum(name.endswith(".weight") for name in names)


def taken_stats(source: Graph, columns: Array | None, size: int) -> tuple[Array, Array] | None:
    """Mean and deviation by which the source normalises an observation of ``size`` numbers, ``float32[O]`` each.

    Its layers expect them. 0 and 1 for what it does not read; None where it does not normalise.
    """
    shift, scale = (source.weights.get(f"prepare.{part}") for part in ("centred.shift", "normal.scale"))
    if shift is None or scale is None:
        return None
    mean, std = np.zeros(size, np.float32), np.ones(size, np.float32)
    read = slice(None) if columns is None else columns
    mean[read], std[read] = -shift, 1 / scale
    return mean, std
