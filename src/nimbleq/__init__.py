"""nimbleq: deep Q-networks trained fast, made small, proven, and answering in microseconds.

The public names load their rooms on first use, so ``import nimbleq`` is quick and never imports torch.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from nimbleq.version import VERSION

if TYPE_CHECKING:
    from nimbleq.bridge.torch_graph import to_graph
    from nimbleq.compress.certify import certify
    from nimbleq.compress.search.search import compress_policy
    from nimbleq.config import EnvConfig, TrainConfig
    from nimbleq.deploy.runtime import Runtime
    from nimbleq.deploy.targets.c.emit import emit_c
    from nimbleq.errors import NimbleqError
    from nimbleq.graph.artefact import load_artefact, save_artefact
    from nimbleq.graph.graph import Graph
    from nimbleq.graph.interpret import interpret
    from nimbleq.rl.presets import preset
    from nimbleq.rl.training.train import train

__version__ = VERSION

__all__ = [
    "EnvConfig",
    "Graph",
    "NimbleqError",
    "Runtime",
    "TrainConfig",
    "__version__",
    "certify",
    "compress_policy",
    "emit_c",
    "interpret",
    "load_artefact",
    "preset",
    "save_artefact",
    "to_graph",
    "train",
]

_HOMES = {
    "EnvConfig": "config",
    "Graph": "graph.graph",
    "NimbleqError": "errors",
    "Runtime": "deploy.runtime",
    "TrainConfig": "config",
    "certify": "compress.certify",
    "compress_policy": "compress.search.search",
    "emit_c": "deploy.targets.c.emit",
    "interpret": "graph.interpret",
    "load_artefact": "graph.artefact",
    "preset": "rl.presets",
    "save_artefact": "graph.artefact",
    "to_graph": "bridge.torch_graph",
    "train": "rl.training.train",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module 'nimbleq' has no attribute {name!r}")
    return getattr(import_module(f"nimbleq.{_HOMES[name]}"), name)
