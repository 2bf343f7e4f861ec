"""Fine-tuning: the layers of a source's network, all but its head, become those of a fresh learner."""

from __future__ import annotations

import numpy as np

from nimbleq.errors import ConfigError
from nimbleq.graph.graph import Graph
from nimbleq.rl.learners.learner import Learner
from nimbleq.types import Array

_HEAD = ("advantage.", "value.")
_PREPARED = ("prepare.", "torso.numbers.")
"""Statistics of observations: of the target's own."""


def take_layers(learner: Learner, source: Graph, columns: Array | None) -> int:
    """Put the weights of the source's torso and body into ``learner``, its target network too; how many layers.

    Args:
        columns: of the observation that the source reads, see `observed_columns`; the first layer has zeros elsewhere.

    Raises:
        ConfigError: a layer is missing or has another shape.
    """
    arrays, mine = learner.arrays(), learner.weights()
    names = [name for name in mine if not name.startswith((*_HEAD, *_PREPARED)) and name.endswith((".weight", ".bias"))]
    first = next((name for name in names if name.endswith(".weight")), None)
    for name in names:
        given = source.weights.get(name)
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
