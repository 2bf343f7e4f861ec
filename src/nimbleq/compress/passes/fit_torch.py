"""Distillation in PyTorch: students of any layers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from math import cos, pi

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from nimbleq.bridge.optimizers import make_optimizer
from nimbleq.bridge.torch_graph import from_module, to_module
from nimbleq.compress.passes.settings import DistillConfig
from nimbleq.compress.passes.targets import Targets, draws, share_of
from nimbleq.graph.branches import parts
from nimbleq.graph.graph import Graph
from nimbleq.graph.tensor import Float32
from nimbleq.types import Array, Tick, no_tick

_UPDATES = 50
"""Updates between ticks."""


@contextmanager
def one_thread() -> Iterator[None]:
    """torch works with one thread: networks this small are slower on more."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(threads)


def distillation_loss(
    scaled: Tensor,
    probability: Tensor,
    advantage: Tensor,
    weight: float,
    legal: Tensor | None = None,
    branches: Sequence[int] = (),
) -> Tensor:
    """``KL(softmax(Q_T/τ) ‖ softmax(Q_S/τ)) + λ·Huber((A_S − A_T)/τ)`` with ``A = Q − mean Q``, over legal actions; a
    scalar, the mean over states, up to the teacher's entropy (a constant).

    Policy distillation [1511.06295] with the temperature from the gaps.

    Args:
        scaled: student's values over τ, ``[B, A]``.
        probability: ``softmax(Q_T/τ) [B, A]``, 0 for illegal actions.
        advantage: ``A_T/τ [B, A]``.
        weight: λ.
        legal: ``bool[B, A]`` (None: all).
        branches: sizes of the action's dimensions, whose losses are added (empty: it is a single choice).
    """
    if branches:
        sides = [
            [None if each is None else each[:, part] for each in (scaled, probability, advantage, legal)]
            for part in parts(branches)
        ]
        return torch.stack([distillation_loss(q, p, a, weight, allowed) for q, p, a, allowed in sides]).sum()  # type: ignore[arg-type]
    if legal is None:
        legal = torch.ones_like(scaled, dtype=torch.bool)
    counts = legal.sum(dim=1, keepdim=True)
    mean = (scaled * legal).sum(dim=1, keepdim=True) / counts
    log_softmax = functional.log_softmax(scaled.masked_fill(~legal, -torch.inf), dim=1).masked_fill(~legal, 0.0)
    cross_entropy = -(probability * log_softmax).sum(dim=1).mean()
    huber = functional.smooth_l1_loss(scaled - mean, advantage, reduction="none")
    return cross_entropy + weight * (huber * legal / counts).sum(dim=1).mean()


def torch_fit(
    student: Graph,
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
    masks: Mapping[str, Array] | None = None,
) -> Graph:
    """See `nimbleq.compress.passes.fit.fit`."""
    module = to_module(student)
    for name, mask in (masks or {}).items():  # Adam never moves what has no gradient
        module.weight(name).register_hook(partial(torch.mul, torch.from_numpy(mask)))  # type: ignore[no-untyped-call]
    with one_thread():
        train(student, module, list(module.parameters()), targets, config, updates, lr, seed, tick)
    return from_module(student, module)


def train(
    student: Graph,
    module: torch.nn.Module,
    parameters: list[torch.nn.Parameter],
    targets: Targets,
    config: DistillConfig,
    updates: int,
    lr: float,
    seed: int,
    tick: Tick = no_tick,
    frozen: Sequence[torch.nn.Parameter] = (),
    frozen_from: int | None = None,
    price: Callable[[], Tensor] | None = None,
) -> None:
    """``updates`` gradient steps of ``module(obs) → q``.

    Args:
        frozen: of the parameters, those that stay as they are from the update ``frozen_from`` on.
        price: added to the loss.
    """
    obs = obs_tensor(student, targets.obs)
    probability, advantage = (torch.from_numpy(part) for part in (targets.probability, targets.advantage))
    legal = None if targets.legal is None else torch.from_numpy(targets.legal)
    share = share_of(targets.sizes, config)
    optimizer = make_optimizer(lambda: torch.optim.Adam(parameters, lr=lr, fused=True))
    for update in range(updates):
        if update % _UPDATES == 0:
            tick(update, updates, "")
            picks = torch.from_numpy(draws(targets.sizes, share, seed, update, min(_UPDATES, updates - update)))
        if update == frozen_from:
            for parameter in frozen:
                parameter.requires_grad_(False)
        pick = picks[update % _UPDATES]
        optimizer.param_groups[0]["lr"] = lr * 0.5 * (1 + cos(pi * update / updates))
        scaled = module(obs[pick]) / targets.temperature
        mask = None if legal is None else legal[pick]
        loss = distillation_loss(
            scaled, probability[pick], advantage[pick], config.advantage_weight, mask, targets.branches
        )
        loss = loss if price is None else loss + price()
        optimizer.zero_grad(set_to_none=True)
        loss.backward()  # type: ignore[no-untyped-call]
        if config.max_grad_norm > 0:
            torch.nn.utils.clip_grad_norm_(parameters, config.max_grad_norm)
        optimizer.step()


def obs_tensor(student: Graph, obs: Array) -> Tensor:
    """Observations of the kind that ``student`` takes."""
    dtype = np.float32 if isinstance(student.obs_type.qtype, Float32) else np.uint8
    return torch.from_numpy(np.ascontiguousarray(obs, dtype))
