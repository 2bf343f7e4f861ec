"""The head ``hl-gauss``: the expected return, learnt by classification [2403.03950].

Its TD target is that of ``q``. The logits of the bins are taught its Gaussian, cut into the bins, by cross-entropy in
place of a regression; the expectation over the bins acts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.rl.nets.heads.head import Errors, Sample
from nimbleq.rl.nets.heads.histogram import histogram_head, log_probs

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def _loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """Cross-entropy with the Gaussian around ``r + discount·V(s')``; the surprise is the difference of the means."""
    import torch

    from nimbleq.rl.nets.heads.td_target import expected_target

    with torch.no_grad():
        td_target = expected_target(online, target, sample, config)  # [B]
    return _classified(online, sample, td_target)


def _return_loss(
    online: HeadedNetwork, target: HeadedNetwork, sample: Sample, config: LearnerConfig, generator: torch.Generator
) -> Errors:
    """The same towards rewards that are whole returns: s' is not looked at."""
    return _classified(online, sample, sample.reward)


def _classified(online: HeadedNetwork, sample: Sample, td_target: Tensor) -> Errors:
    from nimbleq.rl.nets import losses

    support = online.get_buffer("support")
    wanted = losses.gaussian_histogram(td_target, support, online.config.smoothing)  # [B, N]
    chosen = losses.chosen(log_probs(online, sample.obs), sample.action)
    surprise = ((chosen.detach().exp() - wanted) @ support).abs()
    return Errors(losses.cross_entropy(chosen, wanted), surprise)


HEAD = histogram_head("hl-gauss", _loss, _return_loss)
