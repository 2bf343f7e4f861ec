"""Lowering: torch.export, XNNPACK for what it can do, ExecuTorch's portable kernels for the rest."""

from __future__ import annotations

import logging
import warnings
from importlib import import_module
from typing import Any

import torch

from nimbleq.deploy.targets.executorch.module import PolicyModule
from nimbleq.graph.graph import Graph


def emit_executorch(graph: Graph) -> bytes:
    """A ``.pte`` with one method ``forward``; see `PolicyModule` for what it takes and gives.

    Raises:
        UnsupportedOpError: there is no way to write an op.
    """
    kind = graph.obs_type
    obs = torch.zeros((1, *kind.shape), dtype=torch.uint8 if kind.qtype.is_integer else torch.float32)
    inputs = (obs, torch.ones((1, graph.actions), dtype=torch.bool)) if graph.masked else (obs,)
    module = PolicyModule(graph).eval()
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # torch's own, about its own calls
        logging.getLogger("executorch").setLevel(logging.ERROR)
        exir: Any = import_module("executorch.exir")
        xnnpack: Any = import_module("executorch.backends.xnnpack.partition.xnnpack_partitioner")
        exported = torch.export.export(module, inputs)
        # Bytes are turned into floats by an op that is no Core-ATen op and is checked in vain.
        edge = exir.to_edge_transform_and_lower(exported, partitioner=[xnnpack.XnnpackPartitioner()])
        return bytes(edge.to_executorch().buffer)
