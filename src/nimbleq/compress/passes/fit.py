"""Gradient steps of distillation: a student's action values are fitted to its teacher's on given states."""

from __future__ import annotations

from collections.abc import Sequence

from nimbleq.compress.passes.fit_native import native_fit, why_not_native
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import make_targets
from nimbleq.graph.graph import Graph
from nimbleq.types import Tick, no_tick


def fit(
    student: Graph,
    parts: Sequence[Labelled],
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
) -> Graph:
    """``updates`` steps of Adam, the step size falling from ``lr`` to zero along a half cosine.

    The loss is ``KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ)``; a batch draws equally from ``parts``.
    Fully connected students train in C, others in PyTorch, with the same batches.

    Args:
        student: float, trainable.
        parts: states with the teacher's values; the temperature τ comes from the first.
        seed: of the batches.
        tick: progress in updates.
    """
    engine = native_fit
    if why_not_native(student) is not None:
        from nimbleq.compress.passes.fit_torch import torch_fit  # torch, which the native engine does without

        engine = torch_fit
    return engine(student, make_targets(parts, config), config, updates, lr, seed, tick)
