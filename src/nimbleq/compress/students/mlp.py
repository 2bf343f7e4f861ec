"""The MLP student."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nimbleq.compress.students.base import StudentRow
from nimbleq.graph import ops
from nimbleq.graph.graph import ACTION, Graph, Node, Q
from nimbleq.graph.standardize import divisors
from nimbleq.graph.tensor import Float32, TensorType
from nimbleq.types import Array

_SMALLEST_DEVIATION = 1e-3
"""Relative to the largest feature deviation: an (almost) constant feature must not become an amplifier."""


def mlp_student(
    obs_type: TensorType, hidden: Sequence[int], actions: int, obs: Array, rng: np.random.Generator
) -> Graph:
    """``normalise → (Linear → ReLU)* → Linear``: no LayerNorm, so that it becomes pure integers. No hidden layer: a
    linear policy.

    Observations are normalised by their mean and deviation over ``obs``; `fold` merges that into the first layer.

    Args:
        obs_type: of the input; an image is flattened.
        hidden: widths.
        actions: ``A``.
        obs: ``[K, *O]`` states to take the statistics from.
        rng: of the weights (He et al. 2015; the last layer small).
    """
    flat = obs.reshape(len(obs), -1).astype(np.float64)
    mean, deviation = flat.mean(axis=0), flat.std(axis=0)
    smallest = max(_SMALLEST_DEVIATION * float(deviation.max()), 1e-6)
    if isinstance(obs_type.qtype, Float32):
        scale = 1 / divisors(mean, deviation, smallest)
    else:  # an image: one scale, so that it stays the integers that it is
        scale = np.full_like(mean, 1 / max(float(np.sqrt(np.mean(deviation**2))), smallest))
    weights: dict[str, Array] = {
        "scale": scale.reshape(obs_type.shape).astype(np.float32),
        "shift": (-mean * scale).reshape(obs_type.shape).astype(np.float32),
    }
    nodes = [Node(ops.Affine("scale", "shift"), ("obs",), "normal")]
    tensor = "normal"
    if len(obs_type.shape) != 1:
        nodes.append(Node(ops.Flatten(), (tensor,), "flat"))
        tensor = "flat"
    fan_in = flat.shape[1]
    for layer, width in enumerate((*hidden, actions)):
        last = layer == len(hidden)
        gain = np.sqrt((0.1 if last else 2.0) / fan_in)
        weights[f"w{layer}"] = (rng.standard_normal((width, fan_in)) * gain).astype(np.float32)
        weights[f"b{layer}"] = np.zeros(width, np.float32)
        made = Q if last else f"sum{layer}"
        nodes.append(Node(ops.Linear(f"w{layer}", f"b{layer}"), (tensor,), made))
        if not last:
            nodes.append(Node(ops.Activation("relu"), (made,), f"relu{layer}"))
            tensor = f"relu{layer}"
        fan_in = width
    nodes.append(Node(ops.ArgMax(), (Q,), ACTION))
    return Graph({"obs": obs_type}, tuple(nodes), (Q, ACTION), weights)


ROW = StudentRow(mlp_student, "fully connected layers with ReLU between them", (16, 16))
