"""The head ``c51``: a histogram of the return over fixed bins [1707.06887]."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.graph.graph import Q
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Errors, Head, Sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def log_probs(network: HeadedNetwork, obs: Tensor) -> Tensor:
    """Log-probabilities of the bins, ``[B, A, N]``."""
    import torch

    return torch.log_softmax(network.outputs(network.features(obs)), dim=2)


def _loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Cross-entropy with the projected distribution; the surprise is the KL divergence, as Rainbow's [1710.02298]."""
    import torch

    from nimbleq.rl.nets import losses
    from nimbleq.rl.nets.heads.td_target import next_policy, reward_of

    support = target.get_buffer("support")
    with torch.no_grad():
        probs = log_probs(target, sample.next_obs).exp()  # [B, A, N]
        policy = next_policy(online, target, sample, config, probs @ support)
        reward = reward_of(sample, config, target)
        td_target = losses.bellman_projection(reward, sample.discount, probs, support, policy)  # [B, N]
    chosen = losses.chosen(log_probs(online, sample.obs), sample.action)
    surprise = losses.kl_divergence(chosen.detach(), td_target).clamp_min(0)
    return Errors(losses.cross_entropy(chosen, td_target), surprise)


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


def _why_not(config: NetworkConfig) -> str | None:
    return None if config.atoms >= 2 else f"the setting network.atoms must be at least 2 with c51, not {config.atoms}"


HEAD = Head("c51", _loss, _q, _graph, lambda config: config.atoms, _add_layers, why_not=_why_not)
