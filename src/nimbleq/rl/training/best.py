"""The best network that training has checked so far, also of a run that is not over."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from nimbleq.config import TrainConfig
from nimbleq.errors import FileError, GraphError
from nimbleq.rl.policy_value.graphs import Graphs, graphs_of
from nimbleq.rl.policy_value.networks import acting_network, acting_weights
from nimbleq.rl.spec import EnvSpec
from nimbleq.rl.training.sealed import read_sealed, write_sealed
from nimbleq.types import Array

if TYPE_CHECKING:
    from nimbleq.rl.nets.network import QNetwork

_WHAT = "the best network"


def save_best(path: Path, weights: Mapping[str, Array]) -> None:
    """Replace a ``best.safetensors`` by ``weights``, named as in `QNetwork.state_dict`.

    Raises:
        FileError: the disk is full or not writable; the old file is untouched.
    """
    write_sealed(path, weights, {}, _WHAT)


def check_best(path: Path) -> None:
    """Raise `FileError` when one bit of a ``best.safetensors`` has changed."""
    read_sealed(path, _WHAT)


def best_graphs(config: TrainConfig, spec: EnvSpec, path: Path) -> Graphs:
    """The same as layer graphs, the value network beside it.

    Raises:
        FileError: see `load_best`.
    """
    weights, _ = read_sealed(path, _WHAT)
    try:
        return graphs_of(config, spec, weights)
    except GraphError as error:
        raise FileError(f"cannot read {_WHAT} {path}: {error}") from error


def load_best(config: TrainConfig, spec: EnvSpec, path: Path) -> QNetwork:
    """The network that acts, of a ``best.safetensors``.

    Args:
        config: of its run.
        spec: of its environment.
        path: the file.

    Raises:
        FileError: it is missing, damaged, or from another network.
    """
    from nimbleq.rl.learners.torch_state import network_with

    weights, _ = read_sealed(path, _WHAT)
    try:
        return network_with(acting_weights(config, weights), spec, acting_network(config))
    except RuntimeError as error:
        raise FileError(f"cannot read {_WHAT} {path}: {' '.join(str(error).split())[:200]}") from error
