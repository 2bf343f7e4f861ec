"""The row of LiteRT: a ``.tflite`` of one observation, written here and run by LiteRT's own interpreter (XNNPACK).

Layers are float32, those of integer policies too: their levels and sums are integers that float32 holds exactly as long
as they stay below 2^24. What rounds differently from the interpreter is a requantization or an observation that lies
between two levels, so that the row is not exact: `verify` says how many answers differ.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.target import Files, NoOptions, Run, Source, Target
from nimbleq.deploy.targets.litert.build import INSTALL, TARGET, Build
from nimbleq.deploy.targets.litert.layers import LAYERS
from nimbleq.errors import UnsupportedOpError
from nimbleq.graph.graph import ACTION, MASK, Graph, Q
from nimbleq.types import Array


def emit_litert(graph: Graph, source: str = "") -> bytes:
    """A model that takes ``obs [1, *O]`` (float32, or uint8 where the graph takes bytes) and, of masked policies,
    ``mask bool[1, A]``, and gives ``q float32[1, A]`` and ``action int32[1]`` (−1 where the mask allows none).

    Raises:
        NimbleqError: ai-edge-litert is not installed.
        UnsupportedOpError: there is no way to write an op.
    """
    build = Build(graph)
    inputs = []
    for name, kind in graph.inputs.items():
        dtype = "bool" if name == MASK else "uint8" if kind.qtype.is_integer else "float32"
        given = build.tensor((1, *kind.shape), dtype, name)
        inputs.append(given)
        x = build.cast(given, "float32") if dtype == "uint8" else given
        build.stored[name] = build.transpose(x, (0, 2, 3, 1)) if len(kind.shape) == 3 else x
    for node in graph.nodes:
        if type(node.op) not in LAYERS:
            raise UnsupportedOpError(node.op.kind, TARGET, "rewrite the network without it or use another target")
        build.stored[node.output] = LAYERS[type(node.op)](build, node, node.op)
    ends = [build.stored[name] for name in (Q, ACTION)]
    return build.finish(inputs, ends, source or "a graph in memory")


def _emit(source: Source, name: str, options: NoOptions) -> Files:
    return {f"{name}.tflite": emit_litert(source.graph, source.origin)}


class LitertPolicy:
    """A model in LiteRT's interpreter, on one thread.

    Args:
        model: what `emit_litert` gives.
        graph: what it was made from.
    """

    def __init__(self, model: bytes, graph: Graph) -> None:
        module: Any = import_module("ai_edge_litert.interpreter")
        self.graph = graph
        self.interpreter = module.Interpreter(model_content=model, num_threads=1)
        self.interpreter.allocate_tensors()
        self.inputs = [one["index"] for one in self.interpreter.get_input_details()]
        self.outputs = [one["index"] for one in self.interpreter.get_output_details()]
        self.dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32

    def act(self, obs: Array, mask: Array | None = None) -> int:
        """The action for ``obs[*O]``, already of the type that the model takes."""
        self.interpreter.set_tensor(self.inputs[0], obs[None])
        if mask is not None:
            self.interpreter.set_tensor(self.inputs[1], mask[None])
        self.interpreter.invoke()
        return int(self.interpreter.get_tensor(self.outputs[1])[0])

    def run(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        """``obs[N, *O], mask[N, A]`` → ``action int32[N], q float32[N, A]``, one after the other."""
        ready = np.ascontiguousarray(obs, self.dtype)
        legal = None if mask is None else np.ascontiguousarray(mask, np.bool_)
        actions, q = np.empty(len(obs), np.int32), np.empty((len(obs), self.graph.actions), np.float32)
        for i in range(len(obs)):
            actions[i] = self.act(ready[i], None if legal is None else legal[i])
            q[i] = self.interpreter.get_tensor(self.outputs[0])[0]
        return actions, q


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    return {"litert (XNNPACK)": LitertPolicy(files[f"{name}.tflite"], source.graph).run}


def _missing() -> str | None:
    return None if importlib.util.find_spec("ai_edge_litert") else INSTALL


LITERT = Target(
    name=TARGET,
    purpose="a .tflite for LiteRT on phones",
    emit=_emit,
    open=_open,
    exact=False,
    cannot_emit=_missing,
    cannot_open=_missing,
)
