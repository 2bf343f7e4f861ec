"""The head ``q``: the expected return itself [1312.5602; Nature 2015], optionally dueling [1511.06581 eq. 9]."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

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


def _loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """MSE or Huber of ``Q(s, a) − (r + discount·V(s'))``; the surprise is ``|TD error|``."""
    import torch

    from nimbleq.rl.nets.heads.td_target import expected_target

    with torch.no_grad():
        td_target = expected_target(online, target, sample, config)  # [B]
    return _regressed(online, sample, td_target, config)


def _return_loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """The same towards rewards that are whole returns: s' is not looked at."""
    return _regressed(online, sample, sample.reward, config)


def _regressed(online: HeadedNetwork, sample: Sample, td_target: Tensor, config: LearnerConfig) -> Errors:
    from nimbleq.rl.nets import losses

    td_error = losses.chosen(online(sample.obs), sample.action) - td_target
    each = losses.huber(td_error) if config.loss == "huber" else losses.squared(td_error)
    return Errors(each, td_error.detach().abs())


def _q(network: HeadedNetwork, features: Tensor) -> Tensor:
    advantage = cast("Tensor", network.advantage(features))
    if network.value is None:
        return advantage
    return cast("Tensor", network.value(features)) + advantage - advantage.mean(dim=1, keepdim=True)


def _graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    if not config.dueling:
        build.linear(features, Q, *build.layer("advantage"))
        return
    value = build.linear(features, "value", *build.layer("value"))
    advantage = build.linear(features, "advantage", *build.layer("advantage"))
    build.add(ops.Dueling(), Q, value, advantage)


HEAD = Head("q", _loss, _q, _graph, return_loss=_return_loss)
