"""The head ``q``: the expected return itself [1312.5602; Nature 2015], optionally dueling [1511.06581 eq. 9]."""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

from nimbleq.config import NetworkConfig
from nimbleq.graph import ops
from nimbleq.graph.graph import Q
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.heads.head import Errors, Head, Sample
from nimbleq.rl.nets.heads.mean import mean_losses

if TYPE_CHECKING:
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def _regressed(online: HeadedNetwork, sample: Sample, td_target: Tensor, config: LearnerConfig) -> Errors:
    """MSE or Huber of ``Q(s, a) − td_target``; the surprise is ``|TD error|``."""
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


_LOSS, _RETURN_LOSS = mean_losses(_regressed)
HEAD = Head("q", _LOSS, _q, _graph, return_loss=_RETURN_LOSS)
