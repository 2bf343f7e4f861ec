"""The quantile Huber loss, which `nimbleq.rl.nets.heads.qr` and `nimbleq.rl.nets.heads.iqn` share."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from nimbleq.rl.nets.heads.head import Errors, Sample

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.head import HeadLoss
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def midpoints(count: int, device: torch.device | None = None) -> Tensor:
    """The fractions ``(i + ½)/N`` whose quantiles approximate a distribution best [1710.10044 lemma 2]: ``[N]``."""
    import torch

    return (torch.arange(count, device=device) + 0.5) / count


def quantile_loss(
    fractions_of: Callable[[HeadedNetwork, Sample, torch.Generator], Tensor],
    quantiles: Callable[[HeadedNetwork, Tensor, Tensor], Tensor],
) -> HeadLoss:
    """Quantile Huber loss [1710.10044 eq. 10]; the surprise is the difference of the means.

    Args:
        fractions_of: ``(network, sample, generator) → τ [B, N]``.
        quantiles: ``(network, obs[B, *O], τ) → [B, A, N]``.
    """

    def loss(
        online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
    ) -> Errors:
        import torch

        from nimbleq.rl.nets import losses
        from nimbleq.rl.nets.heads.td_target import next_policy, reward_of

        with torch.no_grad():
            next_z = quantiles(target, sample.next_obs, fractions_of(target, sample, generator))  # [B, A, N]
            policy = next_policy(online, target, sample, config, target(sample.next_obs))
            reward = reward_of(sample, config, target)
            td_target = losses.bellman_values(reward, sample.discount, next_z, policy)  # [B, N]
        fractions = fractions_of(online, sample, generator)
        chosen = losses.chosen(quantiles(online, sample.obs, fractions), sample.action)
        surprise = (td_target.mean(dim=1) - chosen.detach().mean(dim=1)).abs()
        return Errors(losses.quantile_huber(chosen, fractions, td_target), surprise)

    return loss
