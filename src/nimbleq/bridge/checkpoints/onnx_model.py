"""An ONNX model as a policy of an environment."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from nimbleq.bridge.checkpoints.imported import Imported
from nimbleq.bridge.onnx import read_onnx
from nimbleq.errors import FileError
from nimbleq.graph import ops
from nimbleq.graph.graph import Graph, Node
from nimbleq.graph.tensor import UINT8, TensorType
from nimbleq.types import ObsSpec

_BYTES = (
    "the model reads floats and the environment gives bytes: they are given as they are, 0 to 255; give --divide 255 "
    "if the training scaled them"
)


def import_onnx(path: Path, given: ObsSpec, divide: float | None = None) -> Imported:
    """Read a model of one input and one output, which is a value or a logit for each action.

    Args:
        path: the file.
        given: what the environment gives the network.
        divide: what bytes of pixels are divided by first; None: they are not.

    Raises:
        FileError: it is not a readable model, or has no single input and output.
        UnsupportedOpError: the graph has no such op; names op and node.
    """
    try:
        graph = read_onnx(path, moves=True)
    except ModuleNotFoundError:
        raise FileError(f"reading {path} needs the package onnx: pip install 'nimbleq[onnx]'") from None
    is_bytes, notes = graph.obs_type.qtype == UINT8, []
    if given.dtype == "uint8" and graph.obs_type.shape == given.shape and not is_bytes:
        graph = _of_bytes(graph, 1.0 if divide is None else divide)
        is_bytes, notes = True, [_BYTES] if divide is None else []
    elif divide is not None:
        raise FileError(f"{path} reads {graph.obs_type}: --divide is for models that read bytes as floats")
    obs = ObsSpec(graph.obs_type.shape, "uint8" if is_bytes else "float32")
    return Imported(graph, obs, graph.actions, {"divided_by": divide, "notes": notes, "warnings": []})


def _of_bytes(graph: Graph, divide: float) -> Graph:
    """A graph of floats that takes bytes, divided first."""
    obs = graph.obs_name
    weights = {
        **graph.weights, "pixels.scale": np.array(1 / divide, np.float32), "pixels.shift": np.zeros((), np.float32)
    }  # fmt: skip
    nodes = [
        replace(node, inputs=tuple("pixels" if name == obs else name for name in node.inputs)) for node in graph.nodes
    ]
    first = Node(ops.Affine("pixels.scale", "pixels.shift"), (obs,), "pixels")
    return Graph({obs: TensorType(graph.obs_type.shape, UINT8)}, (first, *nodes), graph.outputs, weights)
