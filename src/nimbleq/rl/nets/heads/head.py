"""The row type of the table of heads: everything in which one head differs from another.

Rows are read where there is no PyTorch, too: what needs it imports it when it is called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple

from nimbleq.config import NetworkConfig
from nimbleq.rl.nets.builder import GraphBuilder

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from nimbleq.config import LearnerConfig
    from nimbleq.rl.nets.heads.headed import HeadedNetwork

    HeadLoss = Callable[[HeadedNetwork, HeadedNetwork, "Sample", LearnerConfig, torch.Generator], "Errors"]
    """``(online, target, sample, config, generator) → Errors``."""


class Sample(NamedTuple):
    """A `nimbleq.types.Batch` as tensors, rewards scaled; see there."""

    obs: Tensor
    action: Tensor
    reward: Tensor
    discount: Tensor
    next_obs: Tensor
    next_mask: Tensor | None = None
    mask: Tensor | None = None


class Errors(NamedTuple):
    """Attributes:
    loss: ``[B]``, with gradient.
    surprise: ``[B]`` ≥ 0, what priorities are made of, no gradient.
    """

    loss: Tensor
    surprise: Tensor


def one_output(config: NetworkConfig) -> int:
    """One output per action."""
    return 1


def no_layers(network: HeadedNetwork, width: int) -> None:
    """Nothing beside ``advantage`` and ``value``."""


@dataclass(frozen=True)
class Head:
    """What a network learns of the return. A new head is one file that makes this value and one line in `HEADS`.

    Attributes:
        name: in ``--network.head``.
        loss: of a batch of transitions.
        q: the expected return, which is what acts and is exported: ``(network, features[B, H]) → [B, A]``.
        graph: the same as nodes: ``(builder, name of the features, actions, config)``, the last one named ``Q``.
        outputs: per action, N.
        add_layers: gives the network what it needs beside ``advantage`` and ``value``; H is given.
        return_loss: of a batch whose rewards are whole returns, as PQN's [2407.04811] (None: it cannot learn those).
        branches: for actions of several dimensions, and only for those.
        draws: the loss draws random numbers.
        why_not: why it cannot work with these settings, in one line; None when it can.
    """

    name: str
    loss: HeadLoss
    q: Callable[[HeadedNetwork, Tensor], Tensor]
    graph: Callable[[GraphBuilder, str, int, NetworkConfig], None]
    outputs: Callable[[NetworkConfig], int] = one_output
    add_layers: Callable[[HeadedNetwork, int], None] = no_layers
    return_loss: HeadLoss | None = None
    branches: bool = False
    draws: bool = False
    why_not: Callable[[NetworkConfig], str | None] = lambda config: None
