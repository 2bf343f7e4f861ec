"""What heads that learn a histogram share: logits of bins from ``v_min`` to ``v_max``, whose expectation acts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.graph.graph import Q
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Head

if TYPE_CHECKING:
    from torch import Tensor

    from nimbleq.rl.nets.heads.head import HeadLoss
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def histogram_head(name: str, loss: HeadLoss, return_loss: HeadLoss | None = None) -> Head:
    """A row whose network gives ``network.atoms`` logits per action; the buffer ``support: float32[N]`` is the bins."""

    def why_not(config: NetworkConfig) -> str | None:
        few = f"the setting network.atoms must be at least 2 with {name}, not {config.atoms}"
        return None if config.atoms >= 2 else few

    return Head(name, loss, _q, _graph, lambda config: config.atoms, _add_layers, return_loss, why_not=why_not)


def log_probs(network: HeadedNetwork, obs: Tensor) -> Tensor:
    """Log-probabilities of the bins, ``[B, A, N]``."""
    import torch

    return torch.log_softmax(network.outputs(network.features(obs)), dim=2)


def _q(network: HeadedNetwork, features: Tensor) -> Tensor:
    import torch

    return torch.softmax(network.outputs(features), dim=2) @ network.get_buffer("support")


def _graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    weight, bias = build.joined(actions, config.atoms, config.dueling)
    logits = build.linear(features, "logits", weight.reshape(-1, weight.shape[2]), bias.reshape(-1))
    support = build.store("support", np.linspace(config.v_min, config.v_max, config.atoms))
    build.add(ops.Expectation(support), Q, logits)


def _add_layers(network: HeadedNetwork, width: int) -> None:
    import torch

    config = network.config
    network.register_buffer("support", torch.linspace(config.v_min, config.v_max, config.atoms), persistent=False)
