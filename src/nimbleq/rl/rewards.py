"""Rewards as the learner gets them."""

from __future__ import annotations

from nimbleq.types import Step


def clipped(step: Step, limit: float) -> Step:
    """``step`` with rewards within ± ``limit`` (0: as they are)."""
    return step._replace(reward=step.reward.clip(-limit, limit)) if limit > 0 else step
