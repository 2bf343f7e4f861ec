"""The head ``iqn``: quantiles of the return at random fractions, embedded by cosines [1806.06923]."""

from __future__ import annotations

import math

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nimbleq.config import NetworkConfig
from nimbleq.graph.graph import Q
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Head, Sample
from nimbleq.rl.nets.heads.headed import HeadedNetwork
from nimbleq.rl.nets.heads.quantiles import midpoints, quantile_loss


def cosine_features(fractions: Tensor, count: int) -> Tensor:
    """``cos(π·i·τ)`` for i = 0 … count − 1 [eq. 4]: ``[...] → [..., count]``."""
    return torch.cos(math.pi * torch.arange(count, device=fractions.device) * fractions[..., None])


def quantiles(network: HeadedNetwork, obs: Tensor, fractions: Tensor) -> Tensor:
    """Quantiles of the return at ``fractions: [B, N]``: ``[B, A, N]``; the embedding joins after the last layer."""
    features = network.features(obs)
    weight, bias = network.joined()
    embed = network.get_submodule("embed")
    embedded = F.relu(embed(cosine_features(fractions, network.config.cosines)))  # [B, N, H]
    return F.linear(features[:, None] * embedded, weight[:, 0], bias[:, 0]).transpose(1, 2)


def _fractions(network: HeadedNetwork, sample: Sample, generator: torch.Generator) -> Tensor:
    return torch.rand((len(sample.action), network.config.atoms), generator=generator, device=sample.reward.device)


def _q(network: HeadedNetwork, features: Tensor) -> Tensor:
    """The mean over evenly spread fractions, which a linear head has in its weights."""
    weight, bias = network.joined()
    cosines = network.get_buffer("policy_cosines")
    embedded = F.relu(network.get_submodule("embed")(cosines)).mean(0)  # [H]
    return F.linear(features, weight[:, 0] * embedded, bias[:, 0])


def _graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    weight, bias = build.joined(actions, 1, config.dueling)
    fractions = (np.arange(config.policy_fractions) + 0.5) / config.policy_fractions
    cosines = np.cos(np.pi * np.arange(config.cosines) * fractions[:, None])
    embed_weight, embed_bias = build.layer("embed")
    embedded = np.maximum(cosines @ embed_weight.T.astype(np.float64) + embed_bias, 0).mean(axis=0)  # [H]
    build.linear(features, Q, weight[:, 0] * embedded, bias[:, 0])


def _add_layers(network: HeadedNetwork, width: int) -> None:
    config = network.config
    network.add_module("embed", nn.Linear(config.cosines, width))
    cosines = cosine_features(midpoints(config.policy_fractions), config.cosines)
    network.register_buffer("policy_cosines", cosines, persistent=False)


HEAD = Head("iqn", quantile_loss(_fractions, quantiles), _q, _graph, add_layers=_add_layers, draws=True)
