"""Gradient steps of distillation: a student's action values are fitted to its teacher's on given states.

The loss is a KL divergence between softened action distributions plus a Huber term on centred advantages.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from math import cos, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.bridge.torch_graph import from_module, to_module
from nimbleq.compress.passes.labelled import Labelled
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.states import action_gap, legal_values
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array


@contextmanager
def one_thread() -> Iterator[None]:
    """torch works with one thread: networks this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def temperature(q: Array, config: DistillConfig) -> float:
    """τ: ``config.temperature`` median action gaps, so that half of the states are a clear choice.

    Args:
        q: ``[K, A]``, −∞ for an action that is not legal.
    """
    gaps = action_gap(q)
    gaps = gaps[np.isfinite(gaps)]  # with a single legal action there is no choice
    return max(config.temperature * float(np.median(gaps)), 1e-6) if len(gaps) else 1.0


def distillation_loss(scaled: Tensor, probability: Tensor, advantage: Tensor, weight: float) -> Tensor:
    """``KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ)`` with ``A = Q − mean Q``, a scalar, up to the
    teacher's entropy (a constant).

    Policy distillation [1511.06295] with the temperature from the gaps.

    Args:
        scaled: student's values over τ, ``[B, A]``.
        probability: ``softmax(Q_T/τ) [B, A]``.
        advantage: ``A_T/τ [B, A]``.
        weight: λ.
    """
    cross_entropy = -(probability * functional.log_softmax(scaled, dim=1)).sum(dim=1).mean()
    return cross_entropy + weight * functional.smooth_l1_loss(scaled - scaled.mean(dim=1, keepdim=True), advantage)


def fit(student: Graph, halves: Sequence[Labelled], config: DistillConfig, updates: int, lr: float, seed: int) -> Graph:
    """``updates`` gradient steps, the step size falling from ``lr`` to zero; batches draw equally from ``halves``."""
    module = to_module(student)
    tau = temperature(legal_values(halves[0].q, halves[0].states.mask), config)
    rng = np.random.default_rng(seed)
    obs = _tensor(student, np.concatenate([half.obs for half in halves]))
    target = torch.from_numpy(np.concatenate([half.q for half in halves]) / np.float32(tau))
    probability = torch.softmax(target, dim=1)
    advantage = target - target.mean(dim=1, keepdim=True)
    picks = torch.from_numpy(_picks(rng, [len(half.obs) for half in halves], updates, config.batch_size))
    optimizer = make_optimizer(lambda: torch.optim.Adam(module.parameters(), lr=lr, fused=True))
    for update, pick in enumerate(picks):
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * update / updates))
        scaled = module(obs[pick]) / tau
        loss = distillation_loss(scaled, probability[pick], advantage[pick], config.advantage_weight)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return from_module(student, module)


def _picks(rng: np.random.Generator, sizes: Sequence[int], updates: int, batch_size: int) -> Array:
    """``int64[updates, batch]`` indices into the parts laid end to end, equally many from each."""
    share = batch_size // len(sizes)
    starts = np.cumsum([0, *sizes[:-1]])
    parts = [start + rng.integers(0, size, (updates, share)) for start, size in zip(starts, sizes, strict=True)]
    return np.concatenate(parts, axis=1)


def _tensor(student: Graph, obs: Array) -> Tensor:
    dtype = np.float32 if isinstance(student.obs_type.qtype, Float32) else np.uint8
    return torch.from_numpy(np.ascontiguousarray(obs, dtype))
