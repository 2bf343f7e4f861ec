"""What heads that learn a mean share: the TD target ``r + discount·V(s')``, or a whole return in its place."""

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

    Fit = Callable[[HeadedNetwork, Sample, Tensor, LearnerConfig], Errors]
    """``(online, sample, wanted [B], config) → Errors``."""


def mean_losses(fit: Fit) -> tuple[HeadLoss, HeadLoss]:
    """The loss of a head, and that of rewards that are whole returns, where s' is not looked at."""

    def loss(
        online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, _: torch.Generator
    ) -> Errors:
        import torch

        from nimbleq.rl.nets.heads.td_target import expected_target

        with torch.no_grad():
            td_target = expected_target(online, target, sample, config)
        return fit(online, sample, td_target, config)

    def return_loss(
        online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, _: torch.Generator
    ) -> Errors:
        return fit(online, sample, sample.reward, config)

    return loss, return_loss
