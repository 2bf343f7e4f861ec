"""The head ``branching``: actions of several dimensions, each with advantages of its own and one value for all of them
[1711.08946], optionally without that value.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, cast

import numpy as np

from nimbleq.config import NetworkConfig
from nimbleq.graph.branches import parts
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
    """The mean over dimensions of the loss of ``Q_d(s, a_d) − y``, where all have the same target [eq. 5, 6]:
    ``y = r + discount·mean_d Q⁻_d(s', argmax Q_d(s'))``. The surprise is the mean of their ``|TD error|``.
    """
    import torch

    from nimbleq.rl.nets import losses

    with torch.no_grad():
        next_q = target(sample.next_obs)  # [B, A]
        selector_q = online(sample.next_obs) if config.double and online is not target else next_q
        selector_q = losses.legal(selector_q, sample.next_mask)
        following = [
            losses.chosen(next_q[:, part], selector_q[:, part].argmax(dim=1)) for part in parts(online.branches)
        ]
        td_target = sample.reward + sample.discount * torch.stack(following).mean(dim=0)  # [B]
    return _regressed(online, sample, td_target, config)


def _return_loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """The same towards rewards that are whole returns: s' is not looked at."""
    return _regressed(online, sample, sample.reward, config)


def _regressed(online: HeadedNetwork, sample: Sample, td_target: Tensor, config: LearnerConfig) -> Errors:
    from nimbleq.rl.nets import losses

    td_error = _chosen(online(sample.obs), sample.action, online.branches) - td_target[:, None]  # [B, D]
    each = losses.huber(td_error) if config.loss == "huber" else losses.squared(td_error)
    return Errors(each.mean(dim=1), td_error.detach().abs().mean(dim=1))


def _chosen(q: Tensor, action: Tensor, branches: tuple[int, ...]) -> Tensor:
    """The values of the choices that ``action: int64[B]`` stands for (`nimbleq.graph.branches`): ``[B, D]``."""
    import torch

    columns, left = [], action
    for count, part in zip(reversed(branches), reversed(parts(branches)), strict=True):
        columns.append(part.start + left % count)
        left = left // count
    return q.gather(1, torch.stack(columns[::-1], dim=1))


def _q(network: HeadedNetwork, features: Tensor) -> Tensor:
    """``V(s) + A_d(s, a) − mean_a A_d(s, a)`` of each dimension [eq. 1]."""
    import torch

    advantage = cast("Tensor", network.advantage(features))
    if network.value is None:
        return advantage
    sides = [advantage[:, part] for part in parts(network.branches)]
    return cast("Tensor", network.value(features)) + torch.cat([a - a.mean(dim=1, keepdim=True) for a in sides], dim=1)


def _graph(build: GraphBuilder, features: str, actions: int, config: NetworkConfig) -> None:
    weight, bias = build.layer("advantage")
    if config.dueling:  # linear, too
        weight, bias = weight.astype(np.float64), bias.astype(np.float64)
        value_weight, value_bias = build.layer("value")
        for part in parts(build.branches):
            weight[part] += value_weight - weight[part].mean(axis=0)
            bias[part] += value_bias - bias[part].mean()
    build.linear(features, Q, weight, bias)


HEAD = Head("branching", _loss, _q, _graph, return_loss=_return_loss, branches=True)
