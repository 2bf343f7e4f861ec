"""The head ``hl-gauss``: the expected return, learnt by classification [2403.03950].

Its TD target is that of ``q``. The logits of the bins are taught its Gaussian, cut into the bins, by cross-entropy in
place of a regression; the expectation over the bins acts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from nimbleq.rl.nets.heads.head import Errors, Sample
from nimbleq.rl.nets.heads.histogram import histogram_head, log_probs
from nimbleq.rl.nets.heads.mean import mean_losses

if TYPE_CHECKING:
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork


def _classified(online: HeadedNetwork, sample: Sample, td_target: Tensor, config: LearnerConfig) -> Errors:
    """Cross-entropy with the Gaussian around ``td_target``; the surprise is the difference of the means."""
    from nimbleq.rl.nets import losses

    support = online.get_buffer("support")
    wanted = losses.gaussian_histogram(td_target, support, online.config.smoothing)  # [B, N]
    chosen = losses.chosen(log_probs(online, sample.obs), sample.action)
    surprise = ((chosen.detach().exp() - wanted) @ support).abs()
    return Errors(losses.cross_entropy(chosen, wanted), surprise)


HEAD = histogram_head("hl-gauss", *mean_losses(_classified))
