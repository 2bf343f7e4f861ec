"""The row of ExecuTorch: a ``.pte`` of one observation for phones, run here by ExecuTorch's own runtime.

As in LiteRT, integer policies are computed in float32 on integers; a requantization or an observation that lies between
two levels may be rounded otherwise, so that the row is not exact: `verify` says how many answers differ.
"""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np

from nimbleq.deploy.target import Files, NoOptions, Run, Source, Target
from nimbleq.graph.graph import Graph
from nimbleq.types import Array

INSTALL = "the target executorch needs the package executorch and torch: pip install 'nimbleq[executorch,train]'"


def _emit(source: Source, name: str, options: NoOptions) -> Files:
    from nimbleq.deploy.targets.executorch.emit import emit_executorch

    return {f"{name}.pte": emit_executorch(source.graph)}


class ExecutorchPolicy:
    """A program in ExecuTorch's runtime.

    Args:
        program: what `emit_executorch` gives.
        graph: what it was made from.
    """

    def __init__(self, program: bytes, graph: Graph) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            self._torch: Any = import_module("torch")
            runtime: Any = import_module("executorch.runtime")
        self.graph = graph
        self._program = runtime.Runtime.get().load_program(program)
        self.method = self._program.load_method("forward")
        self.dtype = np.uint8 if graph.obs_type.qtype.is_integer else np.float32

    def act(self, obs: Array, mask: Array | None = None) -> int:
        """The action for ``obs[*O]``, already of the type that the program takes."""
        return int(self._answers(obs, mask)[1][0])

    def _answers(self, obs: Array, mask: Array | None) -> Any:
        given = [self._torch.from_numpy(obs[None]), *([] if mask is None else [self._torch.from_numpy(mask[None])])]
        return self.method.execute(given)

    def run(self, obs: Array, mask: Array | None) -> tuple[Array, Array]:
        """``obs[N, *O], mask[N, A]`` → ``action int32[N], q float32[N, A]``, one after the other."""
        ready = np.array(obs, self.dtype, order="C")  # torch wants to be able to write
        legal = None if mask is None else np.array(mask, np.bool_, order="C")
        actions, q = np.empty(len(obs), np.int32), np.empty((len(obs), self.graph.actions), np.float32)
        for i in range(len(obs)):
            values, action = self._answers(ready[i], None if legal is None else legal[i])
            actions[i], q[i] = int(action[0]), values[0].numpy()
        return actions, q


def _open(source: Source, files: Files, name: str, folder: Path) -> Mapping[str, Run]:
    return {"executorch (XNNPACK)": ExecutorchPolicy(files[f"{name}.pte"], source.graph).run}


def _missing() -> str | None:
    return None if all(importlib.util.find_spec(name) for name in ("executorch", "torch")) else INSTALL


EXECUTORCH = Target(
    name="executorch",
    purpose="a .pte for ExecuTorch on phones",
    emit=_emit,
    open=_open,
    exact=False,
    timed=False,
    cannot_emit=_missing,
    cannot_open=_missing,
)
