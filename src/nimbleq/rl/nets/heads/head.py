"""The row type of the table of heads: everything in which one head differs from another."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn

from nimbleq.config import LearnerConfig, NetworkConfig
from nimbleq.rl.nets.builder import GraphBuilder
from nimbleq.rl.nets.noisy import NoisyLinear


class HeadedNetwork(nn.Module):
    """What a head sees of a `nimbleq.rl.nets.network.QNetwork`: features, and the layers ``advantage`` and ``value``.

    Attributes:
        config: architecture.
        actions: A.
        atoms: N, outputs per action.
        advantage: ``[B, H] → [B, A·N]``.
        value: ``[B, H] → [B, N]`` when dueling, else None.
    """

    config: NetworkConfig
    actions: int
    atoms: int
    advantage: nn.Linear | NoisyLinear
    value: nn.Linear | NoisyLinear | None

    @abstractmethod
    def features(self, obs: Tensor) -> Tensor:
        """What heads read: ``obs[B, *O] → [B, H]``."""

    def outputs(self, features: Tensor) -> Tensor:
        """``[B, H] → [B, A, N]``."""
        weight, bias = self.joined()
        flat = nn.functional.linear(features, weight.flatten(0, 1), bias.flatten())
        return flat.view(-1, self.actions, self.atoms)

    def joined(self) -> tuple[Tensor, Tensor]:
        """The head as one linear layer, ``[A, N, H]`` and ``[A, N]``: a dueling head is linear in its features."""
        weight, bias = _present(self.advantage)
        weight, bias = weight.view(self.actions, self.atoms, -1), bias.view(self.actions, self.atoms)
        if self.value is None:
            return weight, bias
        value_weight, value_bias = _present(self.value)
        return weight - weight.mean(0, keepdim=True) + value_weight, bias - bias.mean(0, keepdim=True) + value_bias


def _present(layer: nn.Linear | NoisyLinear) -> tuple[Tensor, Tensor]:
    return layer.present() if isinstance(layer, NoisyLinear) else (layer.weight, layer.bias)


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


HeadLoss = Callable[[HeadedNetwork, HeadedNetwork, Sample, LearnerConfig, torch.Generator], Errors]
"""``(online, target, sample, config, generator) → Errors``."""


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
    draws: bool = False
    why_not: Callable[[NetworkConfig], str | None] = lambda config: None
