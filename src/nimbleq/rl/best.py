"""The best network that training has checked so far, also of a run that is not over."""

from __future__ import annotations

from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load

from nimbleq.config import TrainConfig
from nimbleq.errors import FileError
from nimbleq.files import read_bytes
from nimbleq.rl.networks import QNetwork, initial_network
from nimbleq.types import EnvSpec


def load_best(config: TrainConfig, spec: EnvSpec, path: Path) -> QNetwork:
    """The network in a ``best.safetensors``.

    Args:
        config: of its run.
        spec: of its environment.
        path: the file.

    Raises:
        FileError: it is missing, damaged, or from another network.
    """
    module = initial_network(spec, config.network)
    try:
        module.load_state_dict(load(read_bytes(path)))
    except (SafetensorError, RuntimeError) as error:
        raise FileError(f"cannot read the network {path}: {' '.join(str(error).split())[:200]}") from error
    return module.eval()
