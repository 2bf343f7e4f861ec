"""The head ``qr``: quantiles of the return at fixed fractions [1710.10044]."""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.config import NetworkConfig
from nimbleq.graph.graph import Q
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Head, Sample
from nimbleq.rl.nets.heads.quantiles import midpoints, quantile_loss

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def quantiles(network: HeadedNetwork, obs: Tensor, fractions: Tensor) -> Tensor:
    """Quantiles of the return at `midpoints`, which ``fractions`` are: ``[B, A, N]``."""
    return network.outputs(network.features(obs))


def _fractions(network: HeadedNetwork, sample: Sample, generator: torch.Generator) -> Tensor:
    return midpoints(network.config.atoms, sample.reward.device).expand(len(sample.action), network.config.atoms)


def _q(network: HeadedNetwork, features: Tensor) -> Tensor:
    """A linear head's mean over quantiles is a linear head."""
    from torch.nn import functional as F

    weight, bias = network.joined()
    return F.linear(features, weight.mean(1), bias.mean(1))


def _graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    weight, bias = build.joined(actions, config.atoms, config.dueling)
    build.linear(features, Q, weight.mean(axis=1), bias.mean(axis=1))


HEAD = Head("qr", quantile_loss(_fractions, quantiles), _q, _graph, lambda config: config.atoms)
